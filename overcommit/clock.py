"""The clock as a port. The pure core gets the time as an argument."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The clocks that the program uses."""

    def now(self) -> float:
        """Seconds since the epoch: for people, files, and comparing with libvirt's time stamps."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump: for durations."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait for ``seconds``."""
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
