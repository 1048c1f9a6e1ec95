"""A domain that comes from another host, or from a file it was saved to, with memory taken from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.errors import HostError
from overcommit.testing import Behaviour, FakeGuest, FakeHypervisor
from overcommit.units import MIB
from tests.faults.conftest import guests
from tests.faults.daemon import Disk, World

BEFORE, GAVE = 128 * MIB, 48 * MIB


@pytest.fixture
def guest() -> FakeGuest:
    """It gave 48 of its 128 MiB where it was, which the journal here knows nothing of."""
    (_, guest) = guests()
    guest.claim = {"balloon": BEFORE}
    guest.balloon_bytes = guest.balloon_target_bytes = BEFORE - GAVE
    guest.resident, guest.free = set(range(79)), set()
    guest.hot = set(guest.resident)
    guest.report()
    return guest


@pytest.fixture
def world(tmp_path: Path, disk: Disk, guest: FakeGuest) -> World:
    del disk
    return World(tmp_path, inhabitants=[guest])


def test_a_daemon_gives_it_back_what_it_gave_elsewhere(world: World, guest: FakeGuest) -> None:
    """It arrives with next to nothing available: without a record of its own size it would stay so."""
    daemon = world.daemon()
    daemon.run_for(20)
    assert daemon.has_said("free arrived after another host took 48.0 MiB of its balloon")
    assert guest.balloon_target_bytes > BEFORE - GAVE
    daemon.stop()
    assert world.verbs.restore().left == ()
    assert (guest.balloon_target_bytes, guest.claim) == (BEFORE, {})


def test_a_command_does_likewise_and_restore_brings_it_back(world: World, guest: FakeGuest) -> None:
    plan = world.verbs.plan()
    assert world.verbs.past().taken_from(plan.domains[0].incarnation) == GAVE
    assert any("guest has only" in action.because for action in plan.actions)
    world.verbs.plan()
    assert world.verbs.outstanding == 1, "once is enough"
    assert world.verbs.restore().left == ()
    assert (guest.balloon_target_bytes, guest.claim) == (BEFORE, {})
    assert world.verbs.plan().actions == ()
    assert world.verbs.outstanding == 0


@pytest.mark.parametrize(
    "claim", [{}, {"balloon": BEFORE - GAVE}, {"balloon": 1 << 50}, {"device x": BEFORE}]
)
def test_what_somebody_else_has_set_is_not_ours_to_raise(
    world: World, guest: FakeGuest, claim: dict[str, int]
) -> None:
    guest.claim = claim
    daemon = world.daemon()
    daemon.run_for(120)
    assert not daemon.taken_from(guest)
    assert guest.balloon_target_bytes == BEFORE - GAVE


def test_what_is_taken_here_is_carried_and_what_is_given_back_is_not(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = World(tmp_path)
    guest = world.host.guests[1]
    daemon = world.daemon()
    daemon.run_for(150)
    assert daemon.taken_from(guest)
    assert guest.claim == {"balloon": BEFORE}
    guest.start_time += 1000  # saved, and started again
    daemon.run_for(90)
    assert daemon.taken_from(guest)
    daemon.stop()
    assert world.verbs.restore().left == ()
    assert (guest.balloon_target_bytes, guest.claim) == (BEFORE, {})


def test_one_that_was_told_to_give_and_has_all_is_told_to_keep_it(world: World, guest: FakeGuest) -> None:
    """Reset before anybody here had it on record: its balloon is empty, and its target is as it was."""
    guest.balloon_bytes = BEFORE
    guest.resident = set(range(128))
    guest.hot = set(guest.resident)
    daemon = world.daemon()
    daemon.run_for(20)
    assert (guest.balloon_target_bytes, guest.claim) == (BEFORE, {})
    assert daemon.has_said("free: relief: it has 128 MiB again")
    said = len(daemon.said)
    daemon.run_for(60)
    assert not any("balloon" in sentence for sentence in daemon.said[said:])
    daemon.stop()
    assert world.verbs.outstanding == 0


def test_what_it_gives_yet_of_what_it_was_told_elsewhere_comes_back(world: World, guest: FakeGuest) -> None:
    """It had all when it was put on record, and nobody could tell it to keep that."""
    guest.balloon_bytes, guest.balloon_target_bytes = BEFORE, BEFORE - 32 * MIB
    guest.resident, guest.hot, guest.free = set(range(100)), set(range(8)), set(range(25, 100))
    guest.behaviour = Behaviour.STUCK
    guest.report()
    world.verbs.plan()
    assert world.verbs.outstanding == 2
    guest.behaviour = Behaviour.OBEDIENT
    world.clock.wait(10)
    assert guest.balloon_bytes == BEFORE - 32 * MIB
    assert world.verbs.restore().left == ()
    assert (guest.balloon_target_bytes, guest.claim) == (BEFORE, {})
    assert world.verbs.outstanding == 0


def test_a_hypervisor_that_takes_no_claim_keeps_nobody_from_working(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    del disk

    def refuse(_self: FakeHypervisor, _uuid: str, _claim: object) -> None:
        raise HostError("libvirt could not write our claim: refused")

    monkeypatch.setattr(FakeHypervisor, "set_claim", refuse)
    world = World(tmp_path)
    daemon = world.daemon()
    daemon.run_for(150)
    assert daemon.taken_from(world.host.guests[1])
    daemon.stop()
    assert world.verbs.restore().left == ()
