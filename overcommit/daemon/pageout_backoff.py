"""Delays page-outs after one that freed almost nothing: what the plan called cold was in use.

Each page-out checks the domain's memory every second, and the next plan would choose the same again. One
without success costs as much as one with it. So each failure makes the next one wait longer.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from overcommit.model.action import Action, PageoutAction
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome, Status

_FRUITLESS_SHARE = 0.25
"""A page-out that freed less than this share of its expected bytes has failed."""
_FIRST_SECONDS, _LONGEST_SECONDS = 60.0, 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backoff:
    times: int
    until: Monotonic


class PageoutBackoff:
    """The delays by domain. Times are monotonic."""

    def __init__(self) -> None:
        self._backoffs: dict[Incarnation, _Backoff] = {}

    def ended(self, outcome: Outcome, now: Monotonic) -> None:
        """Record the result of an action."""
        action = outcome.action
        if not isinstance(action, PageoutAction):
            return
        # done: what it did not take the guest had given itself
        if outcome.status is Status.DONE or outcome.freed_bytes >= _FRUITLESS_SHARE * action.expected_bytes:
            self._backoffs.pop(action.domain, None)
            return
        before = self._backoffs.get(action.domain)
        wait = (
            min(_LONGEST_SECONDS, _FIRST_SECONDS * 2 ** min(before.times, 10)) if before else _FIRST_SECONDS
        )
        times = before.times + 1 if before else 1
        self._backoffs[action.domain] = _Backoff(times=times, until=now + wait)

    def waits(self, action: Action, now: Monotonic) -> bool:
        """Whether it is too early to try that again."""
        if not isinstance(action, PageoutAction):
            return False
        vain = self._backoffs.get(action.domain)
        return vain is not None and now < vain.until

    def keep(self, alive: Container[Incarnation]) -> None:
        """Forget all other domains."""
        for gone in [incarnation for incarnation in self._backoffs if incarnation not in alive]:
            del self._backoffs[gone]
