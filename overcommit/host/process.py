"""The identity of a QEMU process."""

from __future__ import annotations

import errno
import itertools

from overcommit.errors import Gone
from overcommit.host.kernel import Kernel, start_time_of


def read_start_time(kernel: Kernel, pid: int) -> int:
    """The start time of a process in clock ticks since boot: field 22 of ``/proc/PID/stat``.

    Raises:
        Gone: there is no such process.
        Unreadable: the file is malformed.
    """
    try:
        statistics = kernel.read(f"/proc/{pid}/stat")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ESRCH}:
            raise Gone(f"process {pid} has exited") from error
        raise
    return start_time_of(statistics)


def runs_domain(kernel: Kernel, pid: int, uuid: str) -> bool:
    """Whether the process was started with ``-uuid UUID``, which libvirt always passes."""
    arguments = kernel.read(f"/proc/{pid}/cmdline").split("\0")
    return any(a == "-uuid" and b == uuid for a, b in itertools.pairwise(arguments))
