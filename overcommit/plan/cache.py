"""How much of a guest's file cache may be dropped.

A guest reports how much it caches, but not whether it reads that again. DAMON sees when memory was used, but
not what is in it. Together they give a bound: as much cache as there is memory in use may be in use. Memory
that was idle for T says nothing about a use with a longer period. So T is the class's ``cache_after``, and a
watch of minutes releases no cache.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

from overcommit.model.facts import BalloonStats
from overcommit.model.heat import Heat
from overcommit.units import format_age, format_duration, format_size

STEP_SHARE = 0.25
"""The share of a guest's cache that one plan takes when the host is short. The next plan sees the effect."""


class CacheRule(enum.Enum):
    """How much cache may be dropped that is not known to be unused."""

    KEPT = "none"
    IN_STEPS = "a quarter: the host is short, and everything else was not enough"
    TAKEN = "all: the host is near its own OOM"


class Droppable(NamedTuple):
    """Of ``cache_bytes`` of a guest, ``droppable_bytes`` may be dropped. ``because`` says why no more."""

    cache_bytes: int
    droppable_bytes: int
    because: str

    @property
    def kept_bytes(self) -> int:
        """The bytes that stay."""
        return self.cache_bytes - self.droppable_bytes


def cache_of(stats: BalloonStats, size_bytes: int) -> int | None:
    """The file cache of a guest in bytes; None: it does not report cache apart from free memory.

    The guest's figure (rule S8), bounded by its size.
    """
    if stats.usable_bytes is None or stats.unused_bytes is None:
        return None
    usable, unused = min(stats.usable_bytes, size_bytes), min(stats.unused_bytes, size_bytes)
    return max(0, usable - unused)


def droppable_cache(
    cache_bytes: int, resident_bytes: int, heat: Heat | None, *, cache_after: float, rule: CacheRule
) -> Droppable:
    """How much of the cache may be dropped.

    ``resident_bytes`` is the resident memory of the guest. Recently used memory counts as cache, up to the
    size of the cache, because it is not known which memory holds cache.
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
