"""What the daemon makes of promises, quarantines and pauses: its own, and what verbs wrote beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from overcommit.control.status import Mode
from overcommit.errors import HostError
from overcommit.model.history import CANCEL, RELEASE
from overcommit.model.outcome import Fault, Status
from overcommit.records.database import Database
from overcommit.records.ledger import Ledger
from overcommit.units import MIB
from overcommit.wire.peers import Peer
from overcommit.wire.protocol import Reply, Request, Verb
from overcommit.wire.server import Order
from tests.faults.daemon import Daemon, Disk, World, incarnation

AT_MOST = 66.0
"""Within that time everything is planned anew."""


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    del disk
    return World(tmp_path)


def ledger(world: World) -> Ledger:
    return Ledger(world.directory, warn=lambda said: pytest.fail(said))


def happened(daemon: Daemon, kind: str, status: Status, **about: Any) -> None:
    """As a verb, or an earlier run, writes it."""
    guest = daemon.world.host.guests[1]
    event = daemon.control.happened(
        kind, status, "a test says so", about=guest.name, domain=incarnation(guest), **about
    )
    ledger(daemon.world).record(event)


def test_what_a_verb_takes_back_in_the_ledger_the_daemon_knows_within_a_plan(world: World) -> None:
    daemon = world.daemon()
    for guest in world.host.guests:
        guest.hot, guest.free = set(guest.resident), set()  # nothing happens that would have it look again
    happened(daemon, "balloon", Status.FAILED, fault=Fault.STUCK)
    boot, now = world.host.boot_id, world.clock.now()
    promise = ledger(world).grant(64 * MIB, None, now=now, expires_at=now + 3600, boot_id=boot)
    daemon.run_for(150.0)
    assert [r["id"] for r in daemon.server.status["reservations"]] == [promise.id]
    assert [q["domain"] for q in daemon.server.status["quarantines"]] == ["free"]
    assert daemon.controller.state.plan is not None
    assert daemon.controller.state.plan.host.reserved_bytes == 64 * MIB
    ledger(world).cancel(promise)
    happened(daemon, RELEASE, Status.DONE)
    daemon.run_for(AT_MOST)
    assert daemon.server.status["reservations"] == []
    assert daemon.server.status["quarantines"] == []
    assert daemon.controller.state.plan.host.reserved_bytes == 0


def test_what_the_daemon_is_told_to_end_it_ends_at_once(world: World) -> None:
    daemon = world.daemon()
    happened(daemon, "balloon", Status.FAILED, fault=Fault.STUCK)
    granted = daemon.order(Verb.RESERVE, size_bytes=64 * MIB, timeout_seconds=60.0, hold_seconds=3600.0)
    daemon.run_for(5.0)
    assert granted.answer is not None
    number = granted.answer["reservation"]["id"]
    assert [r["id"] for r in daemon.server.status["reservations"]] == [number]
    ended, released = daemon.order(Verb.CANCEL, id=number), daemon.order(Verb.RELEASE, domain="free")
    assert daemon.loop.go_round()
    assert ended.answer == {"reservation": granted.answer["reservation"]}
    assert released.answer is not None
    assert [q["domain"] for q in released.answer["released"]] == ["free"]
    assert daemon.server.status["reservations"] == daemon.server.status["quarantines"] == []
    assert daemon.has_said("release free by order of uid 0")
    assert [event.kind for event in ledger(world).events()][-2:] == [CANCEL, RELEASE]
    again, nothing = daemon.order(Verb.CANCEL, id=number), daemon.order(Verb.RELEASE, domain="free")
    daemon.run_for(11.0)
    assert again.answer is not None
    assert again.answer["message"] == f"no reservation {number} is in force"
    assert nothing.answer == {"released": []}
    assert daemon.controller.state.plan is not None
    assert daemon.controller.state.plan.host.reserved_bytes == 0


def test_a_promise_is_in_the_status_before_anybody_hears_of_it(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(60.0)
    listed: list[int] = []

    def hear(reply: Reply) -> None:
        if reply.final:
            listed.extend(r["id"] for r in daemon.server.status["reservations"])

    arguments = {"size_bytes": 64 * MIB, "timeout_seconds": 60.0, "hold_seconds": 3600.0}
    request = Request(verb=Verb.RESERVE, arguments=arguments)
    daemon.server.waiting.append(Order(request, Peer(pid=1, uid=0, gids=frozenset()), hear))
    daemon.run_for(6.0)
    assert listed == [1]


def test_what_settles_has_settled_after_its_time(world: World) -> None:
    daemon = world.daemon()
    while not daemon.controller.state.past.cooldowns:
        daemon.run_for(10.0)
        assert world.host.uptime < 900
    ended_at = max(cooldown.ended_at for cooldown in daemon.controller.state.past.cooldowns)
    while world.clock.now() < ended_at + 300.0 + AT_MOST:
        daemon.run_for(10.0)
    assert not [s for s in daemon.controller.state.past.cooldowns if s.ended_at <= ended_at]


def test_a_pause_outlives_the_daemon_that_was_ordered_to(world: World, disk: Disk) -> None:
    daemon = world.daemon()
    daemon.order(Verb.PAUSE)
    daemon.run_for(10.0)
    disk.dead = True
    daemon.abandon()
    disk.dead = False
    again = world.daemon()
    again.run_for(150.0)
    assert again.server.status["mode"] == "paused"
    assert again.has_said("still paused until resumed, ordered by uid 0 before the restart")
    assert not any(guest.swapped for guest in world.host.guests)
    again.order(Verb.RESUME)
    again.run_for(10.0)
    again.stop()
    resumed = world.daemon()
    resumed.run_for(10.0)
    assert resumed.mode() is Mode.ACTIVE


def test_who_orders_a_pause_is_told_when_a_restart_will_not_know_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = world.daemon()
    daemon.run_for(10.0)
    monkeypatch.setattr(Database, "change", Mock(side_effect=HostError("the disk is full")))
    asked = [daemon.order(verb) for verb in (Verb.PAUSE, Verb.RESUME)]
    daemon.run_for(10.0)
    assert [each.answer and each.answer["sentence"] for each in asked] == [
        "paused until resumed; but only until a restart: the disk cannot record it",
        "active; but a restart may pause it again: the disk cannot record this",
    ]
    assert daemon.mode() is Mode.ACTIVE


def test_a_pause_for_a_time_ends_when_it_was_to_end(world: World) -> None:
    daemon, began = world.daemon(), world.clock.now()
    daemon.order(Verb.PAUSE, seconds=600.0)
    daemon.run_for(100.0)
    daemon.stop()
    world.clock.wait(200.0)
    again = world.daemon()
    again.run_for(10.0)
    assert again.mode() is Mode.PAUSED
    assert again.server.status["mode_until"] == pytest.approx(began + 600.0, abs=6.0)
    again.run_for(300.0)
    assert again.mode() is Mode.ACTIVE
    again.stop()
    assert world.daemon().mode() is Mode.ACTIVE


def test_a_clock_that_was_set_back_makes_no_pause_longer(world: World) -> None:
    daemon = world.daemon()
    daemon.order(Verb.PAUSE, seconds=600.0)
    daemon.run_for(10.0)
    daemon.stop()
    world.clock.jump(-86400.0)
    again = world.daemon()
    assert again.mode() is Mode.PAUSED
    again.run_for(700.0)
    assert again.mode() is Mode.ACTIVE


@pytest.mark.parametrize(
    "state", ["", "[]", "7", "null", "nonsense", '{"version": 2}', '{"version": 1, "uid": "x", "seconds": 1}']
)
def test_a_pause_that_cannot_be_understood_is_none(world: World, state: str) -> None:
    daemon = world.daemon()
    daemon.order(Verb.PAUSE)
    daemon.run_for(10.0)
    daemon.stop()
    ledger(world).keep("pause", state)
    assert world.daemon().mode() is Mode.ACTIVE
