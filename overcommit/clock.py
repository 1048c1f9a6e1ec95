"""The clock as a port. The pure core gets the time as an argument."""

from __future__ import annotations

import time
from typing import Protocol

from overcommit.model.moments import Monotonic, Wall


class Clock(Protocol):
    """The clocks that the program uses."""

    def now(self) -> Wall:
        """Seconds since the epoch: for people, files, and comparing with libvirt's time stamps."""
        ...

    def monotonic(self) -> Monotonic:
        """Seconds that never jump: for durations."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Wall:
        """See `Clock.now`."""
        return Wall(time.time())

    def monotonic(self) -> Monotonic:
        """See `Clock.monotonic`."""
        return Monotonic(time.monotonic())

    def wait(self, seconds: float) -> None:
        """See `Clock.wait`."""
        time.sleep(seconds)
