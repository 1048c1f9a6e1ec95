"""Whether the wall clock goes as fast as time does: ages of statistics and leases hang on it."""

from __future__ import annotations

from overcommit.clock import Clock
from overcommit.units import format_duration

_TOLERANCE_SECONDS = 30.0


class WallClock:
    """Remembers how far the wall clock was from the monotonic one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._skew: float | None = None

    def jumped(self) -> str | None:
        """How it jumped since the last call, in words; None when it did not."""
        before, self._skew = self._skew, self._clock.now() - self._clock.monotonic()
        if before is None or abs(self._skew - before) <= _TOLERANCE_SECONDS:
            return None
        way = "forward" if self._skew > before else "back"
        return f"it jumped {way} by {format_duration(abs(self._skew - before))}"
