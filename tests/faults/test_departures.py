"""A guest may leave at any moment, and its pid may be given to somebody else: nobody else pays for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit.errors import StalePlan
from overcommit.model.action import PageoutAction, subject_of
from overcommit.model.outcome import Status
from overcommit.model.plan import Plan
from overcommit.testing import FakeGuest
from tests.faults.conftest import Installation, install

Leaving = Callable[[Installation, FakeGuest], None]


def vanish(installation: Installation, guest: FakeGuest) -> None:
    """Its QEMU process ends."""
    installation.host.guests[:] = [other for other in installation.host.guests if other is not guest]


def be_followed_by_a_stranger(installation: Installation, guest: FakeGuest) -> None:
    """Its QEMU process ends, and the pid goes to another virtual machine, idle and just like it."""
    vanish(installation, guest)
    installation.host.guests.append(
        FakeGuest(
            name="stranger",
            uuid="00000000-0000-0000-0000-00000000000f",
            pid=guest.pid,
            start_time=guest.start_time + 5,
            memory_bytes=guest.memory_bytes,
            resident=set(range(100)),
        )
    )


def restart(installation: Installation, guest: FakeGuest) -> None:
    """Ended and started again under the same pid: the same domain, another life."""
    be_followed_by_a_stranger(installation, guest)
    stranger = installation.host.guests[-1]
    stranger.name, stranger.uuid = guest.name, guest.uuid


class Occasion:
    """The k-th time that the program looks at one guest."""

    def __init__(self, installation: Installation, name: str, turn: int, leaving: Leaving) -> None:
        self.happened = False
        self.at = 0.0
        self._guest = next(guest for guest in installation.host.guests if guest.name == name)
        looks = itertools.count(1)

        def look(path: str) -> None:
            concerns = str(self._guest.pid) in path or self._guest.name in path
            if concerns and not self.happened and next(looks) == turn:
                self.happened = True
                self.at = installation.host.uptime
                leaving(installation, self._guest)

        installation.host.on_read = look


def untouched(installation: Installation, plan: Plan) -> None:
    """Who came after a domain of the plan has lost nothing."""
    known = {(domain.incarnation.pid, domain.incarnation.start_time) for domain in plan.domains}
    for guest in installation.host.guests:
        if (guest.pid, guest.start_time) not in known:
            assert len(guest.resident) == 100, f"{guest.name} was paged out"
            assert guest.balloon_target_bytes == guest.memory_bytes, f"{guest.name} was ballooned"


@pytest.mark.parametrize("leaving", [vanish, restart, be_followed_by_a_stranger])
@pytest.mark.parametrize(("name", "other"), [("cold", "free"), ("free", "cold")])
def test_a_guest_that_leaves_at_any_look_during_apply_costs_the_other_nothing(
    tmp_path: Path, actor: str, name: str, other: str, leaving: Leaving
) -> None:
    """For each k: it leaves at the k-th look; the plan is refused, or the other's action is carried out."""
    refused = carried_out = 0
    for turn in itertools.count(1):
        installation = install(tmp_path / str(turn), actor)
        modules = dict(installation.kernel.damon.modules)
        plan = installation.plan()
        occasion = Occasion(installation, name, turn, leaving)
        try:
            report = installation.apply(plan)
        except StalePlan:
            refused += 1
        else:
            outcomes = {subject_of(o.action): o for o in report.outcomes}
            assert outcomes[other].status is Status.DONE, turn
            if occasion.happened:
                carried_out += 1
        untouched(installation, plan)
        assert installation.kernel.damon.running == {}
        assert installation.kernel.damon.modules == modules
        installation.restore()
        untouched(installation, plan)
        assert installation.outstanding == 0
        if not occasion.happened:
            break
    assert refused, "nothing was tried before the plan was found fresh"
    assert carried_out > 5, "nothing was tried after it"


@pytest.mark.parametrize("leaving", [restart, be_followed_by_a_stranger])
def test_what_was_seen_of_one_life_is_not_held_against_the_next(
    tmp_path: Path, actor: str, leaving: Leaving
) -> None:
    """For each k: the watched guest is replaced at the k-th look; its successor was never watched in full."""
    for turn in itertools.count(1):
        installation = install(tmp_path / str(turn), actor)
        first = installation.host.guests[0]
        began = installation.host.uptime
        occasion = Occasion(installation, first.name, turn, leaving)
        plan = installation.plan()
        if not occasion.happened:
            break
        paged_out = {a.domain.start_time for a in plan.actions if isinstance(a, PageoutAction)}
        watched_in_full = occasion.at == began
        assert watched_in_full or first.start_time + 5 not in paged_out, turn
    assert turn > 20


@pytest.mark.parametrize("name", ["cold", "free"])
def test_a_guest_that_leaves_at_any_look_during_plan_is_left_out(
    tmp_path: Path, actor: str, name: str
) -> None:
    """For each k: it leaves at the k-th look; what is planned for it then is refused, and DAMON is free."""
    for turn in itertools.count(1):
        installation = install(tmp_path / str(turn), actor)
        found = installation.baseline(guests=False)
        occasion = Occasion(installation, name, turn, vanish)
        plan = installation.plan()
        assert installation.baseline(guests=False) == found
        if not occasion.happened:
            break
        others = {subject_of(action) for action in plan.actions} - {name}
        assert len(others) == 1, turn
        if name in {subject_of(action) for action in plan.actions}:
            with pytest.raises(StalePlan, match=name):
                installation.apply(plan)
    assert turn > 10


@pytest.mark.parametrize("leaving", [vanish, restart, be_followed_by_a_stranger])
def test_the_balloon_of_a_guest_that_left_needs_no_restore(
    installation: Installation, leaving: Leaving
) -> None:
    plan = installation.plan()
    installation.apply(plan)
    leaving(installation, installation.host.guests[1])
    restored = installation.restore()
    assert restored.left == ()
    assert any("free" in sentence and "needs nothing" in sentence for sentence in restored.done)
    untouched(installation, plan)
    assert installation.outstanding == 0


def test_a_plan_for_another_boot_is_refused_and_its_journal_settled(installation: Installation) -> None:
    plan = installation.plan()
    installation.apply(plan)
    balloon = installation.host.guests[1].balloon_target_bytes
    installation.host.boot_id = "99999999-2222-3333-4444-555555555555"
    with pytest.raises(StalePlan, match="rebooted"):
        installation.apply(plan)
    assert installation.restore().done == ()
    assert installation.outstanding == 0
    assert installation.host.guests[1].balloon_target_bytes == balloon
