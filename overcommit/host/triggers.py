"""Triggers of pressure stall information: events when tasks have waited too long for memory.

A trigger is an open file. Its descriptor polls as POLLPRI when its threshold was passed, at most once per
window, and as POLLERR once its cgroup is gone (Documentation/accounting/psi.rst).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Literal, Protocol

from overcommit.errors import HostError

HOST_MEMORY = "/proc/pressure/memory"

_SHORTEST_WINDOW_SECONDS, _LONGEST_WINDOW_SECONDS = 0.5, 10.0
_WHY = {
    errno.ENOENT: ("the kernel has no pressure stall information", "it needs CONFIG_PSI"),
    errno.EOPNOTSUPP: ("pressure stall information is off", "boot with psi=1"),
    errno.EPERM: ("not permitted", "run as root"),
    errno.EACCES: ("not permitted", "run as root"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StallLevel:
    """A threshold: ``stall_seconds`` within a window, of some task, or of all non-idle tasks (full)."""

    share: Literal["some", "full"]
    stall_seconds: float
    window_seconds: float

    def __post_init__(self) -> None:
        """Only what the kernel takes: a window of 0.5 to 10 s, and a stall that fits into it."""
        if not _SHORTEST_WINDOW_SECONDS <= self.window_seconds <= _LONGEST_WINDOW_SECONDS:
            message = f"a window of {self.window_seconds} s is not within 0.5 to 10 s"
            raise ValueError(message)
        if not 0 < self.stall_seconds <= self.window_seconds:
            message = f"a stall of {self.stall_seconds} s does not fit into {self.window_seconds} s"
            raise ValueError(message)

    def __str__(self) -> str:
        """As the kernel wants it, in microseconds."""
        return f"{self.share} {round(self.stall_seconds * 1e6)} {round(self.window_seconds * 1e6)}"


PRESSED = StallLevel(share="some", stall_seconds=0.1, window_seconds=1.0)
"""Some task waits for a tenth of the time: read the host before the next tick is due."""
STALLED = StallLevel(share="full", stall_seconds=0.05, window_seconds=1.0)
"""For a twentieth of the time all non-idle tasks of the host wait for memory."""


class Trigger(Protocol):
    """One trigger. It exists until it is closed."""

    def fileno(self) -> int:
        """The descriptor to poll for POLLPRI."""
        ...

    def close(self) -> None:
        """Remove the trigger."""
        ...


class Triggers(Protocol):
    """The source of triggers."""

    def open(self, path: str, level: StallLevel) -> Trigger:
        """Set a trigger on a PSI file: `HOST_MEMORY`, or a cgroup's ``memory.pressure``.

        Raises:
            HostError: the kernel has no triggers, or does not permit one.
        """
        ...


class LocalTrigger:
    """A trigger of this kernel."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """See `Trigger.fileno`."""
        return self._descriptor

    def close(self) -> None:
        """See `Trigger.close`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalTriggers:
    """Triggers of this kernel."""

    def open(self, path: str, level: StallLevel) -> LocalTrigger:
        """See `Triggers.open`."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _refusal(path, level, error) from error
        try:
            # The kernel puts its NUL over the last byte that it gets (psi_write in kernel/sched/psi.c).
            os.write(descriptor, f"{level}\0".encode())
        except OSError as error:
            os.close(descriptor)
            raise _refusal(path, level, error) from error
        return LocalTrigger(descriptor)


def _refusal(path: str, level: StallLevel, error: OSError) -> HostError:
    why, hint = _WHY.get(error.errno or 0, (os.strerror(error.errno or 0), None))
    return HostError(f"cannot be woken by {path} ({level}): {why}", hint=hint)
