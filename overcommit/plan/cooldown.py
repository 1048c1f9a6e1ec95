"""Whose page-out is so fresh that its price is not known yet. Pure.

What memory costs that was taken too early shows minutes later, as pages read back; and a short watch finds
what the one before took for warm. So for `COOLDOWN_SECONDS` another page-out must be worth `_SHARE` of the
last, as long as the host is not short.
"""

from __future__ import annotations

from collections.abc import Iterable

from overcommit.model.facts import Incarnation
from overcommit.model.history import Event
from overcommit.model.past import Cooldown
from overcommit.model.policy import Actuator

COOLDOWN_SECONDS = 300.0
_SHARE = 0.25
EVENTS = (Actuator.PAGEOUT.value,)
"""The kinds of events that count."""


def cooldowns(events: Iterable[Event], now: float) -> tuple[Cooldown, ...]:
    """What settles at ``now``, after this boot's `EVENTS` of `COOLDOWN_SECONDS`, in any order.

    Several page-outs of one domain count together. One dated after now was written by a clock that has been
    set back since: nobody knows how long ago it was.
    """
    latest: dict[Incarnation, tuple[int, float]] = {}
    for event in events:
        if event.kind in EVENTS and event.domain is not None and 0 <= now - event.at < COOLDOWN_SECONDS:
            freed, at = latest.get(event.domain, (0, 0.0))
            latest[event.domain] = (freed + max(0, event.freed_bytes or 0), max(at, event.at))
    return tuple(
        Cooldown(domain=domain, freed_bytes=freed, ended_at=at)
        for domain, (freed, at) in latest.items()
        if freed
    )


def least_worth(cooldown: Cooldown | None, least_bytes: int) -> int:
    """The least that another page-out must bring, where otherwise ``least_bytes`` would do."""
    return max(least_bytes, round(_SHARE * cooldown.freed_bytes)) if cooldown else least_bytes
