"""Whose page-out is so fresh that its price is not known yet. Pure.

What memory costs that was taken too early shows minutes later, as pages read back; and a short watch finds
what the one before took for warm. So for `SETTLE_SECONDS` another page-out must be worth `_SHARE` of the
last, as long as the host is not short.
"""

from __future__ import annotations

from collections.abc import Iterable

from overcommit.model.facts import Incarnation
from overcommit.model.history import Event
from overcommit.model.past import Settling
from overcommit.model.policy import Actuator

SETTLE_SECONDS = 300.0
_SHARE = 0.25
EVENTS = (Actuator.PAGEOUT.value,)
"""The kinds of events that count."""


def settlings(events: Iterable[Event], now: float) -> tuple[Settling, ...]:
    """What settles at ``now``, after this boot's `EVENTS` of `SETTLE_SECONDS`, in any order.

    Several page-outs of one domain count together. One dated after now was written by a clock that has been
    set back since: nobody knows how long ago it was.
    """
    latest: dict[Incarnation, tuple[int, float]] = {}
    for event in events:
        if event.kind in EVENTS and event.domain is not None and 0 <= now - event.at < SETTLE_SECONDS:
            freed, at = latest.get(event.domain, (0, 0.0))
            latest[event.domain] = (freed + max(0, event.freed_bytes or 0), max(at, event.at))
    return tuple(
        Settling(domain=domain, freed_bytes=freed, ended_at=at)
        for domain, (freed, at) in latest.items()
        if freed
    )


def least_worth(settling: Settling | None, least_bytes: int) -> int:
    """The least that another page-out must bring, where otherwise ``least_bytes`` would do."""
    return max(least_bytes, round(_SHARE * settling.freed_bytes)) if settling else least_bytes
