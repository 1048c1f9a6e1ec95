"""When everything is read and planned anew. Pure. Times are monotonic seconds."""

from __future__ import annotations

import math

from overcommit.model.moments import Monotonic

PLAN_SECONDS = 60.0
"""The interval of plans when nothing asks for one earlier."""
SOON_SECONDS = 10.0
"""The least time between plans when something asks for one."""


class Timetable:
    """The times of plans that are carried out. A plan that is only shown does not delay them."""

    def __init__(self) -> None:
        self._carried_out_at = self._planned_at = Monotonic(-math.inf)
        self._soon = self._at_once = False

    def soon(self) -> None:
        """Ask for a plan."""
        self._soon = True

    def at_once(self) -> None:
        """Ask for a plan now, because a guest cannot wait."""
        self._at_once = True

    def is_due(self, now: Monotonic, *, asked: bool) -> bool:
        """Whether a plan must be made and carried out. ``asked``: something asks for one now."""
        since = now - self._carried_out_at
        wanted = self._soon or asked
        return self._at_once or since >= PLAN_SECONDS or (wanted and since >= SOON_SECONDS)

    def is_fresh(self, now: Monotonic) -> bool:
        """Whether the latest plan is recent enough to be shown."""
        return now - self._planned_at < SOON_SECONDS

    def planned(self, now: Monotonic, *, carried_out: bool) -> None:
        """Record that a plan is made now."""
        self._planned_at = now
        if carried_out:
            self._carried_out_at, self._soon, self._at_once = now, False, False
