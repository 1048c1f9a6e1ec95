"""Restore waits for guests as long as they go on taking their memory back, and for all at the same time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from overcommit.apply.returning import LONGEST_SECONDS, STILL_SECONDS
from overcommit.errors import HostError
from overcommit.records.journal import BalloonMoved
from overcommit.testing import Behaviour, FakeClock, FakeGuest, FakeHypervisor
from overcommit.units import MIB
from tests.faults.conftest import guests, install
from tests.faults.daemon import Disk, World


class Slow(Protocol):
    """Has a guest take so many bytes a second back from now on, ``until`` some uptime of the host."""

    def __call__(self, guest: FakeGuest, bytes_per_second: float, *, until: float = math.inf) -> None: ...


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Both guests have given much of their memory by their balloons."""
    inhabitants = guests()
    for guest in inhabitants:
        guest.hot, guest.free = set(range(8)), set(range(25, 100))
        guest.report()
    with Disk().in_place():
        world = World(tmp_path, inhabitants=inhabitants)
        daemon = world.daemon()
        daemon.run_for(300.0)
        daemon.stop()
        assert all(guest.balloon_bytes <= 64 * MIB for guest in inhabitants)
        yield world


@pytest.fixture
def slow(world: World, monkeypatch: pytest.MonkeyPatch) -> Slow:
    """See `Slow`."""
    wait = FakeClock.wait
    rates: dict[str, tuple[float, float]] = {}

    def wait_and_take(clock: FakeClock, seconds: float) -> None:
        wait(clock, seconds)
        for guest in world.host.guests:
            rate, until = rates.get(guest.name, (0.0, 0.0))
            if world.host.uptime < until:
                more = guest.balloon_bytes + rate * seconds
                guest.balloon_bytes = min(guest.balloon_target_bytes, round(more))

    def slowly(guest: FakeGuest, bytes_per_second: float, *, until: float = math.inf) -> None:
        guest.behaviour = Behaviour.STUCK
        rates[guest.name] = bytes_per_second, until

    monkeypatch.setattr(FakeClock, "wait", wait_and_take)
    return slowly


def test_guests_that_need_more_than_a_minute_are_waited_for_at_the_same_time(
    world: World, slow: Slow
) -> None:
    for guest in world.host.guests:
        slow(guest, 0.5 * MIB)
    began = world.host.uptime
    restored = world.verbs.restore()
    assert restored.left == restored.under_way == ()
    assert STILL_SECONDS < world.host.uptime - began < LONGEST_SECONDS
    assert all(guest.balloon_bytes >= guest.memory_bytes - MIB for guest in world.host.guests)
    assert world.verbs.outstanding == 0


def test_what_is_on_its_way_after_minutes_is_no_failure_and_stays_on_record(world: World, slow: Slow) -> None:
    cold, free = world.host.guests
    slow(cold, 0.1 * MIB)
    began = world.host.uptime
    restored = world.verbs.restore()
    assert restored.left == ()
    assert [said for said in restored.under_way if "balloon of cold is being given back: " in said]
    assert LONGEST_SECONDS <= world.host.uptime - began < LONGEST_SECONDS + 2.0
    assert cold.balloon_target_bytes == cold.memory_bytes
    assert free.balloon_bytes == free.memory_bytes
    assert world.verbs.outstanding
    slow(cold, MIB)
    again = world.verbs.restore()
    assert again.left == again.under_way == ()
    assert world.verbs.outstanding == 0


def test_one_that_stands_still_on_its_way_is_not_restored(world: World, slow: Slow) -> None:
    cold, _ = world.host.guests
    slow(cold, 0.5 * MIB, until=world.host.uptime + 20.0)
    for _ in range(2):
        restored = world.verbs.restore()
        assert ["back and has stopped for 60 s" in said for said in restored.left] == [True]
        assert restored.under_way == ()
        assert cold.balloon_bytes < cold.memory_bytes
        assert world.verbs.outstanding


@pytest.mark.parametrize("carried", [{"balloon": 128 * MIB}, {}])
def test_a_guest_carries_what_it_had_as_long_as_an_older_generation_is_not_restored(
    tmp_path: Path, carried: dict[str, int]
) -> None:
    """It goes back a part of its way; if it migrated then, nobody else would know its own size."""
    installation = install(tmp_path / "state", "cold-hint+reclaim")
    found = installation.baseline()
    installation.apply(installation.plan())
    free, session = installation.host.guests[1], installation.session()
    reduced = free.balloon_target_bytes
    domain = next(b.domain for b in installation.past().balloons)
    with session.generation("apply") as second:
        second.record(BalloonMoved(domain=domain, before_bytes=reduced, after_bytes=reduced - 8 * MIB))
        FakeHypervisor(installation.host).set_balloon(free.uuid, reduced - 8 * MIB)
    free.claim = carried
    assert installation.restore(since=second.number).left == ()
    assert (free.balloon_target_bytes, free.claim) == (reduced, {"balloon": 128 * MIB})
    assert installation.restore().left == ()
    assert (free.balloon_target_bytes, free.claim) == (128 * MIB, {})
    assert installation.baseline() == found


def test_a_hypervisor_that_takes_no_claim_keeps_no_guest_from_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: FakeHypervisor, _uuid: str, _claim: object) -> None:
        raise HostError("libvirt could not write our claim: refused")

    monkeypatch.setattr(FakeHypervisor, "set_claim", refuse)
    installation = install(tmp_path / "state", "cold-hint+reclaim")
    installation.apply(installation.plan())
    free, session = installation.host.guests[1], installation.session()
    reduced = free.balloon_target_bytes
    domain = next(b.domain for b in installation.past().balloons)
    with session.generation("apply") as second:
        second.record(BalloonMoved(domain=domain, before_bytes=reduced, after_bytes=reduced - 8 * MIB))
        FakeHypervisor(installation.host).set_balloon(free.uuid, reduced - 8 * MIB)
    assert installation.restore(since=second.number).left == ()
    assert free.balloon_target_bytes == reduced


@pytest.mark.parametrize("booting", [True, False], ids=["while it boots", "after it has booted"])
def test_a_guest_that_was_reset_and_says_an_old_size_is_nudged(world: World, booting: bool) -> None:
    """Its driver began with all of its memory, and had nothing to tell."""
    cold = world.host.guests[0]
    reduced = cold.balloon_target_bytes
    cold.reset()
    cold.balloon_target_bytes = cold.memory_bytes
    if not booting:
        world.clock.wait(30.0)
        assert (cold.balloon_bytes, cold.says_balloon_bytes) == (cold.memory_bytes, reduced)
    restored = world.verbs.restore()
    assert restored.left == restored.under_way == ()
    world.clock.wait(1.0)
    assert cold.balloon_target_bytes == cold.balloon_bytes == cold.memory_bytes
    assert cold.says_balloon_bytes is None
    assert world.verbs.outstanding == 0


def test_a_guest_that_boots_for_longer_than_others_may_stand_still_is_waited_for(world: World) -> None:
    cold = world.host.guests[0]
    cold.reset()
    cold.booting_seconds = 2 * STILL_SECONDS
    restored = world.verbs.restore()
    assert restored.left == restored.under_way == ()
    world.clock.wait(1.0)
    assert cold.balloon_bytes == cold.memory_bytes
