"""The host kernel's own account: memory, swap, pressure, cgroups and processes.

`overcommit.host.kernel` is the only module that touches files and system calls, but for the descriptors of
`overcommit.host.triggers`, which outlive a call; the others parse text.
"""
