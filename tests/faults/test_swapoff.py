"""An operator turns swap off while guests have memory there: it comes back, and that is nobody's pain."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.control.status import Mode
from overcommit.host.memory import read_host, read_swap_free
from overcommit.model.action import PageoutAction
from overcommit.model.outcome import Status
from overcommit.plan.main_job import stopped
from overcommit.plan.swap_budget import judge_swap
from overcommit.units import MIB
from tests.faults.conftest import Installation
from tests.faults.daemon import Daemon, Disk, World, policy_text


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    """Guests on a host whose daemon pages out by reclaim, slowly."""
    del disk
    return World(tmp_path, policy_text(actor="memcg-reclaim", write="8MiB/s"))


def with_memory_in_swap(world: World, chunks: int = 30) -> Daemon:
    """The daemon, when it has taken as much."""
    daemon = world.daemon()
    while len(world.host.guests[0].swapped) < chunks:
        daemon.run_for(1.0)
        assert world.host.uptime < 600
    return daemon


def test_what_swapoff_reads_back_is_no_pain_of_a_guest(world: World) -> None:
    """Neither while it is at work nor after it: the guest is held as before, and the reason is said first."""
    daemon = with_memory_in_swap(world)
    guest, host = world.host.guests[0], world.host
    host.swapoff = True
    daemon.run_for(6.0)
    assert guest.swapped, "it takes a while"
    assert not daemon.controller._acting.in_slots
    assert "swap is being turned off (swapoff)" in daemon.sentence
    while guest.swapped:
        daemon.run_for(1.0)
    host.swapoff, host.swap_total_bytes = False, 0
    daemon.run_for(70.0)
    assert guest.promoted_pages * 4096 >= 30 * MIB
    for tracked in daemon.controller._tracked.values():
        assert (tracked.throttle.notches, tracked.throttle.cause, tracked.throttle.outside_seconds) == (
            0,
            "",
            0.0,
        )
    assert daemon.mode() is Mode.ACTIVE
    assert "the host has no swap" in daemon.sentence


def test_what_a_guest_reads_back_itself_is_its_pain_all_the_same(world: World) -> None:
    """The same amount, without swapoff."""
    daemon = with_memory_in_swap(world)
    guest = world.host.guests[0]
    guest.hot |= set(guest.swapped)
    daemon.run_for(30.0)
    (slo_state,) = [f for f in daemon.controller._tracked.values() if f.domain.name == guest.name]
    assert slo_state.throttle.cause


def test_a_page_out_ends_when_swap_is_turned_off(installation: Installation) -> None:
    """Of an apply, which follows no counters: the kernel takes no more, and it says why."""
    plan = installation.plan()
    host = installation.host

    def turn_off(_: float) -> None:
        host.swapoff = host.swapoff or len(host.guests[0].swapped) >= 10

    host.workers.append(turn_off)
    outcomes = installation.apply(plan).outcomes
    paged = [outcome for outcome in outcomes if isinstance(outcome.action, PageoutAction)]
    assert paged
    assert all(outcome.status is not Status.DONE for outcome in paged)
    assert read_swap_free(installation.kernel) == 0


def test_swap_that_is_being_turned_off_is_read_and_named(installation: Installation) -> None:
    """It is listed until it is empty, but counts no more."""
    host = installation.host
    host.guests[0].swapped = set(range(100, 120))
    assert read_host(installation.kernel).swap_leaving_bytes == 0
    host.swapoff = True
    seen = read_host(installation.kernel)
    assert seen.swap_leaving_bytes == host.swap_total_bytes
    verdict = judge_swap(seen, installation.policy.swap)
    assert verdict.room_bytes == 0
    assert stopped(seen, installation.policy, verdict) == (
        "NOTHING IS PAGED OUT: swap is being turned off (swapoff): up to 20.0 MiB is read back into memory"
    )
