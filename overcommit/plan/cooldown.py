"""Domains whose last page-out is so recent that its promotions are not known yet. Pure.

Pages that were paged out too early come back minutes later. And a short watch finds as cold what the watch
before found warm. So for `COOLDOWN_SECONDS` another page-out must bring at least `_SHARE` of the last one,
while the host is not short.
"""

from __future__ import annotations

from collections.abc import Iterable

from overcommit.model.facts import Incarnation
from overcommit.model.history import Event
from overcommit.model.moments import Wall
from overcommit.model.past import Cooldown
from overcommit.model.policy import Actuator

COOLDOWN_SECONDS = 300.0
_SHARE = 0.25
EVENTS = (Actuator.PAGEOUT.value,)
"""The kinds of events that start a cooldown."""


def cooldowns(events: Iterable[Event], now: Wall) -> tuple[Cooldown, ...]:
    """The cooldowns at ``now``, from this boot's `EVENTS` of the last `COOLDOWN_SECONDS`, in any order.

    Several page-outs of one domain are added. An event after ``now`` was written before the clock was set
    back; its age is not known.
    """
    latest: dict[Incarnation, tuple[int, Wall]] = {}
    for event in events:
        if event.kind in EVENTS and event.domain is not None and 0 <= now - event.at < COOLDOWN_SECONDS:
            freed, at = latest.get(event.domain, (0, event.at))
            latest[event.domain] = (freed + max(0, event.freed_bytes or 0), max(at, event.at))
    return tuple(
        Cooldown(domain=domain, freed_bytes=freed, ended_at=at)
        for domain, (freed, at) in latest.items()
        if freed
    )


def least_worth(cooldown: Cooldown | None, least_bytes: int) -> int:
    """The least bytes of another page-out, where without a cooldown ``least_bytes`` are enough."""
    return max(least_bytes, round(_SHARE * cooldown.freed_bytes)) if cooldown else least_bytes
