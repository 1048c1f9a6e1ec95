"""What a daemon tells of itself: why it holds a domain as it does, and which policy it goes by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from overcommit.daemon.report import status_of
from overcommit.model.restraint import GUEST_REBOOTS
from overcommit.model.wake import WakeKind
from overcommit.slo.samples import Figure
from tests.faults.daemon import Daemon, Disk, World, incarnation


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    """Two guests, of which the first is ``cold``."""
    del disk
    return World(tmp_path)


@pytest.fixture
def daemon(world: World) -> Daemon:
    """One that has looked around."""
    daemon = world.daemon()
    daemon.run_for(10.0)
    return daemon


def told_by(daemon: Daemon) -> dict[str, Any]:
    """The status document of now."""
    controller = daemon.controller
    status = status_of(controller.state, controller.domain_states(), daemon.control.clock, daemon.sentence)
    assert status is not None
    return status()


def test_a_domain_that_is_held_more_firmly_than_its_class_says_is_told_with_the_reason(
    world: World, daemon: Daemon
) -> None:
    before, other = told_by(daemon)["domains"]
    assert (before["held"], before["why_not"], before["outside_share"]) == (None, None, 0.0)
    tracked = daemon.controller._tracked[incarnation(world.host.guests[0])]
    tracked.throttle = dataclasses.replace(
        tracked.throttle,
        notches=2,
        step_share=0.5,
        cause="it stalled",
        judged_seconds=600,
        outside_seconds=60,
    )
    now, untouched = told_by(daemon)["domains"]
    assert now["held"].startswith(
        "throttled: takes what was idle for 40s (class: 20s), 50% of a step, because it stalled; "
    )
    assert (now["cold_after_seconds"], now["outside_share"]) == (40.0, 0.1)
    assert untouched["held"] == other["held"]
    tracked.throttle = dataclasses.replace(tracked.throttle, rested_seconds=0.0)
    resting = told_by(daemon)["domains"][0]
    assert (resting["held"], resting["why_not"].startswith("it stalled. Nothing is taken for")) == (
        None,
        True,
    )


def test_a_guest_that_boots_is_told_to_be_left_alone(world: World, daemon: Daemon) -> None:
    world.host.guests[1].reset()
    daemon.run_for(6.0)
    assert told_by(daemon)["domains"][1]["why_not"] == GUEST_REBOOTS


def test_why_the_policy_on_disk_is_refused(world: World, daemon: Daemon) -> None:
    assert told_by(daemon)["policy_refused"] is None
    world.policy_path.write_text("version: 1\nnonsense: 3\n")
    daemon.wake(WakeKind.RELOAD)
    daemon.run_for(10.0)
    assert "unknown key nonsense" in told_by(daemon)["policy_refused"]
    assert told_by(daemon)["policy_source"] == str(world.policy_path)


def test_what_is_kept_free_is_what_the_plan_keeps_free(daemon: Daemon) -> None:
    plan, host = daemon.controller.state.plan, told_by(daemon)["host"]
    assert plan is not None
    for name in ("reserve_bytes", "reserved_bytes", "headroom_bytes", "promised_bytes"):
        assert host[name] == getattr(plan.host, name)


def test_what_an_exporter_needs_of_a_domain_is_told(world: World, daemon: Daemon) -> None:
    daemon.run_for(180.0)
    told, plan = daemon.server.status, daemon.controller.state.plan
    assert plan is not None
    for domain, planned in zip(told["domains"], plan.domains, strict=True):
        assert domain["floor_bytes"] == planned.floor_bytes
        assert sum(bucket["bytes"] for bucket in domain["idle_histogram"]) > 0
        assert domain["idle_histogram"][0]["min_idle_seconds"] == 0.0
        assert sum(domain["reclaimed_by"].values()) == domain["reclaimed_bytes"]
        assert domain["slo_psi_some"] > 0
        assert domain["promoted_pages"] is not None
    cold, free = (domain["reclaimed_by"] for domain in told["domains"])
    assert cold["swap"] > 0
    assert free["balloon"] == daemon.taken_from(world.host.guests[1]) > 0


def test_what_an_exporter_needs_of_the_daemon_is_told(daemon: Daemon) -> None:
    daemon.run_for(180.0)
    told, plan = daemon.server.status, daemon.controller.state.plan
    assert plan is not None
    assert told["planned_at"] == plan.created_at
    assert told["swap_budget"].keys() == {"room_bytes", "bytes_per_second", "spent"}
    work = told["work"]
    ticks = work["ticks"]
    assert ticks["look"]["count"] + ticks["plan"]["count"] == told["tick"]
    assert min(ticks["look"]["count"], ticks["plan"]["count"]) > 0
    assert {each["kind"] for each in work["actions"]} >= {"pageout", "balloon"}
    assert sum(each["freed_bytes"] for each in work["actions"]) > 0
    assert 0 < work["journal_bytes"] < work["journal_most_bytes"]
    assert work["monitors_cpu_seconds"] > 0


def test_what_a_domain_feels_is_told_as_a_share_of_what_it_may(world: World, daemon: Daemon) -> None:
    daemon.run_for(60.0)
    untouched, at_its_reserve = told_by(daemon)["domains"]
    assert (untouched["pain"], untouched["feels"]) == (0.0, None)
    assert (at_its_reserve["pain"], at_its_reserve["feels"]) == (0.5, None)
    tracked = daemon.controller._tracked[incarnation(world.host.guests[0])]
    for value, limit, told in (
        (90.0, 64.0, (90 / 64, "90 read back of 64")),
        (1.0, 64.0, (1 / 64, None)),
        (1.0, 0.0, (1000.0, "1 read back of 0")),
    ):
        worst = Figure(value, limit, lambda value, limit: f"{value:.0f} read back of {limit:.0f}")
        tracked.throttle = dataclasses.replace(tracked.throttle, worst=worst)
        domain = told_by(daemon)["domains"][0]
        assert (domain["pain"], domain["feels"]) == told
    tracked.throttle = dataclasses.replace(tracked.throttle, worst=None)
    assert told_by(daemon)["domains"][0]["pain"] is None
