"""What of a guest's file cache may go, by what was seen of its memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.classify.idle import begin, classify, update
from overcommit.model.facts import BalloonStats
from overcommit.model.heat import AccessRegion, Heat
from overcommit.model.moments import Monotonic
from overcommit.model.ranges import Range
from overcommit.plan.cache import CacheRule, Droppable, cache_of, droppable_cache
from overcommit.units import MIB

CACHE, OTHER = Range(0, 200 * MIB), Range(300 * MIB, 360 * MIB)
HOUR = 3600.0


def watched(period: float | None, hours: float) -> Heat:
    """A guest with 200 MiB of cache, read every ``period``, and 60 MiB of other memory, always in use."""
    idle = begin((CACHE, OTHER), Monotonic(0.0))
    at = 0.0
    while at < hours * HOUR:
        reads = period is not None and (at + 10.0) // period > at // period
        at += 10.0
        regions = [AccessRegion(*CACHE, 20 if reads else 0), AccessRegion(*OTHER, 20)]
        idle = update(idle, regions, Monotonic(at), window=10.0)
    return classify(idle, (CACHE, OTHER), cold_after=120.0, unused_after=4 * HOUR)


def may_go(heat: Heat | None, cache_after: float = 4 * HOUR, rule: CacheRule = CacheRule.KEPT) -> Droppable:
    return droppable_cache(200 * MIB, 260 * MIB, heat, cache_after=cache_after, rule=rule)


@pytest.mark.parametrize("minutes", [1, 3, 10, 30, 180])
def test_cache_that_is_read_more_often_than_that_never_goes(minutes: int) -> None:
    for hours in (1.0, 3.9, 4.1, 9.0):
        assert may_go(watched(minutes * 60.0, hours)).droppable_bytes == 0


def test_cache_that_is_never_read_again_goes_once_that_is_known() -> None:
    assert may_go(watched(None, 3.9)).droppable_bytes == 0
    assert may_go(watched(None, 4.1)).droppable_bytes == 140 * MIB, "60 MiB in use may be cache"


def test_a_watch_of_minutes_says_for_how_long_it_cannot_tell() -> None:
    found = may_go(watched(None, 0.1))
    assert (found.kept_bytes, found.because) == (
        200 * MIB,
        "it is known to be unused for 6min only; it is given after 4h of watching",
    )
    assert may_go(None).because == "it was not watched; it is given after 4h of watching"


def test_what_was_judged_by_a_shorter_time_does_not_count() -> None:
    assert may_go(watched(None, 9.0), cache_after=8 * HOUR).droppable_bytes == 0


def test_a_class_may_let_all_of_it_go_or_none() -> None:
    assert may_go(None, cache_after=0.0).droppable_bytes == 200 * MIB
    assert may_go(watched(None, 9.0), cache_after=math.inf).droppable_bytes == 0


def test_on_a_short_host_a_quarter_goes_and_near_its_end_all() -> None:
    busy = watched(60.0, 5.0)
    assert may_go(busy, rule=CacheRule.IN_STEPS).droppable_bytes == 50 * MIB
    assert may_go(busy, cache_after=math.inf, rule=CacheRule.IN_STEPS).droppable_bytes == 0
    assert may_go(busy, cache_after=math.inf, rule=CacheRule.TAKEN).droppable_bytes == 200 * MIB


FIGURES = st.sampled_from([None, 0, MIB, 200 * MIB, 1 << 40, 1 << 64])


@given(FIGURES, FIGURES, st.sampled_from([0, 300 * MIB]), st.sampled_from(CacheRule))
def test_whatever_a_guest_says_is_bounded_by_what_it_has(
    usable: int | None, unused: int | None, size: int, rule: CacheRule
) -> None:
    says = BalloonStats(actual_bytes=size, age_seconds=1.0, usable_bytes=usable, unused_bytes=unused)
    cache = cache_of(says, size)
    assert (cache is None) == (usable is None or unused is None)
    if cache is not None:
        assert 0 <= cache <= size
        for cache_after in (0.0, HOUR, math.inf):
            found = droppable_cache(cache, size, None, cache_after=cache_after, rule=rule)
            assert 0 <= found.droppable_bytes <= cache
