"""A clock whose time passes when somebody waits."""

from __future__ import annotations

from overcommit.model.moments import Monotonic, Wall
from overcommit.testing.fake_host import FakeHost

_EPOCH = 1_800_000_000.0


class FakeClock:
    """`overcommit.clock.Clock` over a `FakeHost`, which is simulated for each second of waiting."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def now(self) -> Wall:
        """See `Clock.now`."""
        return Wall(_EPOCH + self._host.uptime + self._host.clock_ahead_seconds)

    def monotonic(self) -> Monotonic:
        """See `Clock.monotonic`."""
        return Monotonic(self._host.uptime)

    def wait(self, seconds: float) -> None:
        """See `Clock.wait`."""
        self._host.advance(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back. A suspended host looks like a jump forward."""
        self._host.clock_ahead_seconds += seconds
