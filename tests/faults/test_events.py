"""What the daemon logs as a whole: each thing once, under the name of whom it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.control.planning import Decision
from overcommit.errors import HostError
from overcommit.model.log_event import Field, Priority
from overcommit.model.outcome import Fault, Status
from overcommit.model.wake import Wake, WakeKind
from overcommit.records.database import Database
from overcommit.testing import FakeGuest
from overcommit.units import MIB
from overcommit.wire.protocol import Verb
from tests.faults.daemon import Daemon, Disk, World, incarnation

HOUR = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Disk().in_place():
        yield World(tmp_path)


def kinds(daemon: Daemon) -> Counter[str]:
    return Counter(event.kind.name for event in daemon.events)


def test_a_domain_s_events_are_found_by_its_name(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(300)
    of_it = [event for event in daemon.events if event.values.get("OVERCOMMIT_DOMAIN") == "cold"]
    assert [event.kind.name for event in of_it] == ["action-started", "action-done"]
    (done,) = [event.values for event in of_it if event.kind.name == "action-done"]
    assert done["OVERCOMMIT_MECHANISM"] == "pageout"
    assert done["OVERCOMMIT_OUTCOME"] == "done"
    assert int(done["OVERCOMMIT_BYTES"]) >= 60 * MIB
    assert done["OVERCOMMIT_DOMAIN_UUID"] == world.host.guests[0].uuid
    daemon.stop()


def test_a_reason_with_figures_that_change_is_logged_once(world: World) -> None:
    daemon = world.daemon()
    rounds = 0

    def each() -> None:
        nonlocal rounds
        rounds += 1
        world.libvirt.down = f"libvirt does not answer for {rounds} s"

    daemon.run_for(HOUR + 600, each)
    lost = [event for event in daemon.events if event.kind.name == "lost"]
    assert [event.fields[Field.LOST] for event in lost] == ["libvirt"]
    assert lost[0].kind.priority is Priority.WARNING
    assert kinds(daemon)["giving-back"] == 1
    assert kinds(daemon)["state"] <= 2
    world.libvirt.down = None
    daemon.run_for(60)
    (regained,) = [event for event in daemon.events if event.kind.name == "regained"]
    assert int(regained.values["OVERCOMMIT_SECONDS"]) > HOUR
    daemon.stop()


def test_what_comes_and_goes_is_counted(world: World) -> None:
    """Libvirt is away for a minute in each second one."""
    daemon = world.daemon()
    began = world.clock.monotonic()

    def each() -> None:
        away = (world.clock.monotonic() - began) // 60 % 2
        world.libvirt.down = "libvirt does not answer" if away else None

    daemon.run_for(2 * HOUR, each)
    world.libvirt.down = None
    daemon.run_for(700)
    lost = [event for event in daemon.events if event.kind.name == "lost"]
    assert 2 <= len(lost) <= 4
    assert sum(event.repeated for event in lost) >= 50
    assert kinds(daemon)["regained"] <= 4
    assert kinds(daemon)["state"] <= 2 * HOUR / 300 + 1
    daemon.stop()


def test_an_action_that_must_not_begin_is_said_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100_000))
    monkeypatch.setattr(Decision, "excess", lambda *_: f"{next(numbers)} MiB would be missing")
    daemon = world.daemon()
    daemon.run_for(HOUR)
    held = [event for event in daemon.events if event.kind.name == "action-held"]
    assert {event.values["OVERCOMMIT_DOMAIN"] for event in held} == {"cold", "free"}
    assert len(held) == 2
    daemon.stop()
    assert sum(event.repeated for event in daemon.events if event.kind.name == "action-held") > 50


def test_a_socket_that_serves_nobody_is_said_once(world: World) -> None:
    daemon = world.daemon()
    rounds = 0

    def each() -> None:
        nonlocal rounds
        rounds += 1
        daemon.server.unserved = f"its thread has not answered for {20 + rounds} s"

    daemon.run_for(55, each)
    assert kinds(daemon)["socket-silent"] == 1
    daemon.stop()


def test_the_state_is_logged_without_what_has_events_of_its_own(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(300)
    assert [event.sentence for event in daemon.events if event.kind.name == "state"] == ["active; 2 domains"]


def test_conditions_of_the_host_begin_and_end(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(60)
    world.host.swap_of_others_bytes = world.host.swap_total_bytes
    daemon.run_for(120)
    assert kinds(daemon)["page-out-stopped"] == 1
    world.host.swap_of_others_bytes = 0
    daemon.run_for(120)
    assert kinds(daemon)["page-out-possible"] == 1
    daemon.stop()


def test_orders_are_logged_each_time_with_who_gave_them(world: World) -> None:
    daemon = world.daemon()
    for _ in range(3):
        daemon.order(Verb.PAUSE, seconds=10.0)
        daemon.run_for(5)
        daemon.order(Verb.RESUME)
        daemon.run_for(5)
    assert (kinds(daemon)["paused"], kinds(daemon)["resumed"]) == (3, 3)
    assert {event.values.get("OVERCOMMIT_UID") for event in daemon.events if "OVERCOMMIT_UID" in event.values}
    daemon.stop()


def test_a_guest_that_hurts_rests_and_is_said_to(world: World) -> None:
    daemon = world.daemon()
    guest: FakeGuest = world.host.guests[1]
    daemon.run_for(300)
    assert guest.balloon_bytes < guest.memory_bytes
    guest.hot = set(range(100))
    guest.resident |= guest.hot
    guest.free -= guest.hot
    daemon.run_for(60)
    of_it = [event.kind.name for event in daemon.events if event.values.get("OVERCOMMIT_DOMAIN") == "free"]
    assert "domain-rests" in of_it, daemon.said
    assert daemon.has_said("free: relief: ")
    daemon.stop()


def test_an_emergency_and_a_missed_reserve_begin_and_end(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(300)
    spare = world.host.available_bytes
    world.host.huge_pages_bytes = spare - 20 * MIB
    daemon.run_for(60)
    (began,) = [event for event in daemon.events if event.kind.name == "emergency"]
    assert began.kind.priority is Priority.CRITICAL
    assert int(began.values["OVERCOMMIT_BYTES"]) < 0.04 * world.host.total_bytes
    (missed,) = [event for event in daemon.events if event.kind.name == "reserve-missed"]
    assert int(missed.values["OVERCOMMIT_BYTES"]) > 0.04 * world.host.total_bytes
    world.host.huge_pages_bytes = 0
    daemon.run_for(120)
    assert (kinds(daemon)["emergency-over"], kinds(daemon)["reserve-kept"]) == (1, 1)
    daemon.stop()


def test_a_quarantine_begins_and_ends(world: World) -> None:
    daemon = world.daemon()
    free = incarnation(world.host.guests[1])
    failure = daemon.control.happened(
        "balloon", Status.FAILED, "a test says so", about=free.name, domain=free, fault=Fault.STUCK
    )
    daemon.control.ledger.record(failure)
    daemon.run_for(70)
    (began,) = [event for event in daemon.events if event.kind.name == "quarantine-began"]
    assert began.values["OVERCOMMIT_DOMAIN"] == "free"
    assert began.values["OVERCOMMIT_MECHANISM"] == "balloon"
    daemon.run_for(660)
    assert kinds(daemon)["quarantine-over"] == 1
    daemon.stop()


def test_a_history_that_cannot_be_written_is_said_again_when_that_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = world.daemon()

    def note(seconds: float) -> None:
        daemon.control.ledger.note(daemon.control.happened("balloon", Status.DONE, "a test says so"))
        daemon.run_for(seconds)

    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(Database, "change", refuse)
            for _ in range(3):
                note(5)
        note(700)
    faults = [event for event in daemon.events if event.kind.name == "history-fault"]
    assert [event.repeated for event in faults if "events from now on" in event.sentence] == [1, 2, 1, 2]
    daemon.stop()


def refuse(_database: Database, _work: object) -> None:
    raise HostError("cannot keep the history: the disk is full")


def test_a_run_says_that_it_starts_and_that_it_stops(world: World) -> None:
    daemon = world.daemon()
    daemon.wakes.arrange(Wake(kind=WakeKind.STOP), at=world.clock.monotonic() + 30)
    daemon.loop.run()
    assert daemon.events[0].kind.name == "started"
    assert daemon.events[0].values["OVERCOMMIT_MODE"] == "active"
    assert daemon.events[-1].kind.name == "stopping"


def test_each_reading_of_a_policy_that_is_none_is_answered(world: World) -> None:
    """Who corrects it bit by bit sees what is wrong yet, also where it differs in a line's number only."""
    daemon = world.daemon()
    for lines in range(3):
        world.policy_path.write_text("\n" * lines + "version: 9\n")
        daemon.wake(WakeKind.RELOAD)
        daemon.run_for(20)
    refused = [event.sentence for event in daemon.events if event.kind.name == "policy-refused"]
    assert [f"policy.yaml:{line}:" in sentence for line, sentence in enumerate(refused, 1)] == [True] * 3
    daemon.stop()
