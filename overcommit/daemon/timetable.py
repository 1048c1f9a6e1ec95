"""When everything is looked at and planned anew. Pure; times are monotonic seconds."""

from __future__ import annotations

import math

PLAN_SECONDS = 60.0
"""That often, when nothing asks for it earlier."""
SOON_SECONDS = 10.0
"""When something does, never more often than that."""


class Timetable:
    """Plans that are carried out have their times; one that is only shown delays none of them."""

    def __init__(self) -> None:
        self._carried_out_at = self._planned_at = -math.inf
        self._soon = self._at_once = False

    def soon(self) -> None:
        """Something asks for a plan."""
        self._soon = True

    def at_once(self) -> None:
        """A guest cannot wait."""
        self._at_once = True

    def is_due(self, now: float, *, asked: bool) -> bool:
        """Whether it is time for a plan to be carried out; ``asked``: something calls for one now."""
        since = now - self._carried_out_at
        wanted = self._soon or asked
        return self._at_once or since >= PLAN_SECONDS or (wanted and since >= SOON_SECONDS)

    def is_fresh(self, now: float) -> bool:
        """Whether the latest plan will do for whoever wants to see one."""
        return now - self._planned_at < SOON_SECONDS

    def planned(self, now: float, *, carried_out: bool) -> None:
        """One is made now."""
        self._planned_at = now
        if carried_out:
            self._carried_out_at, self._soon, self._at_once = now, False, False
