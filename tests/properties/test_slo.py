"""The controller of a domain's objective, after whatever was felt."""

from __future__ import annotations

from functools import reduce
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model.policy import DomainClass, ServiceObjective
from overcommit.slo import SloSample, Throttle
from overcommit.units import GIB

CLASSES = st.builds(
    DomainClass,
    name=st.just("any"),
    floor=st.just(0.25),
    cold_after_seconds=st.floats(1.0, 100_000.0),
    weight=st.just(1.0),
    objective=st.builds(
        ServiceObjective, promotions_per_minute=st.floats(0.0, 1.0), psi_some=st.floats(0.0, 1.0)
    ),
    actuators=st.just(frozenset()),
)
COUNTS = st.none() | st.integers(0, 5) | st.integers(0, 10**7)
BYTES = st.none() | st.integers(0, 64 * GIB)
FEELINGS = st.builds(
    SloSample,
    seconds=st.sampled_from([0.0, 0.5, 5.0, 60.0, 3600.0]) | st.floats(0.01, 100_000.0),
    promoted_pages=COUNTS,
    stalled_seconds=st.none() | st.just(0.0) | st.floats(0.0, 100_000.0),
    working_set_bytes=BYTES,
    cooling_pages_per_minute=st.none() | st.floats(0.0, 1e7),
    out_bytes=st.integers(0, 64 * GIB),
    taking=st.booleans(),
    reduced=st.booleans(),
    usable_bytes=BYTES,
    reserve_bytes=st.integers(0, 64 * GIB),
    swap_in_bytes=BYTES,
    major_faults=COUNTS,
)
LIVES = st.lists(FEELINGS, max_size=40)


def course(of: DomainClass, life: list[SloSample]) -> list[Throttle]:
    return list(accumulate(life, Throttle.after, initial=Throttle.begin(of)))


@given(CLASSES, LIVES)
def test_it_never_leaves_its_bounds(of: DomainClass, life: list[SloSample]) -> None:
    longest = max(of.cold_after_seconds, min(16 * of.cold_after_seconds, 6 * 3600.0))
    for throttle in course(of, life):
        restraint = throttle.restraint
        assert of.cold_after_seconds <= restraint.cold_after_seconds <= longest
        assert 1 / 16 <= restraint.step_share <= 1
        assert restraint.sentence
        assert 0 <= throttle.outside_share <= 1
        assert 0 <= throttle.relapses <= 6
        assert 0 <= throttle.notches <= 8
        assert len(throttle.cause) < 200


@given(CLASSES, LIVES)
def test_pain_stops_it_within_the_tick_and_never_eases_it(of: DomainClass, life: list[SloSample]) -> None:
    for sample, (before, after) in zip(life, pairwise(course(of, life)), strict=True):
        if sample.seconds > 0 and after.pain is not None and after.pain > 1:
            assert after.restraint.why_not is not None
            assert after.notches >= before.notches
            assert after.step_share <= before.step_share
            if before.restraint.why_not is None:
                assert after.step_share == max(1 / 16, before.step_share / 2)


@given(CLASSES, LIVES)
def test_it_eases_a_little_at_a_time(of: DomainClass, life: list[SloSample]) -> None:
    for before, after in pairwise(course(of, life)):
        assert after.notches >= before.notches - 1
        assert after.notches <= before.notches + 2
        assert after.step_share <= before.step_share + 1 / 8


@given(CLASSES, LIVES, FEELINGS, st.data())
def test_more_pain_never_loosens_it(
    of: DomainClass, life: list[SloSample], mild: SloSample, data: st.DataObject
) -> None:
    """Whatever was before: of two ticks that differ in one figure, the worse one leaves no more to take."""
    pages = data.draw(st.integers(0, 10**6))
    worse: dict[str, object] = {"promoted_pages": (mild.promoted_pages or 0) + pages}
    hard = mild._replace(
        **data.draw(  # type: ignore[arg-type]
            st.sampled_from(
                [
                    worse,
                    {"stalled_seconds": (mild.stalled_seconds or 0.0) + mild.seconds / 2},
                    {"usable_bytes": (mild.usable_bytes or 0) // 2},
                    {"swap_in_bytes": (mild.swap_in_bytes or 0) + 4096 * pages},
                ]
            )
        ),
    )
    readable = [
        (mild.promoted_pages, hard.promoted_pages),
        (mild.stalled_seconds, hard.stalled_seconds),
    ]
    if any(before is None and now is not None for before, now in readable):
        return  # to see nothing is worse than to see some pain
    start = reduce(Throttle.after, life, Throttle.begin(of))
    milder, harder = start.after(mild).restraint, start.after(hard).restraint
    assert harder.cold_after_seconds >= milder.cold_after_seconds
    assert harder.step_share <= milder.step_share
    assert harder.why_not is not None or milder.why_not is None


@given(CLASSES, LIVES, st.integers(1, 20))
def test_seeing_nothing_changes_nothing_but_that_nothing_is_taken(
    of: DomainClass, life: list[SloSample], ticks: int
) -> None:
    nothing = SloSample(
        seconds=3600.0,
        promoted_pages=None,
        stalled_seconds=None,
        working_set_bytes=None,
        cooling_pages_per_minute=None,
        out_bytes=GIB,
        taking=True,
        reduced=True,
        usable_bytes=None,
        reserve_bytes=GIB,
        swap_in_bytes=None,
        major_faults=None,
    )
    before = reduce(Throttle.after, life, Throttle.begin(of))
    after = reduce(Throttle.after, [nothing] * ticks, before)
    assert after.restraint.why_not is not None
    assert (after.notches, after.step_share) == (before.notches, before.step_share)
    assert after.rested_seconds == before.rested_seconds
