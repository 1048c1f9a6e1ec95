"""Work that waits without blocking: so one thread can do several things, and see to each now and then."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from overcommit.clock import Clock
from overcommit.errors import Busy, HostError, OvercommitError

_T = TypeVar("_T")
_COUNTED_SECONDS = 2.0
_BUSY_SECONDS, _AGAIN_SECONDS = 20.0, 2.0

Routine = Generator[float, None, _T]
"""Yields for how many seconds it wants to wait, and returns what came of it.

It is resumed when they have passed, or later; earlier only when its context says to stop. It reads the time
from its clock, and never from how often it was resumed. Whoever closes it, or throws into it, before its end
gets what an interruption at that wait always left: nothing at work, and in the journal what there is to undo.
"""


class Standstill:
    """For how many ``seconds`` nothing has moved, as far as somebody looked.

    Where the host is so busy that looks are far apart, the time between two of them counts as a moment: what
    was not looked at, and not asked for meanwhile, cannot be said to stand still. Below 0 nothing is expected
    to move yet.
    """

    def __init__(self, now: float, *, grace_seconds: float = 0.0) -> None:
        self._looked_at = now
        self.seconds = -grace_seconds

    def look(self, now: float, *, moved: bool) -> None:
        """One look."""
        self.seconds += min(now - self._looked_at, _COUNTED_SECONDS)
        self._looked_at = now
        if moved:
            self.seconds = min(self.seconds, 0.0)

    def excuse(self, grace_seconds: float) -> None:
        """Something else is the reason: it begins anew, and nothing is expected for so long."""
        self.seconds = min(self.seconds, -grace_seconds)


def run(steps: Routine[_T], clock: Clock) -> _T:
    """Go through all steps, waiting in between; an interruption of the wait ends them first."""
    try:
        seconds = next(steps)
        while True:
            try:
                clock.wait(seconds)
            except BaseException as error:  # noqa: BLE001 - it goes on from there, as if they had waited
                seconds = steps.throw(error)
            else:
                seconds = next(steps)
    except StopIteration as end:
        result: _T = end.value
        return result


def once_damon_is_free(
    begin: Callable[[], None], clock: Clock, stop_because: Callable[[], str | None]
) -> Routine[None]:
    """Begin something; where somebody has DAMON locked, again and again, without blocking in between.

    Raises:
        HostError: it is to stop, or DAMON stayed locked (`Busy`); and what ``begin`` raises.
        Conflict: what ``begin`` raises, or DAMON stayed locked.
    """
    deadline = clock.monotonic() + _BUSY_SECONDS
    while True:
        try:
            begin()
            return
        except OvercommitError as error:
            locked = isinstance(error, Busy) or isinstance(error.__cause__, Busy)
            if not locked or clock.monotonic() >= deadline:
                raise
        yield _AGAIN_SECONDS
        if reason := stop_because():
            raise HostError(f"stopped: {reason}")
