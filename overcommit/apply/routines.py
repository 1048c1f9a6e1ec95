"""Work that waits without blocking, so that one thread can do several things in turn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

from overcommit.clock import Clock
from overcommit.errors import Busy, HostError, OvercommitError
from overcommit.model.moments import Monotonic

_T = TypeVar("_T")
_COUNTED_SECONDS = 2.0
_BUSY_SECONDS, _AGAIN_SECONDS = 20.0, 2.0

Routine = Generator[float, None, _T]
"""Yields the seconds that it wants to wait, and returns its result.

It is resumed after that time, or later; earlier only when its context says to stop. It reads the time from
its clock, and does not count resumptions. If it is closed, or an exception is thrown into it, it leaves the
same state as an interruption of the wait: nothing runs, and the journal has what there is to undo.
"""


class Standstill:
    """The ``seconds`` without progress, as far as it was checked.

    On a busy host checks are far apart. Then the time between two checks counts as a moment, because a lack
    of progress cannot be concluded from time without a check. Negative: no progress is expected yet.
    """

    def __init__(self, now: Monotonic, *, grace_seconds: float = 0.0) -> None:
        self._looked_at = now
        self.seconds = -grace_seconds

    def look(self, now: Monotonic, *, moved: bool) -> None:
        """Record one check."""
        self.seconds += min(now - self._looked_at, _COUNTED_SECONDS)
        self._looked_at = now
        if moved:
            self.seconds = min(self.seconds, 0.0)

    def excuse(self, grace_seconds: float) -> None:
        """Start anew, and expect no progress for ``grace_seconds``: there is another reason."""
        self.seconds = min(self.seconds, -grace_seconds)


def run_all(
    routines: Iterable[Routine[None]],
    clock: Clock,
    most: int,
    ending: Callable[[BaseException], None],
) -> None:
    """Run all routines, ``most`` of them at the same time, with waits between their steps.

    An error of one ends all, and so does Ctrl-C: no other starts, ``ending`` is called so that running ones
    end by themselves, and they are resumed without waits until they have. A second Ctrl-C is thrown into
    each, and so is any other exception that is no `Exception`.

    Raises:
        BaseException: the first error, or the interruption, after all have ended.
    """
    _Lanes(routines, clock, most, ending).run()


@dataclass(slots=True)
class _Lane:
    steps: Routine[None]
    due: Monotonic


class _Lanes:
    """Running routines, and those that wait for their turn."""

    def __init__(
        self,
        routines: Iterable[Routine[None]],
        clock: Clock,
        most: int,
        ending: Callable[[BaseException], None],
    ) -> None:
        self._waiting = list(routines)
        self._clock = clock
        self._most = most
        self._ending = ending
        self._at_work: list[_Lane] = []
        self._failure: BaseException | None = None

    def run(self) -> None:
        """See `run_all`."""
        while self._waiting or self._at_work:
            while self._waiting and len(self._at_work) < self._most:
                self._at_work.append(_Lane(self._waiting.pop(0), due=self._clock.monotonic()))
            try:
                self._wait()
            except BaseException as error:  # noqa: BLE001 - raised again at the end
                self._interrupt(error)
            for lane in tuple(self._at_work):
                if lane in self._at_work and lane.due <= self._clock.monotonic():
                    self._go_on(lane, functools.partial(next, lane.steps))
        if self._failure is not None:
            raise self._failure

    def _wait(self) -> None:
        pause = min(lane.due for lane in self._at_work) - self._clock.monotonic()
        if pause > 0:
            self._clock.wait(pause)

    def _go_on(self, lane: _Lane, resume: Callable[[], float]) -> None:
        try:
            lane.due = self._clock.monotonic() + resume()
        except StopIteration:
            self._at_work.remove(lane)
        except Exception as error:  # noqa: BLE001 - raised again at the end
            self._at_work.remove(lane)
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 - raised again at the end
            self._at_work.remove(lane)
            self._interrupt(error)

    def _interrupt(self, error: BaseException) -> None:
        again = self._failure is not None
        self._fail(error)
        if isinstance(error, KeyboardInterrupt) and not again:
            return
        for lane in tuple(self._at_work):
            if lane in self._at_work:
                self._go_on(lane, functools.partial(lane.steps.throw, error))

    def _fail(self, error: BaseException) -> None:
        self._waiting.clear()
        if self._failure is None:
            self._failure = error
            self._ending(error)
            for lane in self._at_work:
                lane.due = self._clock.monotonic()


def once_damon_is_free(
    begin: Callable[[], None], clock: Clock, stop_because: Callable[[], str | None]
) -> Routine[None]:
    """Start something. While somebody has DAMON locked, try again, without blocking in between.

    Raises:
        HostError: it must stop, or DAMON stayed locked (`Busy`); and what ``begin`` raises.
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
