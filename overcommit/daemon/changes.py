"""Changes of the daemon's state, as events: a condition is logged when it begins and when it ends.

The first line of `status` has all conditions at once. In the log each has its own event, so the state line
without them is logged rarely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from overcommit.daemon.mode_state import Loss, Lost
from overcommit.daemon.report import Domains, missing_bytes, state_sentence
from overcommit.daemon.state import State
from overcommit.model import events
from overcommit.model.facts import Incarnation
from overcommit.model.log_event import LogEvent
from overcommit.model.moments import Monotonic
from overcommit.model.past import Quarantine
from overcommit.model.policy import Actuator

STATE_SECONDS = 300.0
"""The least time between two state lines. Their content is known from events by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The conditions at a moment, with the available memory then.

    ``missing_bytes`` are missing of the reserve.
    """

    lost: Mapping[Loss, Lost] = field(default_factory=dict)
    gives_back: bool = False
    available_bytes: int = 0
    emergency: bool = False
    missing_bytes: int = 0
    stopped: str | None = None
    hurt: Mapping[Incarnation, str] = field(default_factory=dict)
    quarantines: Mapping[tuple[Incarnation, Actuator], Quarantine] = field(default_factory=dict)


class Changes:
    """Logs the changes. It must be shown each state."""

    def __init__(self, tell: Callable[[LogEvent], None]) -> None:
        self._tell = tell
        self._seen = _Seen()
        self._sentence = ""
        self._told_at = Monotonic(-math.inf)

    def look(self, state: State, domains: Domains, now: Monotonic) -> None:
        """Log what differs from the last call. ``now`` is monotonic."""
        before, self._seen = self._seen, _seen(state, domains, now)
        for event in (*_of_the_host(before, self._seen, now), *_of_domains(before, self._seen, domains)):
            self._tell(event)
        sentence = state_sentence(state, domains, now)
        if sentence != self._sentence and now - self._told_at >= STATE_SECONDS:
            self._tell(events.state(sentence, state.mode_state.mode(now).value))
            self._sentence, self._told_at = sentence, now


def _seen(state: State, domains: Domains, now: Monotonic) -> _Seen:
    return _Seen(
        lost=state.mode_state.lost,
        gives_back=state.mode_state.gives_back(now),
        available_bytes=state.plan.host.available_bytes if state.plan else 0,
        emergency=state.emergency,
        missing_bytes=missing_bytes(state),
        stopped=state.plan.stopped if state.plan else None,
        hurt={incarnation: each.hurt for incarnation, each in domains.items() if each.hurt is not None},
        quarantines={(each.domain, each.actuator): each for each in state.past.quarantines},
    )


def _of_the_host(before: _Seen, seen: _Seen, now: Monotonic) -> Iterator[LogEvent]:
    for loss, lost in seen.lost.items():
        if loss not in before.lost or before.lost[loss].since != lost.since:
            yield events.lost(loss.value, lost.why)
    for loss, lost in before.lost.items():
        if loss not in seen.lost:
            yield events.regained(loss.value, now - lost.since)
    if seen.gives_back and not before.gives_back:
        yield events.giving_back(loss.value for loss in seen.lost)
    if seen.emergency != before.emergency:
        yield (events.emergency if seen.emergency else events.emergency_over)(seen.available_bytes)
    if seen.missing_bytes and not before.missing_bytes:
        yield events.reserve_missed(seen.missing_bytes)
    if before.missing_bytes and not seen.missing_bytes:
        yield events.reserve_kept()
    if seen.stopped is not None and before.stopped is None:
        yield events.page_out_stopped(seen.stopped)
    if seen.stopped is None and before.stopped is not None:
        yield events.page_out_possible()


def _of_domains(before: _Seen, seen: _Seen, domains: Domains) -> Iterator[LogEvent]:
    for incarnation, why in seen.hurt.items():
        if incarnation not in before.hurt:
            yield events.domain_rests(incarnation, why)
    for incarnation in before.hurt:
        if incarnation not in seen.hurt and incarnation in domains:
            yield events.domain_rests_no_more(incarnation)
    for key, quarantine in seen.quarantines.items():
        if key not in before.quarantines:
            yield events.quarantine_began(quarantine)
    for key, quarantine in before.quarantines.items():
        if key not in seen.quarantines:
            yield events.quarantine_over(quarantine)
