"""Idle time by address, and what is made of it. Addresses are written in MiB."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from overcommit.classify.idle import HISTOGRAM_BOUNDS, begin, classify, relocate, update
from overcommit.model.heat import SAMPLES, AccessRegion, Heat, IdleMap, IdleSpan
from overcommit.model.moments import Monotonic
from overcommit.model.ranges import Range
from overcommit.units import GIB, MIB

Seen = tuple[int, int, int]
"""Start, end, accesses."""

LONG = 1e6
"""A window in which nothing stays unseen."""


def ranges(*bounds: tuple[int, int]) -> tuple[Range, ...]:
    return tuple(Range(start * MIB, end * MIB) for start, end in bounds)


def watch(ram: Sequence[Range], *snapshots: tuple[float, Sequence[Seen]], began: float = 0.0) -> IdleMap:
    idle = begin(ram, Monotonic(began))
    for at, seen in snapshots:
        regions = [AccessRegion(start * MIB, end * MIB, accesses) for start, end, accesses in seen]
        idle = update(idle, regions, Monotonic(at), window=LONG)
    return idle


def spans(idle: IdleMap) -> list[tuple[int, int, float]]:
    return [(span.start // MIB, span.end // MIB, float(span.accessed_at)) for span in idle.spans]


def judge(idle: IdleMap, resident: Sequence[Range], cold_after: float = 100.0) -> Heat:
    return classify(idle, resident, cold_after=cold_after)


def pieces(heat: Heat) -> list[tuple[int, int, int]]:
    return [(p.start // MIB, p.end // MIB, p.resident_bytes // MIB) for p in heat.cold_pieces]


RAM = ranges((0, 100))


def test_a_watch_begins_with_everything_in_use() -> None:
    idle = begin(RAM, Monotonic(50.0))
    assert spans(idle) == [(0, 100, 50.0)]
    assert (idle.window_seconds, idle.snapshots) == (0.0, 0)


def test_idle_time_grows_where_nothing_is_accessed() -> None:
    idle = watch(RAM, (4, [(0, 60, 0), (60, 100, 3)]), (8, [(0, 60, 0), (60, 100, 0)]))
    assert spans(idle) == [(0, 60, 0.0), (60, 100, 4.0)]
    assert (idle.window_seconds, idle.snapshots) == (8.0, 2)


def test_it_is_kept_by_address_while_regions_move() -> None:
    """DAMON splits and merges at random; a region's own age would be lost or averaged."""
    idle = watch(RAM, (4, [(0, 30, 0), (30, 100, 1)]), (8, [(0, 50, 0), (50, 100, 1)]))
    assert spans(idle) == [(0, 30, 0.0), (30, 50, 4.0), (50, 100, 8.0)]


def test_neighbours_of_the_same_age_are_one_span() -> None:
    idle = watch(RAM, (4, [(0, 10, 1), (10, 20, 7), (20, 100, 0)]), (8, [(0, 5, 0), (5, 100, 0)]))
    assert spans(idle) == [(0, 20, 4.0), (20, 100, 0.0)]


def test_what_was_not_looked_at_counts_as_accessed() -> None:
    idle = watch(RAM, (4, [(0, 40, 0), (60, 100, 0)]))
    assert spans(idle) == [(0, 40, 0.0), (40, 60, 4.0), (60, 100, 0.0)]


def test_a_snapshot_without_regions_proves_nothing_idle() -> None:
    assert spans(watch(RAM, (4, [(0, 100, 0)]), (8, []))) == [(0, 100, 8.0)]


def test_the_sentinel_is_not_guest_memory() -> None:
    idle = watch(RAM, (4, [(0, 100, 0), (5000, 5001, 40)]))
    assert spans(idle) == [(0, 100, 0.0)]


def test_one_region_over_two_blocks_of_ram() -> None:
    idle = watch(ranges((0, 10), (50, 60)), (4, [(0, 60, 0)]))
    assert spans(idle) == [(0, 10, 0.0), (50, 60, 0.0)]


def test_cold_is_unknown_until_the_watch_was_long_enough() -> None:
    idle = watch(RAM, (99, [(0, 100, 0)]))
    assert judge(idle, RAM).cold_bytes is None
    assert judge(idle, RAM).confidence == "low"
    assert judge(watch(RAM, (100, [(0, 100, 0)])), RAM).cold_bytes == 100 * MIB


@pytest.mark.parametrize(
    ("watched", "confidence"), [(99, "low"), (100, "medium"), (199, "medium"), (200, "high")]
)
def test_confidence_grows_with_the_watch(watched: float, confidence: str) -> None:
    assert judge(watch(RAM, (watched, [(0, 100, 0)])), RAM).confidence == confidence


def test_only_resident_memory_has_a_temperature() -> None:
    idle = watch(RAM, (80, [(0, 90, 0)]), (110, [(0, 60, 0), (80, 90, 0)]))
    heat = judge(idle, ranges((50, 65), (85, 100)))
    # 50-60 and 85-90 are idle for 110 s, 60-65 was accessed in one of two windows, 90-100 never looked at
    assert (heat.hot_bytes, heat.warm_bytes, heat.cold_bytes) == (10 * MIB, 5 * MIB, 15 * MIB)


def test_hot_is_what_most_of_the_latest_windows_saw() -> None:
    """Two quiet windows in eight are bad luck; three in eight accessed are a page here and there."""
    steady, sparse = "11011101", "00100110"
    snapshots = [
        (4.0 * n, [(0, 50, int(hot)), (50, 100, int(warm))])
        for n, (hot, warm) in enumerate(zip(steady, sparse, strict=True), start=1)
    ]
    heat = judge(watch(RAM, *snapshots), RAM)
    assert (heat.hot_bytes, heat.warm_bytes) == (50 * MIB, 50 * MIB)


def test_old_accesses_do_not_keep_memory_hot() -> None:
    accessed = [(4.0 * n, [(0, 100, 9)]) for n in range(1, 9)]
    since = [(4.0 * n, [(0, 100, 0)]) for n in range(9, 17)]
    assert judge(watch(RAM, *accessed), RAM).hot_bytes == 100 * MIB
    assert judge(watch(RAM, *accessed, *since), RAM).warm_bytes == 100 * MIB


def test_memory_not_yet_watched_is_neither_hot_nor_cold() -> None:
    heat = judge(begin(RAM, Monotonic(0.0)), RAM)
    assert (heat.hot_bytes, heat.warm_bytes, heat.cold_bytes) == (0, 100 * MIB, None)


def test_histogram_ends_with_the_watch_and_holds_all_resident_memory() -> None:
    idle = watch(RAM, (40, [(0, 100, 1)]), (70, [(0, 60, 0), (60, 100, 1)]))
    heat = judge(idle, ranges((10, 90)))
    assert [(b.min_idle_seconds, b.resident_bytes // MIB) for b in heat.histogram] == [
        (0, 30),
        (10, 0),
        (30, 50),
        (60, 0),
    ]
    assert [b.min_idle_seconds for b in heat.histogram] == list(HISTOGRAM_BOUNDS[:4])


def test_nothing_resident() -> None:
    heat = judge(watch(RAM, (200, [(0, 100, 0)])), ())
    assert (heat.hot_bytes, heat.warm_bytes, heat.cold_bytes, heat.cold_pieces) == (0, 0, 0, ())


def test_pieces_are_cut_at_huge_pages() -> None:
    heat = judge(watch(RAM, (100, [(0, 100, 0)])), ranges((3, 9)))
    assert pieces(heat) == [(3, 4, 1), (4, 6, 2), (6, 8, 2), (8, 9, 1)]


def test_a_piece_may_span_cold_memory_that_is_not_resident() -> None:
    ram = ranges((0, 2))
    idle = begin(ram, Monotonic(0.0))
    idle = update(idle, [AccessRegion(0, 2 * MIB, 0)], Monotonic(100.0), window=LONG)
    quarter = MIB // 4
    heat = judge(idle, (Range(0, quarter), Range(MIB, MIB + quarter)))
    assert heat.cold_pieces == ((0, MIB + quarter, 2 * quarter, 100.0),)


@pytest.mark.parametrize("between_is_resident", [True, False])
def test_a_piece_never_spans_memory_that_is_in_use(between_is_resident: bool) -> None:
    half = MIB // 2
    quiet = [AccessRegion(0, half, 0), AccessRegion(3 * half, 2 * MIB, 0)]
    idle = update(begin(ranges((0, 2)), Monotonic(0.0)), quiet, Monotonic(100.0), window=LONG)
    resident = ranges((0, 2)) if between_is_resident else (Range(0, half), Range(3 * half, 2 * MIB))
    assert [(p.start, p.end) for p in judge(idle, resident).cold_pieces] == [(0, half), (3 * half, 2 * MIB)]


def test_a_piece_never_spans_what_lies_between_two_blocks_of_ram() -> None:
    """QEMU's own memory may lie there; a large guest's pieces are large enough to reach over it."""
    ram = (Range(0, 33 * GIB + 100 * MIB), Range(33 * GIB + 108 * MIB, 64 * GIB))
    idle = update(begin(ram, Monotonic(0.0)), [AccessRegion(0, 64 * GIB, 0)], Monotonic(100.0), window=LONG)
    inside = [any(r.start <= p.start and p.end <= r.end for r in ram) for p in judge(idle, ram).cold_pieces]
    assert all(inside)


def test_a_piece_is_as_idle_as_its_youngest_memory() -> None:
    idle = watch(ranges((0, 2)), (10, [(0, 1, 0), (1, 2, 1)]), (150, [(0, 2, 0)]))
    (piece,) = judge(idle, ranges((0, 2))).cold_pieces
    assert piece.idle_seconds == 140.0


@pytest.mark.parametrize("size", [GIB, 16 * GIB, 256 * GIB])
def test_number_of_pieces_does_not_grow_with_the_guest(size: int) -> None:
    ram = (Range(0, size),)
    idle = IdleMap(
        began_at=Monotonic(0.0),
        updated_at=Monotonic(200.0),
        snapshots=50,
        spans=(IdleSpan(0, size, Monotonic(0.0), 0),),
    )
    cold = judge(idle, ram).cold_pieces
    assert 100 <= len(cold) <= 512
    assert sum(p.resident_bytes for p in cold) == size


def test_time_that_no_snapshot_saw_is_nobodys_idleness() -> None:
    """A window of 4 s each 24 s proves 4 s each, not 24."""
    idle = begin(ranges((0, 2)), Monotonic(0.0))
    for at in (24.0, 48.0, 72.0):
        idle = update(idle, [AccessRegion(0, 2 * MIB, 0)], Monotonic(at), window=4.0)
    assert idle.window_seconds == 12.0
    assert [idle.updated_at - span.accessed_at for span in idle.spans] == [12.0]


def test_the_samples_of_all_windows_within_the_bound_count() -> None:
    seen = [(4.0 * window, [(0, 100, 0)]) for window in range(1, 31)]
    assert judge(watch(RAM, *seen), RAM, cold_after=60.0).samples == 15 * SAMPLES
    assert judge(watch(RAM, *seen), RAM, cold_after=600.0).samples == 30 * SAMPLES
    assert judge(begin(RAM, Monotonic(0.0)), RAM).samples == 0


def test_the_working_set_is_what_was_accessed_within_the_bound() -> None:
    heat = judge(watch(RAM, (40, [(0, 100, 1)]), (140, [(0, 60, 0), (60, 100, 1)])), RAM)
    assert (heat.cold_bytes, heat.wss_bytes) == (60 * MIB, 40 * MIB)
    assert judge(watch(RAM, (40, [(0, 100, 0)])), RAM).wss_bytes is None


def test_memory_that_moved_keeps_its_history_where_it_stayed() -> None:
    idle = watch(ranges((0, 60)), (10, [(0, 40, 0), (40, 60, 1)]))
    moved = relocate(idle, ranges((20, 60), (80, 90)), Monotonic(12.0))
    assert spans(moved) == [(20, 40, 0.0), (40, 60, 10.0), (80, 90, 12.0)]
