"""Reservations that the daemon is asked for: what is granted, and what is refused, when and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.model.history import RESERVE, Event
from overcommit.model.outcome import Status
from overcommit.model.policy import ReclaimMode
from overcommit.model.wake import WakeKind
from overcommit.units import GIB, MIB
from overcommit.wire.protocol import ReplyKind, Verb
from tests.faults.daemon import Asked, Daemon, Disk, World, policy_text

ON_PRESSURE = policy_text().replace("host: {", "host: {reclaim: on_pressure, ")
TO_BE_FREED = 1750 * MIB
"""More than is free above the reserve, and less than there would be without the guests."""
MORE_THAN_IDLE = 1850 * MIB
AT_ONCE = 11.0


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    del disk
    return World(tmp_path, ON_PRESSURE)


def reserve(daemon: Daemon, size: int, seconds: float = 120.0) -> Asked:
    return daemon.order(Verb.RESERVE, size_bytes=size, timeout_seconds=seconds, hold_seconds=600.0)


def resident(world: World) -> list[int]:
    return [len(guest.resident) for guest in world.host.guests]


def events(daemon: Daemon, kind: str) -> list[Event]:
    """What the history of this run has of that kind."""
    return list(daemon.control.ledger.events(kinds=(kind,)))


def refused(asked: Asked) -> str:
    """What stood in the way of one that was refused."""
    assert asked.answer is not None
    assert asked.answer["granted"] is False
    (obstacle,) = asked.answer["obstacles"]
    assert isinstance(obstacle, str)
    return obstacle


def failed(asked: Asked) -> str:
    """Why one could not be done."""
    assert asked.answer is not None
    assert isinstance(asked.answer["message"], str)
    return asked.answer["message"]


def test_what_the_host_does_not_have_is_refused_at_once_and_nobody_gives_for_it(world: World) -> None:
    daemon, before = world.daemon(), resident(world)
    daemon.run_for(60.0)
    asked = reserve(daemon, 10 << 40)
    daemon.run_for(AT_ONCE)
    assert asked.replies[-1].kind is ReplyKind.ERROR
    assert failed(asked).startswith("10.0 TiB cannot be reserved: besides its reserve")
    daemon.run_for(90.0)
    assert resident(world) == before


def test_nobody_gives_for_what_cannot_be_told_possible_yet(world: World) -> None:
    """It was asked for before there was a plan."""
    world.libvirt.down = "it is down"
    daemon, before = world.daemon(), resident(world)
    daemon.run_for(10.0)
    asked = reserve(daemon, 10 << 40)
    daemon.run_for(20.0)
    assert asked.answer is None
    world.libvirt.down = None
    daemon.run_for(60.0)
    assert asked.replies[-1].kind is ReplyKind.ERROR
    assert resident(world) == before


def test_what_was_asked_for_before_there_was_a_plan_is_freed_soon_after(world: World) -> None:
    world.libvirt.down = "it is down"
    daemon = world.daemon()
    daemon.run_for(10.0)
    asked = reserve(daemon, TO_BE_FREED, 300.0)
    world.libvirt.down = None
    daemon.run_for(200.0)
    assert asked.answer is not None
    assert asked.answer["granted"] is True


def test_the_same_memory_is_not_promised_twice_in_one_tick(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(30.0)
    first, second = reserve(daemon, GIB), reserve(daemon, GIB)
    daemon.run_for(AT_ONCE)
    assert first.answer is not None
    assert first.answer["granted"] is True
    assert second.answer is not None
    assert "cannot be reserved" in second.answer["message"]


def test_who_only_observes_grants_what_is_free_and_says_at_once_that_it_frees_nothing(world: World) -> None:
    daemon = world.daemon(observe=True)
    daemon.run_for(60.0)
    asked, free = reserve(daemon, TO_BE_FREED), reserve(daemon, GIB)
    daemon.run_for(AT_ONCE)
    assert refused(asked) == "overcommitd only observes (--observe)"
    assert free.answer is not None
    assert free.answer["granted"] is True


def test_who_is_paused_says_so_at_once_also_in_the_middle(world: World) -> None:
    daemon = world.daemon()
    asked = reserve(daemon, MORE_THAN_IDLE)
    daemon.run_for(60.0)
    assert asked.answer is None
    daemon.order(Verb.PAUSE)
    daemon.run_for(AT_ONCE)
    before = resident(world)
    assert refused(asked).startswith("overcommitd is paused and takes nothing")
    again, free = reserve(daemon, MORE_THAN_IDLE), reserve(daemon, GIB)
    daemon.run_for(AT_ONCE)
    assert refused(again).startswith("overcommitd is paused and takes nothing")
    assert free.answer is not None
    assert free.answer["granted"] is True
    assert resident(world) == before


def test_what_is_lost_is_waited_for_and_said(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(60.0)
    world.libvirt.down = "it is down"
    daemon.run_for(60.0)
    asked = reserve(daemon, TO_BE_FREED, 60.0)
    daemon.run_for(50.0)
    assert asked.answer is None
    assert "; overcommitd takes nothing: it is holding, without libvirt" in asked.replies[-1].body["sentence"]
    daemon.run_for(20.0)
    assert refused(asked).startswith("overcommitd takes nothing: it is holding, without libvirt: it is down")


def test_nobody_gives_for_who_waits_under_a_policy_that_says_off(world: World) -> None:
    daemon = world.daemon()
    asked = reserve(daemon, MORE_THAN_IDLE)
    daemon.run_for(60.0)
    assert asked.answer is None
    world.policy_path.write_text(ON_PRESSURE.replace("on_pressure", "'off'"))
    daemon.wake(WakeKind.RELOAD)
    daemon.run_for(AT_ONCE)
    before = resident(world)
    assert refused(asked).startswith(f"the policy {world.policy_path} says reclaim: off")
    assert asked.replies[-1].body["changed"] is True
    daemon.run_for(90.0)
    assert resident(world) == before
    assert daemon.controller.state.policy.reclaim is ReclaimMode.OFF


def test_what_was_freed_is_what_guests_gave_whatever_the_host_has_more_or_less(world: World) -> None:
    """QEMU takes 400 MiB for itself meanwhile: MemAvailable falls by more than the guests gave."""
    daemon = world.daemon()
    daemon.run_for(30.0)
    before = sum(resident(world)) * MIB
    asked = reserve(daemon, MORE_THAN_IDLE, 90.0)

    def grow() -> None:
        if sum(resident(world)) * MIB < before:
            world.host.guests[0].overhead_bytes = 100 * MIB

    daemon.run_for(150.0, grow)
    gave = before - sum(resident(world)) * MIB
    assert asked.answer is not None
    assert (asked.answer["granted"], asked.answer["changed"]) == (False, True)
    assert asked.answer["freed_bytes"] == gave > 50 * MIB
    (event,) = events(daemon, RESERVE)
    assert (event.status, event.freed_bytes) == (Status.PARTIAL, gave)
    assert event.detail.startswith("1.8 GiB is not reserved: ")


def test_what_others_gave_back_to_the_host_was_not_freed_for_it(world: World) -> None:
    """A process ends while somebody waits: nobody gave anything, and that is what it says."""
    world.host.guests[0].overhead_bytes = 400 * MIB
    daemon = world.daemon()
    daemon.run_for(30.0)
    world.libvirt.down = "it is down"
    daemon.run_for(30.0)
    asked = reserve(daemon, GIB + 500 * MIB)
    daemon.run_for(AT_ONCE)
    assert not any(reply.final for reply in asked.replies)
    world.host.guests[0].overhead_bytes = 0
    daemon.run_for(AT_ONCE)
    assert asked.answer is not None
    assert (asked.answer["granted"], asked.answer["freed_bytes"]) == (True, 0)


def test_what_was_begun_in_time_may_end_and_counts(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(30.0)
    before = sum(resident(world))
    asked = reserve(daemon, MORE_THAN_IDLE, 600.0)
    daemon.run_for(60.0, lambda: late(daemon))
    daemon.run_for(60.0)
    assert asked.answer is not None
    assert asked.answer["freed_bytes"] == (before - sum(resident(world))) * MIB > 0


def late(daemon: Daemon) -> None:
    """Have the time of who waits be up as soon as something is at work."""
    if daemon.controller._acting.actions:
        for waiting in daemon.loop._reserving._waiting:
            waiting.deadline = daemon.world.clock.monotonic()


def test_who_goes_away_is_on_record_with_what_was_freed_for_it(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(30.0)
    before = sum(resident(world)) * MIB
    asked = reserve(daemon, MORE_THAN_IDLE, 600.0)
    daemon.run_for(60.0)
    gave = before - sum(resident(world)) * MIB
    asked.order.leave()
    daemon.run_for(AT_ONCE)
    (event,) = events(daemon, RESERVE)
    assert (event.status, event.freed_bytes) == (Status.PARTIAL, gave)
    assert "the client has disconnected" in event.detail
