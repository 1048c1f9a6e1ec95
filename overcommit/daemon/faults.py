"""The boundary around what the daemon does for one domain: an error there does not affect other domains.

The error is counted and shown, and nothing is taken from that domain for a while, longer each time. The
domain is still read, and gets back what it needs if that can be found out. A domain with errors for a long
time gets back all that was taken from it, as when something else is lost (`overcommit.daemon.mode_state`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from overcommit.clock import Clock
from overcommit.daemon.mode_state import HOLD_SECONDS
from overcommit.errors import UNCONTAINED, in_a_line
from overcommit.model import events
from overcommit.model.facts import Incarnation
from overcommit.model.log_event import LogEvent
from overcommit.model.moments import Monotonic, Wall

FIRST_SECONDS, LONGEST_SECONDS = 60.0, 3600.0
"""The pause after the first of several errors, and the longest one."""
_FORGIVEN_SECONDS = 600.0
"""After this time without an error, the next one counts as a first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The errors with one incarnation of a domain.

    ``count`` of them, the ``last`` in words, ``at`` seconds since the epoch. Nothing is taken from it until
    ``until``. It has had errors since ``since``, in ``rests`` pauses (monotonic).
    """

    count: int
    last: str
    at: Wall
    until: Monotonic
    since: Monotonic
    rests: int


class Boundary:
    """Contains errors with a domain. ``tell`` gets the events to log."""

    def __init__(self, clock: Clock, tell: Callable[[LogEvent], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._faults: dict[Incarnation, Faults] = {}
        self._given_back_at: dict[Incarnation, Monotonic] = {}

    @contextlib.contextmanager
    def around(self, incarnation: Incarnation | None) -> Iterator[None]:
        """The context of work for one domain; None: for the host, and nothing is contained.

        Raises:
            JournalFailed, MemoryError: and what is no `Exception`: these are not the domain's errors.
        """
        try:
            yield
        except UNCONTAINED:
            raise
        except Exception as error:
            if incarnation is None:
                raise
            self.failed(incarnation, in_a_line(error))

    def failed(self, incarnation: Incarnation, why: str) -> None:
        """Record an error. It is logged when a pause begins with it."""
        now, before = self._clock.monotonic(), self._faults.get(incarnation)
        count, rests, since, until = 1, 0, now, Monotonic(-math.inf)
        if before is not None:
            count, until = before.count + 1, before.until
            if now < until + _FORGIVEN_SECONDS:
                rests, since = before.rests, before.since
        if now >= until:
            seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(rests, 10))
            rests, until = rests + 1, now + seconds
            self._tell(events.domain_fault(incarnation, why, seconds))
        self._faults[incarnation] = Faults(
            count=count, last=why, at=self._clock.now(), until=until, since=since, rests=rests
        )

    def of(self, incarnation: Incarnation) -> Faults | None:
        """Its errors so far; None: none."""
        return self._faults.get(incarnation)

    def why_not(self, incarnation: Incarnation | None) -> str | None:
        """Why nothing is taken from it now; None: something may be."""
        faults = self._faults.get(incarnation) if incarnation else None
        if faults is None or self._clock.monotonic() >= faults.until:
            return None
        return f"left alone after an error: {faults.last}"

    def hopeless(self) -> Iterator[Incarnation]:
        """Paused domains with errors for a long time; each is returned once in a while."""
        now = self._clock.monotonic()
        for incarnation, faults in self._faults.items():
            again = self._given_back_at.get(incarnation, Monotonic(-math.inf)) + HOLD_SECONDS
            if now < faults.until and now - faults.since >= HOLD_SECONDS and now >= again:
                self._given_back_at[incarnation] = now
                yield incarnation

    def keep(self, alive: Collection[Incarnation]) -> None:
        """Forget all other domains."""
        for known in (self._faults, self._given_back_at):
            for gone in [incarnation for incarnation in known if incarnation not in alive]:
                del known[gone]
