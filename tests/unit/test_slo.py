"""The controller of a domain's objective: its answer to pain, comfort and gaps, and simulated days."""

from __future__ import annotations

import dataclasses
import functools
import math
from itertools import accumulate, repeat

import pytest

from integration.bench.slo import STANDARD
from overcommit.slo import SloSample, Throttle
from overcommit.slo.samples import LastMinute
from overcommit.testing.simulated_guest import GUESTS, NIGHTLY, QUIET, STEP, WORKER, Days, live
from overcommit.units import MIB

HOUR = 3600.0
CALM = SloSample(
    seconds=5.0,
    promoted_pages=0,
    stalled_seconds=0.0,
    working_set_bytes=1024 * MIB,
    cooling_pages_per_minute=None,
    out_bytes=512 * MIB,
    taking=False,
    reduced=True,
    usable_bytes=2048 * MIB,
    reserve_bytes=400 * MIB,
    swap_in_bytes=0,
    major_faults=0,
)
LIMIT = 524
"""0.2 % of the working set, in pages a minute; PSI may be 1 %."""
PAINS: dict[str, tuple[dict[str, int | float], str]] = {
    "promotions": ({"promoted_pages": LIMIT + 1}, "525 pages were read back in a minute, limit 524"),
    "stall": ({"stalled_seconds": 0.7}, "memory pressure was 1.17%, limit 1%"),
    "shortage": ({"usable_bytes": 199 * MIB}, "the guest has 199 MiB available; it needs 400 MiB"),
    "no memory": ({"usable_bytes": 0}, "the guest has 0 B available"),
    "guest swap-in": ({"swap_in_bytes": 525 * 4096}, "the guest read 525 pages from its own swap"),
    "faults": (
        {"major_faults": 525, "usable_bytes": 300 * MIB},
        "the guest is short of memory and had 525 major faults",
    ),
}


def add_sample(**changes: object) -> SloSample:
    return CALM._replace(**changes)  # type: ignore[arg-type]


def after(throttle: Throttle, sample: SloSample, seconds: float = 5.0) -> Throttle:
    """The grip when it went on like that for so long; hours of it are felt minute by minute."""
    if seconds >= HOUR:
        sample = sample._replace(seconds=60.0)
    return functools.reduce(Throttle.after, repeat(sample, round(seconds / sample.seconds)), throttle)


def hurt(throttle: Throttle | None = None) -> Throttle:
    return (throttle or Throttle.begin(STANDARD)).after(add_sample(promoted_pages=LIMIT + 1))


BEGUN = Throttle.begin(STANDARD).after(CALM)


def test_a_calm_domain_is_held_to_its_class_alone() -> None:
    restraint = BEGUN.restraint
    assert (restraint.cold_after_seconds, restraint.step_share, restraint.why_not) == (120.0, 1.0, None)
    assert restraint.sentence == "not throttled: takes what was idle for 2min (its class)"
    assert after(BEGUN, CALM, 8 * HOUR).restraint == restraint, "the class is the most that is allowed"


@pytest.mark.parametrize("name", PAINS)
def test_any_pain_stops_taking_within_the_tick_and_tightens_once(name: str) -> None:
    changes, why = PAINS[name]
    throttle = BEGUN.after(add_sample(**changes))
    assert throttle.pain is not None
    assert throttle.pain > 1.0
    assert throttle.restraint.why_not is not None
    assert throttle.restraint.why_not.startswith(why)
    assert throttle.restraint.why_not.endswith("Nothing is taken for 1min more within its SLO")
    assert throttle.restraint.cold_after_seconds == pytest.approx(240.0)
    assert throttle.restraint.step_share == 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"promoted_pages": LIMIT},
        {"stalled_seconds": 0.6},
        {"usable_bytes": 200 * MIB},
        {"major_faults": 100_000},
        {"reduced": False, "usable_bytes": 0, "swap_in_bytes": 1 << 40},
    ],
    ids=["at the bound", "at the bound of stall", "half its reserve", "reading files", "not our doing"],
)
def test_what_is_no_pain(changes: dict[str, object]) -> None:
    assert BEGUN.after(add_sample(**changes)).restraint == BEGUN.restraint


def test_a_small_working_set_may_always_read_a_few_pages_back() -> None:
    small = Throttle.begin(STANDARD)
    some, more = (add_sample(working_set_bytes=8 * MIB, promoted_pages=pages) for pages in (64, 65))
    assert small.after(some).restraint.why_not is None
    assert small.after(more).restraint.why_not is not None


def test_one_burst_however_large_tightens_once_and_is_forgotten_within_two_minutes() -> None:
    throttle = after(BEGUN.after(add_sample(promoted_pages=1_000_000)), CALM, 115)
    assert throttle.cold_after_seconds == pytest.approx(240.0)
    assert after(throttle, CALM, 10).slo_state.promoted == LastMinute(15.0, 0.0, 0.0)
    assert after(throttle, CALM, 70).restraint.why_not is None


def test_pain_that_goes_on_tightens_each_two_minutes_up_to_a_bound() -> None:
    hurting = add_sample(promoted_pages=LIMIT)
    throttles = list(accumulate(repeat(hurting, 360), Throttle.after, initial=hurt()))
    times = [round(throttle.cold_after_seconds) for throttle in throttles]
    assert times == sorted(times)
    assert [times[at] for at in (0, 23, 24, 48, 72, 360)] == [240, 240, 480, 960, 1920, 1920]
    assert throttles[-1].step_share == 1 / 16
    assert throttles[-1].relapses == pytest.approx(1.0, rel=0.1), "one pain, if a long one"


def test_memory_is_never_asked_to_be_idle_for_longer_than_six_hours() -> None:
    slow = dataclasses.replace(STANDARD, cold_after_seconds=HOUR)
    throttle = after(Throttle.begin(slow), add_sample(promoted_pages=2 * LIMIT), HOUR)
    assert throttle.cold_after_seconds == 6 * HOUR
    slower = throttle.under(dataclasses.replace(STANDARD, cold_after_seconds=7 * HOUR))
    assert slower.cold_after_seconds == 7 * HOUR, "unless the class says so"
    assert after(slower, CALM, 20 * HOUR).cold_after_seconds == 7 * HOUR


def test_taking_begins_again_after_a_rest_that_grows_with_each_relapse() -> None:
    throttle, rests = BEGUN, []
    for _ in range(8):
        throttle = hurt(after(throttle, CALM, 120))
        rests.append(0)
        while throttle.restraint.why_not is not None:
            throttle = throttle.after(CALM)
            rests[-1] += 5
    assert rests == sorted(rests)
    assert 60 <= rests[0] <= 180
    assert 29 * 60 < rests[-1] <= 32 * 60


def test_a_guest_that_always_reads_a_little_back_does_not_rest_for_ever() -> None:
    uneasy = add_sample(promoted_pages=30)  # 360 a minute: 0.7 of the bound
    throttle = after(hurt(), CALM, 60)
    assert after(throttle, uneasy, 120).restraint.why_not is not None
    assert after(throttle, uneasy, 300).restraint.why_not is None


def test_comfort_eases_slowly_and_only_while_memory_is_out() -> None:
    throttle = after(hurt(), CALM, 240)
    idle = after(throttle, add_sample(out_bytes=0), 24 * HOUR)
    assert idle.cold_after_seconds == throttle.cold_after_seconds, "nothing was tried"
    assert "eases after" in throttle.restraint.sentence
    eased = after(throttle, CALM, HOUR / 2)
    assert eased.cold_after_seconds == pytest.approx(240 / math.sqrt(2))
    assert eased.step_share == 0.625
    assert after(throttle, CALM, 3 * HOUR).restraint == BEGUN.restraint
    assert after(throttle, add_sample(out_bytes=0, taking=True), 3 * HOUR).restraint == BEGUN.restraint


def test_each_relapse_makes_the_next_trial_longer() -> None:
    once = after(hurt(), CALM, 240)
    twice = after(hurt(once), CALM, 480)
    assert after(once, CALM, 0.55 * HOUR).notches == once.notches - 1
    assert after(twice, CALM, 0.55 * HOUR).notches == twice.notches
    assert after(twice, CALM, 1.1 * HOUR).notches == twice.notches - 1


def test_it_looks_before_it_eases() -> None:
    throttle = after(hurt(), CALM, 240)
    warned = add_sample(cooling_pages_per_minute=LIMIT + 1.0)
    assert after(throttle, add_sample(cooling_pages_per_minute=LIMIT - 1.0), HOUR).notches < throttle.notches
    assert after(throttle, warned, 7 * HOUR).notches == throttle.notches
    assert after(throttle, warned, 9 * HOUR).notches < throttle.notches, "a guess must be tried at last"


def test_a_gap_is_neither_comfort_nor_pain() -> None:
    unknown = add_sample(promoted_pages=None, stalled_seconds=None)
    resting = hurt()
    assert resting.after(unknown).restraint.why_not is not None
    assert after(resting, unknown, 24 * HOUR).rested_seconds == 0.0
    tight = after(hurt(), CALM, 240)
    assert after(tight, unknown, 24 * HOUR).notches == tight.notches
    assert "known" in str(after(tight, unknown).restraint.why_not)
    assert after(tight, unknown).after(CALM).restraint.why_not is None


def test_one_of_the_hosts_figures_is_enough() -> None:
    assert BEGUN.after(add_sample(promoted_pages=None)).restraint.why_not is None
    assert BEGUN.after(add_sample(stalled_seconds=None)).restraint.why_not is None
    assert BEGUN.after(add_sample(promoted_pages=None, stalled_seconds=0.7)).restraint.why_not is not None


def test_promotions_say_nothing_before_the_working_set_is_known_and_the_last_known_one_serves() -> None:
    fresh = Throttle.begin(STANDARD).after(add_sample(working_set_bytes=None, promoted_pages=9999))
    assert fresh.restraint.why_not is None, "pressure is known, and none"
    assert fresh.after(add_sample(working_set_bytes=None, stalled_seconds=None)).restraint.why_not is not None
    assert BEGUN.after(add_sample(working_set_bytes=None, promoted_pages=9999)).restraint.why_not is not None


def test_what_the_guest_says_does_not_stand_in_for_what_the_host_sees() -> None:
    blind = Throttle.begin(STANDARD).after(add_sample(promoted_pages=None, stalled_seconds=None))
    assert blind.restraint.why_not == "its read-backs and its memory pressure are not known"
    assert blind.pain == pytest.approx(200 / 2048)
    pained = blind.after(add_sample(promoted_pages=None, stalled_seconds=None, usable_bytes=MIB))
    assert pained.cold_after_seconds == pytest.approx(240.0)


def test_the_share_of_time_outside_its_bounds_is_the_last_days() -> None:
    assert BEGUN.outside_share == 0.0
    half = after(after(BEGUN, add_sample(usable_bytes=0), HOUR), CALM, HOUR)
    assert half.outside_share == pytest.approx(0.5, abs=0.02)
    assert after(half, CALM, 48 * HOUR).outside_share < 0.03


def test_no_time_says_nothing() -> None:
    assert BEGUN.after(add_sample(seconds=0.0, promoted_pages=9999)) == BEGUN


@pytest.mark.parametrize("seconds", [1.0, 5.0, 7.0, 60.0, 600.0])
def test_a_steady_rate_reads_as_what_it_is_however_often_one_looks(seconds: float) -> None:
    last_minute = functools.reduce(lambda sum_, _: sum_.after(seconds * 2, seconds), range(500), LastMinute())
    assert last_minute.total == pytest.approx(120, rel=0.12)


# Step responses; `python -m integration.bench.slo` has the figures, of which less is asserted here.


@functools.cache
def lived(name: str, *, controlled: bool = True) -> Days:
    guest = next(guest for guest in GUESTS if guest.name == name)
    return live(guest, STANDARD, hours=24.0 if controlled else 4.0, controlled=controlled)


def test_a_quiet_guest_gives_all_that_it_does_not_use() -> None:
    days = lived(QUIET.name)
    assert days.saved_share > 0.7
    assert days.outside_share < 0.01


def test_a_working_set_that_doubles_hurts_for_minutes_and_is_left_alone() -> None:
    days = lived(STEP.name)
    outside = [at for at, m in enumerate(days.minutes) if m.promoted_pages > m.pages_limit]
    assert outside
    assert {at // 10 for at in outside} == {36}, "within ten minutes of 6 o'clock, and never again"
    assert days.minutes[370].cold_after_seconds >= 240
    assert days.minutes[-1].cold_after_seconds == 120.0
    assert days.minutes[-1].out_bytes > 0.7 * STEP.size_bytes, "it is taken again when it is idle again"


def test_memory_that_is_used_just_after_it_is_cold_makes_no_oscillation() -> None:
    controlled, fixed = lived(WORKER.name), lived(WORKER.name, controlled=False)
    assert fixed.outside_share > 0.9
    assert controlled.outside_share < 0.01
    assert controlled.turns <= 6
    assert sum(controlled.per_hour) / 24 < sum(fixed.per_hour) / 4 / 100
    idle_share = WORKER.idle_bytes / WORKER.size_bytes
    assert controlled.saved_share > 0.9 * idle_share, "what is truly idle is out all the same"


def test_a_nightly_batch_hurts_once_and_the_day_is_used() -> None:
    controlled, fixed = lived(NIGHTLY.name), lived(NIGHTLY.name, controlled=False)
    assert controlled.outside_share < 0.02
    assert sum(controlled.per_hour[2:4]) < sum(fixed.per_hour[2:4]) / 5
    assert controlled.turns <= 4
    assert controlled.saved_share > 0.65
