"""Guests, libvirt and a kernel that do not do as they are told."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable

import pytest

from overcommit.damon.sysfs import ROOT
from overcommit.errors import HostError, OvercommitError, StalePlan
from overcommit.model.action import PageoutAction, subject_of
from overcommit.model.outcome import Fault, Outcome, Status
from overcommit.testing import Behaviour, FakeHost
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer


class OnTheFirst:
    """Does something once, when the program first writes a value or to a path."""

    def __init__(self, host: FakeHost, what: str, then: Callable[[], None]) -> None:
        self._what, self._then, self._done = what, then, False
        host.on_write = self

    def __call__(self, path: str, value: str) -> None:
        if self._what in {path, value} and not self._done:
            self._done = True
            self._then()


@pytest.mark.parametrize(
    ("behaviour", "status", "fault", "says"),
    [
        (Behaviour.STUCK, Status.PARTIAL, Fault.STUCK, "stopped moving"),
        (Behaviour.REFUSING, Status.PARTIAL, None, "refused"),
        (Behaviour.PHANTOM, Status.UNDONE, Fault.PHANTOM, "given back"),
        (Behaviour.HUNG, Status.FAILED, None, "did not answer"),
        (Behaviour.SILENT, Status.PARTIAL, Fault.SILENT, "no longer answers"),
    ],
)
def test_a_guest_that_does_not_cooperate_is_named_and_harms_nobody(
    installation: Installation, behaviour: Behaviour, status: Status, fault: Fault | None, says: str
) -> None:
    """From its first balloon step on; the other guest's action is carried out all the same.

    Libvirt refuses from the second step on, and the host keeps what the first one brought.
    """
    plan = installation.plan()
    free = installation.host.guests[1]
    OnTheFirst(installation.host, "balloon/free", lambda: setattr(free, "behaviour", behaviour))
    outcomes = {subject_of(o.action): o for o in installation.apply(plan).outcomes}
    assert (outcomes["free"].status, says in outcomes["free"].detail) == (status, True), outcomes["free"]
    assert outcomes["free"].fault is fault
    if behaviour is not Behaviour.HUNG:  # what libvirt made of the last word nobody knows
        assert installation.left_at("free") == outcomes["free"].left_at_bytes == free.balloon_target_bytes
    assert [q.domain.name for q in installation.past().quarantines] == (["free"] if fault else [])
    assert outcomes["cold"].status is Status.DONE
    if behaviour is Behaviour.PHANTOM:
        assert free.balloon_target_bytes == free.memory_bytes


def test_the_journal_knows_where_an_interrupted_balloon_was_left(installation: Installation) -> None:
    plan = installation.plan()
    free = installation.host.guests[1]
    steps = itertools.count()

    def interrupt(path: str, _value: str) -> None:
        if path == "balloon/free" and next(steps) == 1:
            raise KeyboardInterrupt

    installation.host.on_write = interrupt
    with pytest.raises(KeyboardInterrupt):
        installation.apply(plan)
    assert 57 * MIB < free.balloon_target_bytes < free.memory_bytes
    assert installation.left_at("free") == free.balloon_target_bytes
    assert installation.restore().left == ()
    assert free.balloon_target_bytes == free.memory_bytes
    assert installation.left_at("free") is None


@pytest.mark.parametrize("refused", [False, True])
def test_the_journal_knows_where_a_relief_left_the_balloon(installation: Installation, refused: bool) -> None:
    """Not where it was to go: else the next plan would blame somebody else for having moved it."""
    installation.apply(installation.plan())
    free = installation.host.guests[1]
    reduced = free.balloon_target_bytes
    free.resident = set(range(reduced // MIB))
    free.free.clear()
    installation.host.advance(5)
    plan = installation.plan()
    (relief,) = (a for a in plan.runnable if subject_of(a) == "free")
    if refused:
        free.behaviour = Behaviour.REFUSING
    outcome = next(o for o in installation.apply(plan).outcomes if o.action == relief)
    assert outcome.status is (Status.FAILED if refused else Status.DONE)
    assert free.balloon_target_bytes == (reduced if refused else relief.after_bytes)
    assert installation.left_at("free") == outcome.left_at_bytes == free.balloon_target_bytes
    assert installation.past().balloons[0].baseline_bytes == free.memory_bytes


def test_a_journal_that_takes_no_more_does_not_keep_a_guest_squeezed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first record is the way back; where the balloon was left is only good to know."""
    monkeypatch.setattr("overcommit.apply.execute.MOST_AT_ONCE", 1)
    plan = installation.plan()
    free = installation.host.guests[1]

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def then() -> None:
        free.behaviour = Behaviour.PHANTOM
        monkeypatch.setattr("overcommit.records.journal.os.write", full)

    OnTheFirst(installation.host, "balloon/free", then)
    outcomes: list[Outcome] = []
    with contextlib.suppress(HostError):  # from a page-out by a kdamond, which cannot be noted at all
        installation.apply(plan, outcomes)
    assert (outcomes[0].status, free.balloon_target_bytes) == (Status.UNDONE, free.memory_bytes)
    assert "No space left" in outcomes[0].detail


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [("busy_with", "a libvirt job", "busy with a libvirt job"), ("paused", True, "paused")],
)
def test_a_page_out_stops_when_its_guest_must_be_left_alone(
    installation: Installation, what: str, value: object, says: str
) -> None:
    plan = installation.plan()
    cold = installation.host.guests[0]
    OnTheFirst(installation.host, installation.first_of_pageout, lambda: setattr(cold, what, value))
    outcome = next(o for o in installation.apply(plan).outcomes if subject_of(o.action) == "cold")
    assert (outcome.status, says in outcome.detail) == (Status.PARTIAL, True), outcome.detail
    assert cold.swapped == set(), "it was stopped before the actor had looked three times"


def test_a_page_out_that_fails_halfway_reports_what_it_had_done_by_then(installation: Installation) -> None:
    """Its cgroup cannot be read any more; what the host got until then is told all the same."""
    host = installation.host
    plan = installation.plan()
    cold = host.guests[0]

    def unreadable(path: str) -> None:
        if cold.swapped and path.endswith("memory.stat"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    host.on_read = unreadable
    outcome = next(o for o in installation.apply(plan).outcomes if subject_of(o.action) == "cold")
    assert (outcome.status, outcome.freed_bytes) == (Status.PARTIAL, len(cold.swapped) * MIB)
    assert "cannot read the cgroup" in outcome.detail
    assert installation.kernel.damon.running == {}


@pytest.mark.parametrize("actor", ["damos-fvaddr"], indirect=True)
def test_a_kdamond_that_cannot_be_stopped_at_once_is_reported_with_what_it_did(
    installation: Installation,
) -> None:
    plan = installation.plan()
    cold = installation.host.guests[0]
    refusals = itertools.count()

    def refuse_once(path: str, value: str) -> None:
        if path.endswith("/state") and value == "off" and next(refusals) == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    installation.host.on_write = refuse_once
    outcome = next(o for o in installation.apply(plan).outcomes if subject_of(o.action) == "cold")
    assert (outcome.status, outcome.freed_bytes) == (Status.PARTIAL, len(cold.swapped) * MIB)
    assert outcome.freed_bytes > 0
    assert "refused 'off'" in outcome.detail
    assert installation.kernel.damon.running == {}, "giving DAMON back tries again"


@pytest.mark.parametrize("actor", ["damos-paddr"], indirect=True)
def test_paging_out_by_physical_address_is_refused_where_the_kernel_cannot_bound_it(
    installation: Installation,
) -> None:
    installation.kernel.damon.version = (6, 12)
    plan = installation.plan()
    cold = installation.host.guests[0]
    outcome = next(o for o in installation.apply(plan).outcomes if subject_of(o.action) == "cold")
    assert (outcome.status, outcome.freed_bytes, cold.swapped) == (Status.FAILED, 0, set())
    assert "cannot bound" in outcome.detail
    assert installation.kernel.damon.running == {}


@pytest.mark.parametrize("size", [8, 20, 36])
@pytest.mark.parametrize("actor", ["cold-hint+reclaim"], indirect=True)
def test_a_small_page_out_is_complete_when_no_more_of_it_may_be_taken(
    installation: Installation, size: int
) -> None:
    """What reclaim might take too much of is left, and nobody waits for it."""
    cold = installation.host.guests[0]
    cold.resident = set(range(26 + size))
    plan = installation.plan()
    outcome = next(o for o in installation.apply(plan).outcomes if subject_of(o.action) == "cold")
    assert (outcome.status, outcome.action.expected_bytes) == (Status.DONE, size * MIB)
    assert size * MIB - 4 * MIB <= outcome.freed_bytes <= size * MIB
    assert outcome.seconds < 5


def test_a_plan_is_refused_when_swap_filled_up_before_apply(installation: Installation) -> None:
    plan = installation.plan()
    found = installation.baseline()
    installation.host.swap_of_others_bytes = installation.host.swap_total_bytes - 20 * MIB
    with pytest.raises(StalePlan, match="swap"):
        installation.apply(plan)
    assert installation.baseline() == found
    assert installation.outstanding == 0


def test_a_swap_that_fills_up_meanwhile_ends_a_page_out_in_part(installation: Installation) -> None:
    """What found no room is reported as not freed."""
    host = installation.host
    plan = installation.plan()
    filled = host.swap_total_bytes - 20 * MIB
    OnTheFirst(host, installation.first_of_pageout, lambda: setattr(host, "swap_of_others_bytes", filled))
    outcome = next(o for o in installation.apply(plan).outcomes if subject_of(o.action) == "cold")
    assert outcome.status is Status.PARTIAL, outcome.detail
    assert 0 < outcome.freed_bytes <= 20 * MIB


def test_a_module_that_comes_on_during_plan_stays_on_and_the_one_moved_aside_is_named(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody turns damon_reclaim on between our claim and our first kdamond: damon_stat has to wait."""
    monkeypatch.setattr("overcommit.damon.sysfs._BUSY_DEADLINE_SECONDS", 0.01)
    modules = installation.kernel.damon.modules
    OnTheFirst(installation.host, "on", lambda: modules.update(damon_reclaim=True))
    with pytest.raises(
        HostError, match=r"another user runs it exclusively; .* damon_stat cannot be turned on again"
    ):
        installation.plan()
    assert len(installation.restore().left) == 1
    assert modules["damon_reclaim"]
    modules["damon_reclaim"] = False
    assert installation.restore().left == ()
    assert modules["damon_stat"]
    assert installation.outstanding == 0


@pytest.mark.parametrize("actor", ["damos-fvaddr"], indirect=True)
def test_restore_leaves_a_hung_guest_for_later_and_gives_damon_back(
    installation: Installation, killer: Killer
) -> None:
    found = installation.baseline()
    plan = installation.plan()
    killer.aim_at(installation.host, "on")
    with pytest.raises(Killed):
        installation.apply(plan)
    killer.revive()
    free = installation.host.guests[1]
    assert installation.kernel.damon.running
    assert free.balloon_target_bytes < free.memory_bytes
    free.behaviour = Behaviour.HUNG
    restored = installation.restore()
    assert ["free" in sentence for sentence in restored.left] == [True]
    assert installation.kernel.damon.running == {}
    assert installation.outstanding == 1
    free.behaviour = Behaviour.OBEDIENT
    assert installation.restore().left == ()
    assert installation.baseline() == found


def test_ebusy_now_and_then_changes_nothing(installation: Installation) -> None:
    """Somebody else is inside a DAMON command again and again."""
    accesses = itertools.count()

    def busy_at_times(path: str) -> None:
        if path.startswith(ROOT) and next(accesses) % 50 == 0:
            installation.kernel.busy = 2

    installation.host.on_read = busy_at_times
    assert installation.apply(installation.plan()).complete
    assert next(accesses) > 200


@pytest.mark.parametrize("quiet", range(0, 400, 40))
def test_a_storm_of_ebusy_ends_the_work_and_restore_mends_all_when_it_is_over(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, quiet: int
) -> None:
    """After so many accesses DAMON's tree stays locked for longer than we are willing to wait."""
    monkeypatch.setattr("overcommit.damon.sysfs._BUSY_DEADLINE_SECONDS", 0.01)
    found = installation.baseline()
    accesses = itertools.count()

    def storm(path: str) -> None:
        if path.startswith(ROOT) and next(accesses) == quiet:
            installation.kernel.busy = 1_000_000

    installation.host.on_read = storm
    installation.host.on_write = lambda path, _value: storm(path)
    with pytest.raises(OvercommitError):
        installation.plan()
    installation.kernel.busy = 0
    installation.restore()
    assert installation.baseline() == found
    assert installation.outstanding == 0


def test_a_plan_is_refused_when_the_guest_uses_more_by_now(installation: Installation) -> None:
    """Its balloon would squeeze what the guest needs."""
    plan = installation.plan()
    found = installation.baseline()
    installation.host.guests[1].free.clear()
    installation.host.advance(5)  # until the guest has said so
    with pytest.raises(StalePlan, match="domain free now uses"):
        installation.apply(plan)
    assert installation.baseline() == found


def test_restore_leaves_a_balloon_alone_that_somebody_else_moved(installation: Installation) -> None:
    """It gives back what we took, and does not undo what an operator decided later."""
    installation.apply(installation.plan())
    free = installation.host.guests[1]
    free.balloon_bytes = free.balloon_target_bytes = 40 * MIB
    assert any("somebody else moved it" in sentence for sentence in installation.restore().done)
    assert free.balloon_target_bytes == 40 * MIB
    assert installation.outstanding == 0


def test_what_an_earlier_boot_left_is_not_replayed_in_this_one(
    installation: Installation, killer: Killer
) -> None:
    """The module that we had turned off is the administrator's again, who booted with it off."""
    killer.aim_at(installation.host, "on")
    with pytest.raises(Killed):
        installation.plan()
    killer.revive()
    damon = installation.kernel.damon
    installation.host.boot_id = "another boot"
    damon.running.clear()
    damon.tree["nr_kdamonds"] = "0"
    for slot in [name for name in damon.tree if name.isdecimal()]:
        del damon.tree[slot]
    damon.modules["damon_stat"] = False
    assert installation.plan().runnable
    assert damon.modules["damon_stat"] is False


def test_a_trace_that_somebody_looks_at_keeps_nothing_else_from_being_given_back(
    installation: Installation,
) -> None:
    found = installation.baseline()

    def refuse(path: str, value: str) -> None:
        if value == "rmdir":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)

    installation.host.on_write = refuse
    with pytest.raises(HostError, match="tracing instance"):
        installation.plan()
    assert not installation.kernel.damon.running
    assert installation.outstanding == 1
    assert "tracing instance" in installation.restore().left[0]
    installation.host.on_write = lambda _path, _value: None
    assert installation.restore().left == ()
    assert installation.baseline() == found
    assert installation.outstanding == 0


def damo_stop_and_start(installation: Installation, slots: int = 1) -> None:
    """What ``damo stop; damo start --ops paddr`` does to the tree."""
    kernel = installation.kernel
    for slot in tuple(kernel.damon.running):
        kernel.write(f"{ROOT}/{slot}/state", "off")
    kernel.write(f"{ROOT}/nr_kdamonds", str(slots))
    for slot in range(slots):
        for path, value in (
            ("contexts/nr_contexts", "1"),
            ("contexts/0/operations", "paddr"),
            ("contexts/0/targets/nr_targets", "1"),
            ("state", "on"),
        ):
            kernel.write(f"{ROOT}/{slot}/{path}", value)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("after", [0.5, 5.0, 15.0])
def test_a_plan_leaves_damon_to_another_tool_that_takes_it_and_names_it(
    installation: Installation, after: float, slots: int
) -> None:
    host, damon = installation.host, installation.kernel.damon
    due = [after]

    def come(seconds: float) -> None:
        due[0] -= seconds
        if damon.running and due[0] <= 0 and len(due) == 1:
            due.append(0)
            damo_stop_and_start(installation, slots)

    host.workers.append(come)
    with pytest.raises(
        HostError, match=r"another tool .*kdamond 0 \(thread 9000, paddr on physical memory\)"
    ):
        installation.plan()
    assert sorted(damon.running) == list(range(slots))
    assert all(kdamond.operations == "paddr" for kdamond in damon.running.values())
    assert ["damon_stat" in left for left in installation.restore().left] == [True]
    assert sorted(damon.running) == list(range(slots))
    damon.running.clear()
    assert installation.restore().left == ()
    assert damon.modules["damon_stat"]


def test_a_page_out_leaves_damon_to_another_tool_that_takes_it_and_says_what_had_gone(
    installation: Installation,
) -> None:
    host, damon = installation.host, installation.kernel.damon
    damon.modules["damon_stat"] = False
    plan = installation.plan()
    came: list[float] = []

    def come(seconds: float) -> None:
        if damon.running and host.guests[0].swapped and not came:
            came.append(seconds)
            damo_stop_and_start(installation)

    host.workers.append(come)
    outcomes = installation.apply(plan).outcomes
    (pageout,) = (o for o in outcomes if isinstance(o.action, PageoutAction) and o.freed_bytes)
    if "damos" not in str(pageout.action):
        assert not came, "who reclaims needs no kdamond"
        return
    assert pageout.status is Status.PARTIAL
    assert "another tool has taken DAMON" in pageout.detail
    assert pageout.freed_bytes == len(host.guests[0].swapped) * MIB
    assert list(damon.running) == [0]
    assert damon.running[0].operations == "paddr"
