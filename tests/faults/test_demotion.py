"""Moving cold memory to a slower node: the whole job, refusals, and what goes wrong on the way."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from overcommit.damon.schemes import RECHECK_AGGREGATIONS
from overcommit.errors import StalePlan
from overcommit.model.action import DemotionAction, PageoutAction
from overcommit.model.outcome import Outcome, Status
from overcommit.model.policy import Actuator
from overcommit.policy import loader
from overcommit.testing import FakeGuest, FakeHost, FakeKernel
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer

POLICY = """
version: 1
host: {reserve: 8%, cold_node: 1, swap: {max_used: 60%, max_write: 50MiB/s}}
classes: {all: {floor: 100%, cold_after: 20s}}
default_class: all
"""
"""A floor of everything: nothing may leave memory."""


def two_nodes(
    directory: Path, *, second: int = 1024 * MIB, floor: str = "100%", rate: str = "50MiB/s"
) -> Installation:
    """A guest with 84 MiB of cold memory."""
    guest = FakeGuest(
        name="cold",
        uuid="00000000-0000-0000-0000-000000000001",
        pid=501,
        memory_bytes=128 * MIB,
        resident=set(range(100)),
        hot=set(range(16)),
    )
    host = FakeHost([guest], second_node_bytes=second)
    text = POLICY.replace("100%", floor).replace("50MiB/s", rate)
    return Installation(host, FakeKernel(host), directory, loader.parse(text, "policy.yaml"))


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return two_nodes(tmp_path / "state")


def moved(installation: Installation) -> int:
    return len(installation.host.guests[0].demoted) * MIB


def only_outcome(installation: Installation) -> Outcome:
    (outcome,) = installation.apply(installation.plan()).outcomes
    return outcome


def test_the_whole_job_on_the_fakes(installation: Installation) -> None:
    """Cold memory moves, hot memory stays, nothing leaves memory, and a second plan finds nothing to do."""
    found = installation.baseline()
    plan = installation.plan()
    assert [type(a) for a in plan.runnable] == [DemotionAction]
    assert (plan.expected_bytes, plan.moving_bytes, plan.needs_damon) == (0, 84 * MIB, True)
    report = installation.apply(plan)
    assert (report.complete, report.freed_bytes, report.moved_bytes) == (True, 0, 84 * MIB)
    guest = installation.host.guests[0]
    assert guest.demoted == set(range(16, 100))
    assert (len(guest.resident), guest.swapped) == (100, set())
    assert installation.baseline() == found
    assert installation.outstanding == 0, "where memory lies is nothing to undo"
    assert installation.plan().runnable == ()


def test_what_finds_no_room_is_paged_out(tmp_path: Path) -> None:
    """Each rung counts only on what the one before leaves."""
    installation = two_nodes(tmp_path, second=104 * MIB, floor="20%")
    plan = installation.plan()
    demotion, pageout = plan.runnable
    assert isinstance(demotion, DemotionAction)
    assert isinstance(pageout, PageoutAction)
    assert (demotion.expected_bytes, pageout.expected_bytes) == (40 * MIB, 44 * MIB)
    assert not set(demotion.pieces) & set(pageout.pieces)
    report = installation.apply(plan)
    assert report.complete
    assert report.moved_bytes == 40 * MIB
    assert installation.host.guests[0].hot <= installation.host.guests[0].resident


def test_an_older_kernel_takes_the_action_and_moves_nothing_so_it_is_not_asked(tmp_path: Path) -> None:
    """It is told by what DAMON offers, in the plan and again by who would carry it out."""
    installation = two_nodes(tmp_path / "new")
    plan = installation.plan()
    installation.kernel.damon.version = (6, 12)
    verdict = installation.plan().domains[0].eligible[Actuator.DEMOTION]
    assert (verdict.ok, "cannot move the memory of a process" in verdict.reason) == (False, True)
    (outcome,) = installation.apply(plan).outcomes
    assert (outcome.status, outcome.moved_bytes) == (Status.FAILED, 0)
    assert "cannot move the memory of a process" in outcome.detail
    assert installation.kernel.damon.running == {}


def test_it_waits_for_a_first_look_that_takes_as_long_as_the_moving(tmp_path: Path) -> None:
    """Before Linux 7.2 looking at memory uses the quota up, and for long nothing moves."""
    installation = two_nodes(tmp_path, rate="4MiB/s")
    installation.kernel.damon.version = (6, 17)
    outcome = only_outcome(installation)
    assert (outcome.status, outcome.moved_bytes) == (Status.DONE, 84 * MIB)
    assert outcome.seconds >= 2 * 84 / 4


def test_what_is_reported_is_what_the_cgroup_says_and_not_what_damon_was_asked(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that takes everything and moves nothing is found out."""
    monkeypatch.setattr(FakeHost, "demote", lambda *_: 0)
    outcome = only_outcome(installation)
    assert (outcome.status, outcome.moved_bytes) == (Status.PARTIAL, 0)
    assert outcome.detail == "nothing more of it was still idle"


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [("busy_with", "a libvirt job", "busy with a libvirt job"), ("paused", True, "paused")],
)
def test_it_stops_when_its_guest_must_be_left_alone(
    installation: Installation, what: str, value: object, says: str
) -> None:
    plan = installation.plan()
    guest = installation.host.guests[0]

    def begun(_path: str, written: str) -> None:
        if written == "on":
            setattr(guest, what, value)

    installation.host.after_write = begun
    (outcome,) = installation.apply(plan).outcomes
    assert (outcome.status, says in outcome.detail, moved(installation)) == (Status.PARTIAL, True, 0)
    assert outcome.seconds < RECHECK_AGGREGATIONS
    assert installation.kernel.damon.running == {}


def test_a_guest_in_pain_is_left_alone(installation: Installation) -> None:
    plan = installation.plan()
    guest = installation.host.guests[0]

    def stall(seconds: float) -> None:
        guest.stalled_seconds += 0.5 * seconds

    installation.host.workers.append(stall)
    (outcome,) = installation.apply(plan).outcomes
    assert (outcome.status, moved(installation)) == (Status.PARTIAL, 0)
    assert outcome.detail.startswith("stopped: memory pressure of the domain 50")
    assert installation.kernel.damon.running == {}


def test_one_that_fails_halfway_reports_what_it_had_moved_by_then(installation: Installation) -> None:
    plan = installation.plan()
    guest = installation.host.guests[0]
    failures = itertools.count()

    def unreadable(path: str) -> None:
        if guest.demoted and path.endswith("memory.numa_stat") and next(failures) == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    installation.host.on_read = unreadable
    (outcome,) = installation.apply(plan).outcomes
    assert (outcome.status, outcome.moved_bytes) == (Status.PARTIAL, moved(installation))
    assert outcome.moved_bytes > 0
    assert "cannot read the memory nodes of cold" in outcome.detail
    assert installation.kernel.damon.running == {}


def test_a_plan_is_refused_when_the_node_filled_up_before_apply(installation: Installation) -> None:
    plan = installation.plan()
    installation.host.second_node_bytes = 80 * MIB
    with pytest.raises(StalePlan, match=r"memory node 1 has filled: 16\.0 MiB"):
        installation.apply(plan)
    assert moved(installation) == 0


@pytest.fixture
def woken(installation: Installation) -> Installation:
    """All that was moved is in use now."""
    installation.apply(installation.plan())
    guest = installation.host.guests[0]
    guest.hot |= guest.demoted
    return installation


@pytest.mark.parametrize("version", [(7, 3), (6, 17)])
def test_what_is_in_use_again_comes_back(woken: Installation, version: tuple[int, int]) -> None:
    """All of it, and what is not in use stays; DAMON is left as it was, and there is nothing more to do."""
    woken.kernel.damon.version = version
    guest = woken.host.guests[0]
    idle = set(range(80, 100))
    guest.hot -= idle
    found, plan = woken.baseline(), woken.plan()
    (action,) = plan.runnable
    assert isinstance(action, DemotionAction)
    assert (action.node, action.recall_to, action.expected_bytes) == (1, 0, 64 * MIB)
    report = woken.apply(plan)
    assert (report.complete, report.freed_bytes, report.moved_bytes) == (True, 0, 64 * MIB)
    assert guest.demoted == idle
    assert (len(guest.resident), guest.swapped) == (100, set())
    assert woken.baseline() == found
    assert woken.outstanding == 0
    assert woken.plan().runnable == ()


def test_what_is_no_longer_in_use_when_it_is_looked_at_stays(woken: Installation) -> None:
    plan = woken.plan()
    guest = woken.host.guests[0]
    guest.hot -= guest.demoted - {50, 51}
    (outcome,) = woken.apply(plan).outcomes
    assert (outcome.status, outcome.moved_bytes) == (Status.PARTIAL, 2 * MIB)
    assert outcome.detail == "nothing more of it was in use"
    assert woken.kernel.damon.running == {}


def test_a_recall_reports_what_the_cgroup_says_as_well(
    woken: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = woken.plan()
    monkeypatch.setattr(FakeHost, "recall", lambda *_: MIB)
    (outcome,) = woken.apply(plan).outcomes
    assert (outcome.status, outcome.moved_bytes, moved(woken)) == (Status.PARTIAL, 0, 84 * MIB)


def test_a_recall_stops_for_a_guest_in_pain(woken: Installation) -> None:
    plan = woken.plan()
    guest = woken.host.guests[0]
    guest.hot -= guest.demoted  # so that nothing has come back before the pain is noticed

    def stall(seconds: float) -> None:
        guest.stalled_seconds += 0.5 * seconds

    woken.host.workers.append(stall)
    (outcome,) = woken.apply(plan).outcomes
    assert outcome.detail.startswith("stopped: memory pressure of the domain 50")
    assert woken.kernel.damon.running == {}


def test_killed_while_it_moves_the_next_command_stops_the_kdamond(
    installation: Installation, killer: Killer
) -> None:
    found = installation.baseline()
    plan = installation.plan()
    killer.aim_at(installation.host, "on")
    with pytest.raises(Killed):
        installation.apply(plan)
    killer.revive()
    assert installation.kernel.damon.running
    assert installation.restore().left == ()
    assert installation.baseline() == found
