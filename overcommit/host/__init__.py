"""The host kernel's own account: memory, swap, pressure, cgroups and processes.

`overcommit.host.kernel` is the only module that touches files and system calls; the others parse text.
"""
