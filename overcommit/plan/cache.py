"""Of a guest's file cache, what may be taken.

A guest says how much it caches, and never whether it reads that again. DAMON sees when memory was used, and
not what is in it. Together they bound it: as much cache as there is memory in use may be in use. What was
seen idle for T tells nothing of a use that comes round in more than T, so that T is the class's
``cache_after``, and a watch of minutes lets no cache go.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

from overcommit.model.facts import BalloonStats
from overcommit.model.heat import Heat
from overcommit.units import format_age, format_duration, format_size

STEP_SHARE = 0.25
"""Of a guest's cache, what one plan takes of a guest of a short host: the next one sees what that did."""


class CacheRule(enum.Enum):
    """What of the cache goes that is not known to be unused."""

    KEPT = "none"
    IN_STEPS = "a quarter: the host is short, and everything else was not enough"
    TAKEN = "all: the host is near its own OOM"


class Droppable(NamedTuple):
    """Of ``cache_bytes`` that the guest holds, ``droppable_bytes`` may go; ``because`` says why no more."""

    cache_bytes: int
    droppable_bytes: int
    because: str

    @property
    def kept_bytes(self) -> int:
        """What stays."""
        return self.cache_bytes - self.droppable_bytes


def cache_of(stats: BalloonStats, size_bytes: int) -> int | None:
    """What a guest of that size could give, and holds something in; None: it does not tell that from free.

    Its own word (rule S8), bounded by its size.
    """
    if stats.usable_bytes is None or stats.unused_bytes is None:
        return None
    usable, unused = min(stats.usable_bytes, size_bytes), min(stats.unused_bytes, size_bytes)
    return max(0, usable - unused)


def droppable_cache(
    cache_bytes: int, resident_bytes: int, heat: Heat | None, *, cache_after: float, rule: CacheRule
) -> Droppable:
    """How much of the cache may go.

    ``resident_bytes`` is what the host holds of the guest. All that was in use lately counts as cache, as far
    as there is so much: which memory holds cache nobody knows.
    """
    if rule is CacheRule.TAKEN or cache_after <= 0:
        return Droppable(cache_bytes, cache_bytes, "")
    step = 0
    if rule is CacheRule.IN_STEPS and not math.isinf(cache_after):
        step = round(STEP_SHARE * cache_bytes)
    if math.isinf(cache_after):
        return Droppable(cache_bytes, 0, "its class says cache_after: never")
    after = format_age(cache_after)
    if heat is None:
        return Droppable(cache_bytes, step, f"it was not watched; it is given after {after} of watching")
    if heat.unused_bytes is None or heat.unused_after_seconds < cache_after:
        known = format_duration(heat.window_seconds)
        why = f"it is known to be unused for {known} only; it is given after {after} of watching"
        return Droppable(cache_bytes, step, why)
    used = max(0, resident_bytes - heat.unused_bytes)
    droppable = max(0, cache_bytes - used)
    why = f"{format_size(used)} of the guest was in use within {after} and may be cache"
    return Droppable(cache_bytes, max(droppable, step), why)
