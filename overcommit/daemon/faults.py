"""The one boundary around what the daemon does for a domain: what goes wrong there ends nothing else.

It is counted and shown, and nothing is taken from that domain for a while, each time for longer. It is looked
at all the same, and gets back what it needs if that can be found out. One for whom things keep going wrong
gets back all that was taken from it, as when something else is lost (`overcommit.daemon.mode_state`).
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

FIRST_SECONDS, LONGEST_SECONDS = 60.0, 3600.0
"""How long it rests after the first of several faults, and at most."""
_FORGIVEN_SECONDS = 600.0
"""So long after a rest without another fault, the next one is a first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What went wrong with one life of a domain.

    ``count`` of them, the ``last`` in words, ``at`` seconds since the epoch. It rests until ``until``, and
    things have been going wrong since ``since``, for ``rests`` rests (monotonic).
    """

    count: int
    last: str
    at: float
    until: float
    since: float
    rests: int


class Boundary:
    """Keeps what goes wrong with a domain its own; ``tell`` gets what there is to log."""

    def __init__(self, clock: Clock, tell: Callable[[LogEvent], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._faults: dict[Incarnation, Faults] = {}
        self._given_back_at: dict[Incarnation, float] = {}

    @contextlib.contextmanager
    def around(self, incarnation: Incarnation | None) -> Iterator[None]:
        """What is done for a domain, and for no other; None: for the host, and nothing is contained.

        Raises:
            JournalFailed, MemoryError: and what is no `Exception`: they are not the domain's.
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
        """Something went wrong; it is logged when a rest begins with it."""
        now, before = self._clock.monotonic(), self._faults.get(incarnation)
        count, rests, since, until = 1, 0, now, -math.inf
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
        """What went wrong with it so far."""
        return self._faults.get(incarnation)

    def why_not(self, incarnation: Incarnation | None) -> str | None:
        """Why nothing is taken from it now; None: it does not rest."""
        faults = self._faults.get(incarnation) if incarnation else None
        if faults is None or self._clock.monotonic() >= faults.until:
            return None
        return f"left alone after an error: {faults.last}"

    def hopeless(self) -> Iterator[Incarnation]:
        """Those that rest and for whom it has been going wrong for long; each once in a while."""
        now = self._clock.monotonic()
        for incarnation, faults in self._faults.items():
            again = self._given_back_at.get(incarnation, -math.inf) + HOLD_SECONDS
            if now < faults.until and now - faults.since >= HOLD_SECONDS and now >= again:
                self._given_back_at[incarnation] = now
                yield incarnation

    def keep(self, alive: Collection[Incarnation]) -> None:
        """Forget all others."""
        for known in (self._faults, self._given_back_at):
            for gone in [incarnation for incarnation in known if incarnation not in alive]:
                del known[gone]
