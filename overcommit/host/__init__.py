"""Readers of the host kernel: memory, swap, pressure, cgroups and processes.

Only `overcommit.host.kernel` touches files and makes system calls. The exception is
`overcommit.host.triggers`, whose descriptors stay open after a call. The other modules parse text.
"""
