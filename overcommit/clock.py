"""Time as a port: the core gets it in its input, the shell gets it here."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the program needs of time."""

    def now(self) -> float:
        """Seconds since the epoch: for people, files, and comparing with libvirt's time stamps."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump: for durations."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.time()

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """See `Clock.wait`."""
        time.sleep(seconds)
