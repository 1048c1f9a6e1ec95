"""Time that passes when somebody waits."""

from __future__ import annotations

from overcommit.testing.fake_host import FakeHost

_EPOCH = 1_800_000_000.0


class FakeClock:
    """`overcommit.clock.Clock` over a `FakeHost`, which lives through each second waited."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def now(self) -> float:
        """See `Clock.now`."""
        return _EPOCH + self._host.uptime + self._host.clock_ahead_seconds

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._host.uptime

    def wait(self, seconds: float) -> None:
        """See `Clock.wait`."""
        self._host.advance(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; a host that was suspended looks like the former."""
        self._host.clock_ahead_seconds += seconds
