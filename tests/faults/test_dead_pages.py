"""Swap full of what guests have freed: a balloon gives that room back, and none of it is called memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.model.action import BalloonAction, PageoutAction
from overcommit.model.outcome import Outcome, Status
from overcommit.testing import Behaviour, FakeGuest, FakeHost
from overcommit.units import GIB, MIB
from tests.faults.conftest import Installation
from tests.faults.daemon import Disk, World, policy_text

SWAPPED = 300


def runner(*, shared: bool = False) -> FakeGuest:
    """All of what it has in swap its kernel has freed since."""
    dead = set(range(100, 100 + SWAPPED))
    return FakeGuest(
        "runner",
        "uuid-1",
        501,
        512 * MIB,
        set(range(80)),
        hot=set(range(60)),
        free=set(dead),
        swapped=dead,
        shared=shared,
    )


def idler() -> FakeGuest:
    """Its memory is idle, and it has no use for a balloon: all of it holds something."""
    return FakeGuest("idler", "uuid-2", 502, 512 * MIB, set(range(512)), hot=set(range(100)))


def world_of(directory: Path, *guests: FakeGuest) -> World:
    """One with swap on a disk that is as full as the policy lets it be."""
    world = World(directory, policy_text(), inhabitants=list(guests))
    world.host.swap_device, world.host.swap_encrypted = "sdb2", True
    world.host.swap_total_bytes = round(SWAPPED * MIB / 0.6)
    return world


def balloons(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if isinstance(outcome.action, BalloonAction)]


@pytest.mark.parametrize("shared", [False, True], ids=["anonymous", "memfd"])
def test_what_a_balloon_frees_of_swap_is_read_from_the_host_and_is_no_memory(
    tmp_path: Path, disk: Disk, *, shared: bool
) -> None:
    del disk
    world = world_of(tmp_path, runner(shared=shared))
    verbs: Installation = world.verbs
    plan = verbs.plan()
    (action,) = [action for action in plan.runnable if isinstance(action, BalloonAction)]
    assert action.expected_bytes == 0
    assert action.expected_swap_bytes >= 90 * MIB
    assert plan.expected_bytes == 0
    before, held = world.host.swap_used_bytes, world.host.resident_bytes
    (outcome,) = balloons(list(verbs.apply(plan).outcomes))
    assert outcome.status is Status.DONE
    assert outcome.swap_freed_bytes == before - world.host.swap_used_bytes
    assert outcome.swap_freed_bytes >= action.expected_swap_bytes
    assert outcome.freed_bytes == held - world.host.resident_bytes == 0


def test_a_balloon_that_takes_nothing_from_swap_is_undone(tmp_path: Path, disk: Disk) -> None:
    """The guest gave, and the host has as much in memory and in swap as before."""
    del disk
    guest = runner()
    world = world_of(tmp_path, guest)
    plan = world.verbs.plan()
    guest.behaviour = Behaviour.PHANTOM
    (outcome,) = balloons(list(world.verbs.apply(plan).outcomes))
    assert outcome.status is Status.UNDONE
    assert (outcome.freed_bytes, outcome.swap_freed_bytes) == (0, 0)
    assert guest.balloon_target_bytes == guest.memory_bytes


def test_what_comes_back_from_swap_meanwhile_is_not_called_freed(tmp_path: Path, disk: Disk) -> None:
    del disk
    guest = runner()
    world = world_of(tmp_path, guest)
    plan = world.verbs.plan()
    back = set(range(300, 400))

    def wake(_path: str, _value: str) -> None:
        guest.hot |= back  # its kernel has found a use for that after all
        guest.free -= back

    world.host.on_write = wake
    (outcome,) = balloons(list(world.verbs.apply(plan).outcomes))
    assert back <= guest.resident
    assert outcome.freed_bytes == 0
    assert outcome.swap_freed_bytes == (SWAPPED - len(back) - len(guest.swapped)) * MIB


def test_page_out_has_the_room_only_when_it_was_seen_to_be_free(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = world_of(tmp_path, runner(), idler())
    daemon = world.daemon()
    written = False

    def look() -> None:
        nonlocal written
        host: FakeHost = world.host
        assert host.swap_used_bytes <= round(0.6 * host.swap_total_bytes) + MIB
        written = written or bool(host.guests[1].swapped)
        for action in daemon.controller._acting.actions:
            if isinstance(action, PageoutAction):
                room = round(0.6 * host.swap_total_bytes) - host.swap_used_bytes
                assert room > 0

    daemon.run_for(400.0, look)
    assert written, "in the end it was paged out"
    assert world.host.total_bytes == 2 * GIB
