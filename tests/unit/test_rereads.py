"""What a guest reads of its disks and cannot keep, and what follows from that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.slo.rereads import NOTHING_REREAD, Kept, Reading, Rereads
from overcommit.units import MIB

RESERVE = 100 * MIB
HOUR, DAY = 3600.0, 86400.0
NOTHING = Reading(read_bytes=0, cache_grown_bytes=0)


def read(size: int, grown: int = 0) -> Reading:
    return Reading(read_bytes=size * MIB, cache_grown_bytes=grown * MIB)


def tick(
    before: Rereads, reading: Reading = NOTHING, seconds: float = 5.0, *, reduced: bool = True
) -> Rereads:
    return before.after(reading, seconds, reduced=reduced, reserve_bytes=RESERVE, cache_after=4 * HOUR)


def calm(before: Rereads, seconds: float, *, reduced: bool = True) -> Rereads:
    for _ in range(round(seconds / 60)):
        before = tick(before, seconds=60.0, reduced=reduced)
    return before


def test_what_it_reads_into_its_cache_it_had_room_for() -> None:
    assert not tick(tick(NOTHING_REREAD, NOTHING), read(200, grown=200)).hurts


def test_statistics_that_come_later_than_the_reads_are_waited_for() -> None:
    late = tick(calm(NOTHING_REREAD, 120.0), read(10))
    assert tick(late, read(0, grown=10)).lost_bytes == 0


def test_a_guest_that_cannot_keep_what_it_reads_is_hurt() -> None:
    hurt = tick(calm(NOTHING_REREAD, 180.0), read(200))
    assert hurt.hurts
    assert hurt.kept.needed_seconds == pytest.approx(2 * (4 * HOUR + 185.0), rel=1e-3)
    assert hurt.kept.rest_seconds == 600.0


def test_with_all_of_its_memory_it_may_read_what_it_likes_and_that_is_usual_from_then_on() -> None:
    reading = NOTHING_REREAD
    for _ in range(30):
        reading = tick(reading, read(20), 60.0, reduced=False)
        assert not reading.hurts
    for _ in range(30):
        reading = tick(reading, read(20), 60.0)
        assert not reading.hurts
    for _ in range(10):
        reading = tick(reading, read(60), 60.0)
    assert reading.hurts


def test_one_minute_before_it_was_squeezed_says_what_ten_would_have_been() -> None:
    reading = NOTHING_REREAD
    for _ in range(14):
        reading = tick(reading, read(2), reduced=False)
    for _ in range(120):
        reading = tick(reading, read(2))
        assert not reading.hurts


def test_it_rests_for_twice_as_long_as_it_had_been_without() -> None:
    """So that whatever comes round as often finds its memory there."""
    hurt = tick(calm(NOTHING_REREAD, 3 * HOUR), read(200))
    assert hurt.kept.rest_seconds == pytest.approx(6 * HOUR, rel=0.01)
    back = calm(tick(hurt, reduced=False), 3 * HOUR, reduced=False)
    assert back.kept.rest_seconds > 2 * HOUR
    assert calm(back, 4 * HOUR, reduced=False).kept.rest_seconds == 0


def test_what_was_learnt_fades_within_weeks_and_goes_on_while_nobody_looks() -> None:
    kept = Kept(usual_bytes=100.0 * MIB, needed_seconds=2 * DAY, rest_seconds=HOUR)
    later = Rereads.resume(kept, seconds=7 * DAY).kept
    assert later.usual_bytes < MIB
    assert later.needed_seconds == pytest.approx(2 * DAY / 2.718, rel=0.01)
    assert later.rest_seconds == 0
    assert Rereads.resume(kept, seconds=60 * DAY).kept.needed_seconds == 0


def test_what_cannot_be_read_is_neither_pain_nor_comfort() -> None:
    unknown = Reading(read_bytes=None, cache_grown_bytes=None)
    before = tick(calm(NOTHING_REREAD, 120.0), read(5))
    assert tick(before, unknown).lost_bytes == before.lost_bytes


SIZES = st.sampled_from([None, 0, 5 * MIB, 300 * MIB, 1 << 62])
TICKS = st.lists(
    st.tuples(st.builds(Reading, SIZES, SIZES), st.sampled_from([0.1, 5.0, 60.0, 4000.0]), st.booleans())
)


@given(TICKS)
def test_whatever_a_guest_does_can_be_kept(ticks: list[tuple[Reading, float, bool]]) -> None:
    reading = NOTHING_REREAD
    for said, seconds, reduced in ticks:
        reading = tick(reading, said, seconds, reduced=reduced)
        assert reading.kept.sound
        assert reduced or not reading.hurts
