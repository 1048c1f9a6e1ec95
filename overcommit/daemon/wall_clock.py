"""Detects jumps of the wall clock, because ages of statistics and leases depend on it."""

from __future__ import annotations

from overcommit.clock import Clock
from overcommit.units import format_duration

_TOLERANCE_SECONDS = 30.0


class WallClock:
    """Compares the wall clock with the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._skew: float | None = None

    def jumped(self) -> str | None:
        """How it jumped since the last call, in words; None: it did not."""
        before, self._skew = self._skew, float(self._clock.now()) - float(self._clock.monotonic())
        if before is None or abs(self._skew - before) <= _TOLERANCE_SECONDS:
            return None
        way = "forward" if self._skew > before else "back"
        return f"it jumped {way} by {format_duration(abs(self._skew - before))}"
