"""How long a balloon is left alone, after any past."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model.history import RELEASE, RESTORE, Event
from overcommit.model.moments import Wall
from overcommit.model.outcome import Fault, Status
from overcommit.model.past import Quarantine
from overcommit.plan.quarantine import quarantines
from tests.scenarios import NOW, incarnation

DAY = 86400.0
LIVES = [incarnation("web"), incarnation("web", start_time=1001), incarnation("db", pid=7)]
FAILURES = [(Status.PARTIAL, fault) for fault in (Fault.STUCK, Fault.SILENT, Fault.PAIN)]
FAILURES.append((Status.UNDONE, Fault.PHANTOM))
KINDS = st.sampled_from(
    [
        *(("balloon", status, fault) for status, fault in FAILURES),
        ("balloon", Status.DONE, None),
        ("balloon", Status.FAILED, None),
        ("pageout", Status.DONE, None),
        (RELEASE, Status.DONE, None),
        (RESTORE, Status.DONE, None),
    ]
)


def event(ago: float, kind: str, status: Status, fault: Fault | None, life: int = 0) -> Event:
    return Event(
        at=NOW - ago, boot_id="b", run="r", kind=kind, status=status, fault=fault, domain=LIVES[life]
    )


def failed(ago: float, fault: Fault, reached_bytes: int | None = None) -> Event:
    return dataclasses.replace(event(ago, "balloon", Status.PARTIAL, fault), reached_bytes=reached_bytes)


PASTS = st.lists(st.tuples(st.floats(0, 3 * DAY), KINDS, st.integers(0, 2)), max_size=12).map(
    lambda found: [event(ago, *kind, life) for ago, kind, life in sorted(found, key=lambda f: f[0])]
)
"""Newest first, as the clock ran."""


def until(found: tuple[Quarantine, ...], life: int) -> Wall:
    """When it ends; a time before now when there is none."""
    return max((q.until for q in found if q.domain == LIVES[life]), default=NOW - 1)


@given(past=PASTS, back=st.floats(-3 * DAY, 3 * DAY))
def test_never_longer_than_a_day_whatever_the_clock_did(past: list[Event], back: float) -> None:
    now = NOW + back
    assert all(0 < q.until - now <= DAY for q in quarantines(past, now))


@given(past=PASTS)
def test_one_more_failure_never_shortens_it(past: list[Event]) -> None:
    for status, fault in FAILURES:
        more = [event(0, "balloon", status, fault), *past]
        assert until(quarantines(more, NOW), 0) >= max(until(quarantines(past, NOW), 0), NOW + 600)


@given(past=PASTS, later=st.floats(0, 2 * DAY))
def test_time_ends_it(past: list[Event], later: float) -> None:
    """And moves its end nowhere."""
    now, then = quarantines(past, NOW), quarantines(past, NOW + later)
    assert {q.domain: q.until for q in then} == {q.domain: q.until for q in now if q.until > NOW + later}
    assert quarantines(past, NOW + DAY) == ()


@given(past=PASTS)
def test_no_domain_answers_for_another(past: list[Event]) -> None:
    for life in range(3):
        alone = [e for e in past if e.domain == LIVES[life]]
        mine = tuple(q for q in quarantines(past, NOW) if q.domain == LIVES[life])
        assert quarantines(alone, NOW) == mine


@given(past=PASTS, ending=st.sampled_from([("balloon", Status.DONE), (RELEASE, Status.DONE)]))
def test_success_and_an_operator_end_it(past: list[Event], ending: tuple[str, Status]) -> None:
    kind, status = ending
    found = quarantines([event(0, kind, status, None), *past], NOW)
    assert [q for q in found if q.domain == LIVES[0]] == []


def test_each_failure_makes_the_next_one_longer() -> None:
    def length(*faults: Fault) -> float:
        past = [failed(0, fault) for fault in faults]
        ends_at: Wall = until(quarantines(past, NOW), 0)
        return ends_at - NOW

    stuck = [length(*[Fault.STUCK] * n) for n in (1, 2, 3, 4, 5, 5000)]
    assert [minutes / 60 for minutes in stuck] == [10, 40, 160, 640, 1440, 1440]
    pain = [length(*[Fault.PAIN] * n) for n in (1, 2, 3, 6, 7, 5000)]
    assert [minutes / 60 for minutes in pain] == [10, 20, 40, 320, 360, 360]
    assert length(Fault.PAIN, Fault.STUCK, Fault.STUCK) == 2400, "the longer of the two counts"


def test_the_reason_is_for_operators() -> None:
    reasons = {
        Fault.STUCK: "its balloon stood still at 512 MiB 5min ago",
        Fault.SILENT: "its balloon driver stopped answering 5min ago",
        Fault.PAIN: "the guest ran short of memory when its balloon took some 5min ago",
        Fault.PHANTOM: "its balloon took memory from the guest, but the host got nothing 5min ago",
    }
    for fault, reason in reasons.items():
        one = failed(300, fault, reached_bytes=512 << 20)
        assert [q.reason for q in quarantines([one], NOW)] == [reason]
        two = quarantines([one, failed(400, fault, reached_bytes=0)], NOW)
        assert [q.reason for q in two] == [f"{reason}, 2 times in a row"]
