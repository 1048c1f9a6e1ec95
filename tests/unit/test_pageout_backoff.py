"""What is not tried again at once, and for how long."""

from __future__ import annotations

from overcommit.daemon.pageout_backoff import PageoutBackoff
from overcommit.model.action import Action, BalloonAction, PageoutAction
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome, Status
from overcommit.model.policy import PageoutActor
from overcommit.units import MIB

WEB = Incarnation(uuid="web", name="web", pid=1, start_time=1)
OTHER = Incarnation(uuid="other", name="other", pid=2, start_time=2)


def page_out(who: Incarnation = WEB) -> PageoutAction:
    return PageoutAction(
        id="p",
        domain=who,
        before_bytes=300 * MIB,
        after_bytes=200 * MIB,
        expected_bytes=100 * MIB,
        reason="cold",
        because="",
        risk="",
        actor=PageoutActor.COLD_HINT_RECLAIM,
        cold_after_seconds=30.0,
        max_bytes_per_second=MIB,
        psi_some_limit=0.01,
        promotions_limit=0.01,
        working_set_bytes=MIB,
        expected_promotions_per_minute=0.0,
        pieces=(),
    )


def outcome(freed_mib: int, who: Incarnation = WEB, status: Status = Status.PARTIAL) -> Outcome:
    return Outcome(
        action=page_out(who),
        status=status,
        freed_bytes=freed_mib * MIB,
        promoted_pages=0,
        seconds=20.0,
        detail="nothing more of it was still idle",
    )


def test_what_was_worth_it_may_go_on_at_once() -> None:
    backoff = PageoutBackoff()
    backoff.ended(outcome(25), Monotonic(0.0))
    assert not backoff.waits(page_out(), Monotonic(0.0))


def test_nothing_is_in_vain_where_the_guest_had_given_all_of_it_itself() -> None:
    backoff = PageoutBackoff()
    backoff.ended(outcome(0), Monotonic(0.0))
    backoff.ended(outcome(0, status=Status.DONE), Monotonic(10.0))
    assert not backoff.waits(page_out(), Monotonic(10.0))


def test_each_in_vain_doubles_the_wait_up_to_half_an_hour() -> None:
    backoff, now, waits = PageoutBackoff(), 0.0, []
    for _ in range(8):
        backoff.ended(outcome(24), Monotonic(now))
        began = now
        while backoff.waits(page_out(), Monotonic(now)):
            now += 1.0
        waits.append(now - began)
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_one_that_was_worth_it_starts_anew() -> None:
    backoff = PageoutBackoff()
    backoff.ended(outcome(0), Monotonic(0.0))
    backoff.ended(outcome(0), Monotonic(100.0))
    backoff.ended(outcome(90), Monotonic(400.0))
    assert not backoff.waits(page_out(), Monotonic(400.0))
    backoff.ended(outcome(0), Monotonic(500.0))
    assert backoff.waits(page_out(), Monotonic(559.0))
    assert not backoff.waits(page_out(), Monotonic(560.0))


def test_others_and_other_actions_do_not_wait_for_it() -> None:
    backoff = PageoutBackoff()
    backoff.ended(outcome(0), Monotonic(0.0))
    assert backoff.waits(page_out(), Monotonic(1.0))
    assert not backoff.waits(page_out(OTHER), Monotonic(1.0))
    balloon: Action = BalloonAction(
        id="b", domain=WEB, before_bytes=2, after_bytes=1, expected_bytes=1, reason="", because="", risk=""
    )
    assert not backoff.waits(balloon, Monotonic(1.0))


def test_the_dead_are_forgotten() -> None:
    backoff = PageoutBackoff()
    backoff.ended(outcome(0), Monotonic(0.0))
    backoff.ended(outcome(0, OTHER), Monotonic(0.0))
    backoff.keep({OTHER})
    assert not backoff.waits(page_out(), Monotonic(1.0))
    assert backoff.waits(page_out(OTHER), Monotonic(1.0))
