"""Go through one routine to its end, as a test of that routine wants it."""

from __future__ import annotations

from typing import TypeVar

from overcommit.apply.routines import Routine, run_all
from overcommit.clock import Clock

_T = TypeVar("_T")


def run(steps: Routine[_T], clock: Clock) -> _T:
    """What came of it."""
    ended: list[_T] = []

    def lane() -> Routine[None]:
        ended.append((yield from steps))

    run_all([lane()], clock, 1, lambda _error: None)
    return ended[0]
