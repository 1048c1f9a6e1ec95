"""The pace of a page-out: its answer to a step of pain, what it never does, and when it gives up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.apply.pace import Pace, PaceSample
from overcommit.model.pain import LEAST_PAGES_PER_MINUTE, PainBounds
from overcommit.units import MIB, PAGE_SIZE

MOST = 50 * MIB
BOUNDS = PainBounds(psi_some=0.01, promoted_pages_per_minute=128)
GONE = 32 * MIB
"""What was freed, where that matters little."""
CALM, STALLED = PaceSample(1.0, 0.0, 0), PaceSample(1.0, 0.5, 0)


def begin(bounds: PainBounds = BOUNDS, most: int = MOST) -> Pace:
    return Pace.begin(bounds, most)


def course(samples: Iterable[PaceSample], start: Pace | None = None) -> list[Pace]:
    """The pace after each look, the one before all included."""
    return list(accumulate(samples, Pace.after, initial=start or begin()))


def in_a_guest(guest: Callable[[int], PaceSample], seconds: int) -> Iterator[Pace]:
    """One whose pain comes of what is taken from it."""
    pace = begin()
    for _ in range(seconds):
        pace = pace.after(guest(pace.bytes_per_second))
        yield pace


def test_a_calm_domain_is_soon_paged_out_at_full_speed() -> None:
    rates = [pace.bytes_per_second for pace in course([CALM] * 16)]
    assert rates[0] == MOST // 8
    assert rates == sorted(rates)
    assert rates[-1] == MOST


def test_lasting_pain_stops_it_within_seconds_and_it_recovers_afterwards() -> None:
    full = course([CALM] * 16)[-1]
    hurt = course([STALLED] * 7, full)
    rates = [pace.bytes_per_second for pace in hurt]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0
    after = [pace.bytes_per_second for pace in course([CALM] * 80, hurt[-1])]
    assert after[9] == 0, "the stall is ten seconds long in memory"
    assert after[-1] == MOST


def test_between_comfort_and_pain_the_rate_stays() -> None:
    rates = [pace.bytes_per_second for pace in course([CALM, PaceSample(1.0, 0.06, 0), *[CALM] * 10])]
    assert rates[1] > rates[0]
    assert set(rates[2:12]) == {rates[1]}
    assert rates[12] > rates[1]


@pytest.mark.parametrize(("pain_per_mib", "most_felt"), [(0.0002, 1), (0.001, 1), (0.01, 5)])
@pytest.mark.parametrize("delay", [0, 3, 8])
def test_against_a_guest_that_feels_it_later_the_swings_do_not_grow(
    pain_per_mib: float, most_felt: float, delay: int
) -> None:
    """Some stall per MiB taken, felt ``delay`` seconds later; the average stays within the bound.

    Unless even the slowest rate is too fast, as in the last case: then it stays near it.
    """
    taken = [0] * (delay + 1)

    def guest(rate: int) -> PaceSample:
        taken.append(rate)
        return PaceSample(1.0, min(1.0, pain_per_mib * taken[-1 - delay] / MIB), 0)

    paces = list(in_a_guest(guest, 600))
    rates = [pace.bytes_per_second for pace in paces]
    widest = [max(rates[at : at + 150]) - min(rates[at : at + 150]) for at in range(0, 600, 150)]
    assert all(later <= earlier for earlier, later in pairwise(widest[1:]))
    slo_state = sum(sample.stalled_seconds for pace in paces[300:] for sample in pace.samples[:1]) / 300
    assert slo_state <= most_felt * BOUNDS.psi_some
    assert sum(rates[300:]) > 0, "it goes on"


def test_a_guest_that_reads_back_a_share_of_it_is_held_to_its_bound_per_minute() -> None:
    """Half a page of each MiB comes back at once; unpaced that would be 1500 a minute."""
    paces = list(in_a_guest(lambda rate: PaceSample(1.0, 0.0, rate // (2 * MIB)), 600))
    assert paces[-1].promoted_pages <= 10 * 2 * BOUNDS.promoted_pages_per_minute
    assert paces[-1].bytes_per_second < MOST


def test_a_rest_ends_where_pain_does_though_comfort_is_not_reached() -> None:
    """A guest that always reads a little back, near its bound."""
    little = PaceSample(1.0, 0.0, 2)
    paces = course([*[PaceSample(1.0, 0.0, 40)] * 10, *[little] * 120])
    assert any(pace.bytes_per_second == 0 for pace in paces)
    assert 0.5 < paces[-1].pain < 1.0
    assert 0 < paces[-1].bytes_per_second < MOST // 16
    assert not any(pace.hopeless(1024 * MIB) for pace in paces)


def test_a_burst_of_promotions_counts_once_and_is_forgotten_after_a_minute() -> None:
    burst = [CALM] * 16 + [PaceSample(1.0, 0.0, 100)]
    paces = course([*burst, *[CALM] * 62])
    assert paces[len(burst)].promotions_per_minute == 100, "not 6000"
    assert not any(pace.bytes_per_second == 0 or pace.hopeless(GONE) for pace in paces)
    assert paces[-1].promotions_per_minute == 0


@pytest.mark.parametrize("working_set", [0, MIB, 8 * MIB, 64 * MIB])
def test_a_few_promotions_neither_end_nor_slow_the_page_out_of_a_small_guest(working_set: int) -> None:
    """Google's 0.2 % a minute of these are 0, 0, 4 and 32 pages: one read-ahead is eight."""
    bounds = PainBounds.of(0.01, 0.002, working_set)
    assert bounds.promoted_pages_per_minute == LEAST_PAGES_PER_MINUTE
    paces = course([PaceSample(1.0, 0.0, 8)] * 4 + [CALM] * 12, begin(bounds))
    assert paces[-1].bytes_per_second == MOST


def test_a_large_working_set_may_read_back_more() -> None:
    assert PainBounds.of(0.01, 0.002, 4096 * MIB).promoted_pages_per_minute == pytest.approx(
        4096 * MIB * 0.002 / PAGE_SIZE
    )


def test_pain_that_goes_on_at_rest_ends_it() -> None:
    paces = course([STALLED] * 40)
    ended = next(pace for pace in paces if pace.hopeless(GONE))
    assert ended.resting_seconds >= 15
    assert "memory pressure" in str(ended.hopeless(GONE))
    paging = course([PaceSample(1.0, 0.0, 20)] * 40)
    ended = next(pace for pace in paging if pace.hopeless(GONE))
    assert ended.resting_seconds >= 15
    assert "read back" in str(ended.hopeless(GONE))


def test_pain_that_a_rest_cures_does_not_end_it() -> None:
    """Two seconds' worth of pages taken wrongly come back during the first seconds of the rest."""
    paces = course([CALM, PaceSample(1.0, 0.3, 60), *[PaceSample(1.0, 0.3, 60)] * 3, *[CALM] * 100])
    assert any(pace.bytes_per_second == 0 for pace in paces)
    assert not any(pace.hopeless(GONE) for pace in paces)
    assert paces[-1].bytes_per_second == MOST


def test_what_comes_back_at_once_in_excess_of_all_that_may_ends_it() -> None:
    budget = 5 * 128
    assert begin().after(PaceSample(1.0, 0.0, budget)).hopeless(MIB) is None
    spent = begin().after(PaceSample(1.0, 0.0, budget + 1))
    assert "read back" in str(spent.hopeless(MIB))
    assert spent.hopeless(1024 * MIB) is None, "one page in four hundred"


def test_without_any_pain_allowed_none_is_none() -> None:
    strict = begin(PainBounds(psi_some=0.0, promoted_pages_per_minute=64))
    assert strict.after(CALM).pain == 0.0
    assert strict.after(STALLED).pain == math.inf


LOOKS = st.lists(
    st.builds(
        lambda seconds, share, pages: PaceSample(seconds, seconds * share, pages),
        st.floats(0.05, 30.0),
        st.floats(0.0, 1.0),
        st.integers(0, 2000),
    ),
    max_size=80,
)
ANY_BOUNDS = st.builds(PainBounds, psi_some=st.floats(0.0, 1.0), promoted_pages_per_minute=st.floats(64, 1e6))


@given(LOOKS, ANY_BOUNDS, st.integers(1, 1 << 40))
def test_it_never_leaves_its_bounds_and_pain_never_raises_it(
    samples: list[PaceSample], bounds: PainBounds, most: int
) -> None:
    for before, after in pairwise(course(samples, begin(bounds, most))):
        assert 0 <= after.bytes_per_second <= most
        if after.pain > 1.0:
            assert after.bytes_per_second <= before.bytes_per_second // 2
        assert (after.resting_seconds > 0) == (after.bytes_per_second == 0)
        assert sum(sample.seconds for sample in after.samples[:-1]) < 60


@given(LOOKS, ANY_BOUNDS, st.integers(1, 1 << 40))
def test_from_wherever_it_is_two_calm_minutes_bring_it_to_full_speed(
    samples: list[PaceSample], bounds: PainBounds, most: int
) -> None:
    last = course(samples, begin(bounds, most))[-1]
    assert course([CALM] * 120, last)[-1].bytes_per_second == most


@given(LOOKS, st.integers(0, 79))
def test_more_pain_never_makes_it_faster(samples: list[PaceSample], which: int) -> None:
    worse = [
        sample._replace(stalled_seconds=sample.seconds, promoted_pages=sample.promoted_pages + 500)
        if index == which
        else sample
        for index, sample in enumerate(samples)
    ]
    for mild, hard in zip(course(samples), course(worse), strict=True):
        assert hard.pain >= mild.pain - 1e-9
        assert hard.bytes_per_second <= mild.bytes_per_second
