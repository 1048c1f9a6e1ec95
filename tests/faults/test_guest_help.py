"""Help inside of a guest, through an agent that may be there or not: the whole job, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.apply.reporting import COMPACT_MEMORY
from overcommit.errors import HostError, StalePlan
from overcommit.hypervisor.guest_agent import DAMON_RECLAIM
from overcommit.model.action import BalloonAction, GuestReclaimAction, ReportingAction
from overcommit.model.outcome import Outcome, Status
from overcommit.model.policy import GuestHelp
from overcommit.policy import loader
from overcommit.testing import FakeAgent, FakeGuest, FakeHost, FakeKernel
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer

POLICY = """
version: 1
host: {{reserve: 8%}}
classes:
  all: {{floor: 20%, cold_after: 20s, actuators: [free_page_reporting, balloon], guest_help: [{help}]}}
default_class: all
"""
COMPACTION, RECLAIM = "compaction", "damon_reclaim"
COMPACTED = f"agent/web{COMPACT_MEMORY}"


def install(directory: Path, *help_: str) -> Installation:
    """A guest with 80 MiB free and resident, in pieces too small to be reported."""
    guest = FakeGuest(
        name="web",
        uuid="00000000-0000-0000-0000-000000000001",
        pid=501,
        memory_bytes=256 * MIB,
        resident=set(range(230)),
        hot=set(range(16)),
        free=set(range(150, 230)),
        scattered=set(range(150, 230)),
        free_page_reporting=True,
        agent=FakeAgent(),
    )
    host = FakeHost([guest])
    policy = loader.parse(POLICY.format(help=", ".join(help_)), "policy.yaml")
    return Installation(host, FakeKernel(host), directory, policy)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return install(tmp_path / "state", COMPACTION)


@pytest.fixture
def reclaiming(tmp_path: Path) -> Installation:
    return install(tmp_path / "state", RECLAIM)


def guest_of(installation: Installation) -> tuple[FakeGuest, FakeAgent]:
    (guest,) = installation.host.guests
    assert guest.agent is not None
    return guest, guest.agent


def only_outcome(installation: Installation) -> Outcome:
    (outcome,) = installation.apply(installation.plan()).outcomes
    return outcome


def test_a_compaction_lets_reporting_give_away_what_was_in_pieces(installation: Installation) -> None:
    guest, _ = guest_of(installation)
    plan = installation.plan()
    (action,) = plan.runnable
    assert isinstance(action, ReportingAction)
    assert (plan.expected_bytes, plan.needs_damon) == (48 * MIB, False)
    report = installation.apply(plan)
    assert report.complete
    assert (report.freed_bytes, len(guest.resident)) == (80 * MIB, 150)
    assert installation.outstanding == 0, "there is nothing to undo"
    assert guest.balloon_bytes == guest.memory_bytes
    again = installation.plan()
    assert not any(isinstance(a, ReportingAction) for a in again.actions)


def test_the_balloon_counts_only_on_what_reporting_leaves(tmp_path: Path) -> None:
    """Both see the same free memory; where it is reported there is nothing left for the balloon."""
    kinds = []
    for ways in ((), (COMPACTION,)):
        installation = install(tmp_path / str(ways), *ways)
        guest, _ = guest_of(installation)
        guest.memory_bytes = guest.balloon_bytes = guest.balloon_target_bytes = 512 * MIB
        guest.resident = set(range(450))
        guest.free = guest.scattered = set(range(150, 450))
        guest.report()
        kinds.append([type(action) for action in installation.plan().runnable])
    assert kinds == [[BalloonAction], [ReportingAction]]


def test_an_agent_is_not_asked_anything_unless_the_class_allows_it(tmp_path: Path) -> None:
    installation = install(tmp_path)
    _, agent = guest_of(installation)
    plan = installation.plan()
    installation.apply(plan)
    assert agent.asked == []
    assert plan.domains[0].guest_help == {}


def test_planning_asks_what_it_may_do_and_opens_nothing(installation: Installation) -> None:
    installation.plan()
    assert guest_of(installation)[1].asked == ["guest-info"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocked": {"guest-file-write"}}, "its guest agent may not do guest-file-write"),
        ({"blocked": {"guest-info"}}, "Command guest-info has been disabled"),
        ({"connected": False}, "its guest agent is not connected"),
        ({"hangs": True}, "didn't respond"),
    ],
)
def test_what_cannot_be_helped_is_planned_without_and_named(
    installation: Installation, change: dict[str, object], says: str
) -> None:
    _, agent = guest_of(installation)
    plan = installation.plan()
    for name, value in change.items():
        setattr(agent, name, value)
    domain = installation.plan().domains[0]
    assert says in domain.guest_help[GuestHelp.COMPACTION].reason
    assert domain.guest_help[GuestHelp.COMPACTION].hint
    with pytest.raises(StalePlan, match="no longer eligible for free_page_reporting"):
        installation.apply(plan)
    assert not agent.compacted


def test_a_guest_without_the_file_fails_in_its_own_words(installation: Installation) -> None:
    _, agent = guest_of(installation)
    del agent.files[COMPACT_MEMORY]
    outcome = only_outcome(installation)
    assert (outcome.status, outcome.freed_bytes) == (Status.FAILED, 0)
    assert COMPACT_MEMORY in outcome.detail


def test_an_agent_that_hangs_during_the_compaction_does_not_hide_what_came_of_it(
    installation: Installation,
) -> None:
    """It says nothing any more, but the kernel went on: the host is looked at all the same."""
    _, agent = guest_of(installation)

    def hang(path: str, _value: str) -> None:
        if path == COMPACTED:
            agent.hangs = True
            raise HostError("guest agent didn't respond to command within '60' seconds")

    installation.host.after_write = hang
    outcome = only_outcome(installation)
    assert (outcome.status, outcome.freed_bytes) == (Status.PARTIAL, 80 * MIB)
    assert "didn't respond" in outcome.detail


def test_a_compaction_that_brings_nothing_is_a_failure(installation: Installation) -> None:
    guest, _ = guest_of(installation)
    plan = installation.plan()
    guest.free_page_reporting = True

    def useless(path: str, _value: str) -> None:
        if path == COMPACTED:
            guest_of(installation)[1].compacted = False

    installation.host.after_write = useless
    (outcome,) = installation.apply(plan).outcomes
    assert (outcome.status, outcome.freed_bytes) == (Status.FAILED, 0)
    assert outcome.detail == "the guest compacted its memory, but the host got nothing"


def test_a_domain_that_vanishes_during_the_compaction_is_told(installation: Installation) -> None:
    plan = installation.plan()

    def vanish(path: str, _value: str) -> None:
        if path == COMPACTED:
            installation.host.guests.clear()

    installation.host.after_write = vanish
    (outcome,) = installation.apply(plan).outcomes
    assert (outcome.status, outcome.freed_bytes) == (Status.FAILED, 0)
    assert outcome.detail
    assert installation.outstanding == 0


def test_a_plan_is_stale_when_the_memory_was_used_again(installation: Installation) -> None:
    guest, _ = guest_of(installation)
    plan = installation.plan()
    guest.free -= set(range(150, 220))
    guest.report()
    with pytest.raises(StalePlan, match="less to give: the host holds"):
        installation.apply(plan)


def test_reclaim_inside_is_turned_on_and_put_back(reclaiming: Installation) -> None:
    _, agent = guest_of(reclaiming)
    found = dict(agent.files)
    plan = reclaiming.plan()
    action = plan.runnable[0]
    assert isinstance(action, GuestReclaimAction)
    outcome = reclaiming.apply(plan).outcomes[0]
    assert (outcome.status, outcome.freed_bytes) == (Status.DONE, 0)
    assert agent.files[f"{DAMON_RECLAIM}/enabled"] == "Y"
    assert agent.files[f"{DAMON_RECLAIM}/min_age"] == "20000000"
    assert not any(isinstance(a, GuestReclaimAction) for a in reclaiming.plan().actions), "it is on"
    restored = reclaiming.restore()
    assert restored.left == ()
    assert "DAMON_RECLAIM in web put back" in restored.done
    assert agent.files == found
    assert reclaiming.restore().done == ()


def test_what_somebody_else_set_since_stays(reclaiming: Installation) -> None:
    _, agent = guest_of(reclaiming)
    reclaiming.apply(reclaiming.plan())
    agent.files[f"{DAMON_RECLAIM}/min_age"] = "7000000"
    (said,) = [said for said in reclaiming.restore().done if "DAMON_RECLAIM" in said]
    assert said.endswith("except min_age: somebody else changed that")
    assert agent.files[f"{DAMON_RECLAIM}/min_age"] == "7000000"
    assert agent.files[f"{DAMON_RECLAIM}/enabled"] == "N"


def test_an_agent_that_is_gone_keeps_it_from_being_put_back_until_it_is_there(
    reclaiming: Installation,
) -> None:
    _, agent = guest_of(reclaiming)
    reclaiming.apply(reclaiming.plan())
    agent.connected = False
    (left,) = reclaiming.restore().left
    assert left.startswith("DAMON_RECLAIM in web: ")
    assert "not connected" in left
    agent.connected = True
    assert reclaiming.restore().left == ()
    assert agent.files[f"{DAMON_RECLAIM}/enabled"] == "N"


def test_a_restarted_domain_needs_nothing_put_back(reclaiming: Installation) -> None:
    guest, agent = guest_of(reclaiming)
    reclaiming.apply(reclaiming.plan())
    guest.start_time += 1
    asked = len(agent.asked)
    restored = reclaiming.restore()
    assert "domain web ended or was restarted: nothing to put back for DAMON_RECLAIM" in restored.done
    assert len(agent.asked) == asked
    assert reclaiming.outstanding == 0


def test_a_kernel_that_does_not_take_a_value_leaves_it_to_restore(reclaiming: Installation) -> None:
    """As where another user of DAMON in the guest keeps it from being turned on."""
    _, agent = guest_of(reclaiming)
    found = dict(agent.files)

    def busy(path: str, value: str) -> None:
        if path.endswith("/enabled") and value == "Y":
            raise HostError("failed to flush file: Device or resource busy")

    reclaiming.host.on_write = busy
    outcome = reclaiming.apply(reclaiming.plan()).outcomes[0]
    assert outcome.status is Status.FAILED
    assert "resource busy; to put it back: overcommitctl restore" in outcome.detail
    assert reclaiming.restore().left == ()
    assert agent.files == found


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 12))
def test_killed_at_any_write_restore_puts_the_guest_back(
    reclaiming: Installation, killer: Killer, write: int, *, after: bool
) -> None:
    """Rules S4 and S10, for what was written in the guest."""
    _, agent = guest_of(reclaiming)
    found, plan = dict(agent.files), reclaiming.plan()
    killer.aim(reclaiming.host, write, after=after)
    try:
        reclaiming.apply(plan)
    except Killed:
        pass
    finally:
        killer.revive()
    reclaiming.host.on_write = reclaiming.host.after_write = lambda _path, _value: None
    assert reclaiming.restore().left == ()
    assert agent.files == found
    assert reclaiming.outstanding == 0
