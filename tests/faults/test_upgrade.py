"""What commit 37c8865 left on a host is read, restored, and refused or applied by this version.

``tests/data/upgrade`` was written by that version; see the README there. The same host is brought into the
same state here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from overcommit.control.status import Mode
from overcommit.errors import StalePlan
from overcommit.model.moments import Wall
from overcommit.model.outcome import Status
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.testing import FakeHost, FakeKernel
from overcommit.units import MIB
from tests.faults.conftest import Installation, install
from tests.faults.daemon import Disk, World, policy_text

SAMPLE = Path(__file__).parent.parent / "data" / "upgrade"


def bring_into_state(host: FakeHost, kernel: FakeKernel, name: str) -> None:
    """Have the host as it was: its guests, and what was written to its kernel."""
    state: dict[str, Any] = json.loads((SAMPLE / name).read_text())
    host.uptime = state["uptime"]
    kernel.damon.other_pids.add(state["pid"])  # our own process was DAMON's last target
    for guest, was in zip(host.guests, state["guests"], strict=True):
        for field, value in was.items():
            kind = type(getattr(guest, field))
            setattr(guest, field, kind(value) if kind in {set, tuple} else value)
    for path, value in state["writes"]:
        if value == "mkdir":
            kernel.make_directory(path)
        else:
            kernel.write(path, value)


@pytest.fixture
def upgraded(tmp_path: Path, disk: Disk) -> tuple[World, object]:
    """The host where a daemon of that version was killed at work, and how that one had found it."""
    del disk
    world = World(tmp_path, policy_text(actor="damos-fvaddr"))
    found = world.verbs.baseline()
    bring_into_state(world.host, world.kernel, "host.json")
    shutil.copytree(SAMPLE / "state", world.directory)
    world.directory.chmod(0o700)
    assert world.verbs.baseline() != found
    return world, found


def test_the_journal_is_restored(upgraded: tuple[World, object]) -> None:
    world, found = upgraded
    assert world.kernel.damon.running
    result = world.verbs.restore()
    assert result.left == ()
    assert world.verbs.baseline() == found
    assert world.verbs.outstanding == 0


def test_the_ledger_is_read(upgraded: tuple[World, object]) -> None:
    world, _ = upgraded
    session = world.verbs.session()
    events = session.ledger.events(
        boot_id=world.host.boot_id, kinds=("pageout", "balloon", "reserve"), since=Wall(0)
    )
    assert [(event.kind, event.status, event.about) for event in events] == [
        ("pageout", Status.DONE, "cold"),
        ("balloon", Status.DONE, "free"),
        ("reserve", Status.DONE, "web"),
    ]
    (promise,) = world.verbs.past().reservations
    assert (promise.id, promise.purpose, promise.size_bytes) == (1, "web", 64 * MIB)
    assert world.verbs.left_at("free") == 57 * MIB


def test_the_next_daemon_goes_on_from_it(upgraded: tuple[World, object]) -> None:
    world, found = upgraded
    daemon = world.daemon()
    daemon.run_for(30.0)
    assert daemon.mode() is Mode.PAUSED
    assert daemon.has_said("still paused for")
    assert daemon.taken_from(world.host.guests[1]) == 71 * MIB
    assert [each["for"] for each in daemon.server.status["reservations"]] == ["web"]
    daemon.stop()
    assert world.verbs.restore().left == ()
    assert world.verbs.baseline() == found


def test_the_claim_of_a_domain_is_enough_on_another_host(upgraded: tuple[World, object]) -> None:
    """It came without the journal of the host that it left."""
    world, found = upgraded
    shutil.rmtree(world.directory)
    assert world.host.guests[1].claim == {"balloon": 128 * MIB}
    daemon = world.daemon(take_over=True)
    daemon.run_for(30.0)
    assert daemon.taken_from(world.host.guests[1]) == 71 * MIB
    daemon.stop()
    assert world.verbs.restore().left == ()
    assert world.host.guests[1].balloon_target_bytes == 128 * MIB
    assert world.host.guests[1].claim == {}
    del found


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Installation, Plan]:
    """A plan of that version, on the host that it was made for."""
    installation = install(tmp_path / "state", "damos-fvaddr")
    bring_into_state(installation.host, installation.kernel, "plan-host.json")
    return installation, document.loads((SAMPLE / "plan.json").read_text(), "plan.json")


def test_a_saved_plan_is_applied(saved: tuple[Installation, Plan]) -> None:
    installation, plan = saved
    found = installation.baseline()
    report = installation.apply(plan)
    assert report.complete
    assert len(report.outcomes) == len(plan.runnable) == 2
    assert report.freed_bytes > 100 * MIB
    assert installation.restore().left == ()
    assert installation.baseline() == found


def test_a_saved_plan_that_is_out_of_date_is_refused(saved: tuple[Installation, Plan]) -> None:
    installation, plan = saved
    installation.host.guests[1].balloon_target_bytes = 100 * MIB
    installation.host.advance(60.0)
    with pytest.raises(StalePlan, match="the balloon of domain free"):
        installation.apply(plan)
    assert installation.outstanding == 0
