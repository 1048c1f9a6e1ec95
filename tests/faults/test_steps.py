"""Each executor on its way: given up at a wait, or told to stop, it leaves nothing that cannot be undone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.apply import actors
from overcommit.apply.context import ApplyContext
from overcommit.apply.execute import carry_out_one
from overcommit.apply.routines import Routine
from overcommit.clock import Clock
from overcommit.damon.pool import DamonPool
from overcommit.host.cgroup import reclaim
from overcommit.host.kernel import Kernel
from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
)
from overcommit.model.outcome import Outcome, Status
from overcommit.model.plan import Plan
from overcommit.model.policy import PageoutActor
from overcommit.observe.facts import observe
from overcommit.testing import Behaviour, FakeHypervisor
from overcommit.units import MIB
from tests.faults import test_demotion, test_guest_help, test_ksm, test_virtio_mem
from tests.faults.conftest import Installation, install
from tests.routines import run

Make = Callable[[Path], Installation]

REASON = "overcommitd ends"
SLOT = 2
"""Where kdamonds work here: the other slots of the pool are for watching."""


@dataclass
class Work:
    """One action under way; what is in ``reasons`` stops it."""

    steps: Routine[Outcome]
    clock: Clock
    reasons: list[str]

    def go_on(self, times: int) -> None:
        """Let it come to its ``times``-th wait from now; that one is not over yet."""
        for _ in range(times - 1):
            self.clock.wait(next(self.steps))
        next(self.steps)

    def stopped(self) -> Outcome:
        """Give it a reason, and have it end without waiting any more."""
        self.reasons.append(REASON)
        with pytest.raises(StopIteration) as end:
            next(self.steps)
        outcome: Outcome = end.value.value
        return outcome


@contextmanager
def under_way(installation: Installation, plan: Plan, kind: type[Action]) -> Iterator[Work]:
    """The plan's action of that kind, not begun yet."""
    session = installation.session()
    kernel, hypervisor = installation.kernel, FakeHypervisor(installation.host)
    (action,) = (action for action in plan.runnable if isinstance(action, kind))
    reasons: list[str] = []
    with (
        session.generation("overcommitd") as generation,
        DamonPool(kernel, session.journal, generation) as pool,
    ):
        facts = {d.incarnation: d for d in observe(kernel, hypervisor, session.clock).domains}
        context = ApplyContext(
            kernel=kernel,
            hypervisor=hypervisor,
            clock=session.clock,
            generation=generation,
            progress=lambda _: None,
            stop_because=lambda: reasons[0] if reasons else None,
        )
        if plan.needs_damon:
            pool.acquire(SLOT + 1, take_over=True)
        domain = None if isinstance(action, KsmAction) else facts[action.domain]
        yield Work(carry_out_one(context, pool, action, domain, slot=SLOT), session.clock, reasons)


EXECUTORS: dict[str, tuple[type[Action], Make]] = {
    **{a.value: (PageoutAction, functools.partial(install, actor=a.value)) for a in PageoutActor},
    "balloon": (BalloonAction, functools.partial(install, actor="damos-fvaddr")),
    "virtio-mem": (VirtioMemAction, test_virtio_mem.plugged),
    "demotion": (DemotionAction, test_demotion.two_nodes),
    "compaction": (ReportingAction, lambda path: test_guest_help.install(path, test_guest_help.COMPACTION)),
    "guest-reclaim": (
        GuestReclaimAction,
        lambda path: test_guest_help.install(path, test_guest_help.RECLAIM),
    ),
    "ksm": (KsmAction, test_ksm.two_guests),
}
BY_KDAMOND = {"damos-fvaddr", "damos-paddr", "demotion"}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("waits", [1, 2, 4])
def test_given_up_at_a_wait_nothing_is_at_work_and_restore_brings_all_back(
    tmp_path: Path, executor: str, waits: int
) -> None:
    kind, make = EXECUTORS[executor]
    installation = make(tmp_path / "state")
    found, plan = installation.baseline(), installation.plan()
    with under_way(installation, plan, kind) as work:
        work.go_on(waits)
        assert set(installation.kernel.damon.running) == ({SLOT} if executor in BY_KDAMOND else set())
        work.steps.close()
        assert installation.kernel.damon.running == {}
    for guest in installation.host.guests:
        assert guest.balloon_target_bytes >= guest.balloon_bytes, "nobody watches it any more"
        assert guest.requested_bytes >= guest.plugged_bytes
    touched = kind in {BalloonAction, VirtioMemAction, GuestReclaimAction, KsmAction}
    assert (installation.outstanding > 0) is touched
    assert installation.restore().left == ()
    installation.host.advance(2)
    assert installation.baseline() == found
    assert installation.outstanding == 0


def test_one_that_is_forgotten_is_given_up(tmp_path: Path) -> None:
    installation = install(tmp_path / "state", "damos-fvaddr")
    with under_way(installation, installation.plan(), PageoutAction) as work:
        work.go_on(1)
        assert set(installation.kernel.damon.running) == {SLOT}
        del work.steps
        assert installation.kernel.damon.running == {}


@pytest.mark.parametrize("executor", ["cold-hint+reclaim", "damos-fvaddr", "compaction"])
def test_on_a_host_too_busy_to_look_often_it_still_takes_what_there_is(tmp_path: Path, executor: str) -> None:
    """Resumed twenty seconds late each time: it is not for the guest that nothing has moved."""
    kind, make = EXECUTORS[executor]
    installation = make(tmp_path / "state")
    with under_way(installation, installation.plan(), kind) as work:
        try:
            while True:
                work.clock.wait(next(work.steps) + 20.0)
        except StopIteration as end:
            outcome: Outcome = end.value
    assert outcome.freed_bytes >= 0.75 * outcome.action.expected_bytes > 0, outcome.detail


def test_a_page_out_that_is_ahead_of_its_pace_waits_and_goes_on(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    """Reclaim may take far more at once than it was asked for; what stands still then is our doing."""
    installation = install(tmp_path / "state", "cold-hint+reclaim")
    plan = installation.plan()
    (action,) = (action for action in plan.actions if isinstance(action, PageoutAction))
    slow = dataclasses.replace(action, max_bytes_per_second=2 * MIB)
    asked: list[int] = []

    def gulp(kernel: Kernel, group: str, size: int) -> None:
        asked.append(size)
        reclaim(kernel, group, 32 * MIB if len(asked) == 1 else size)

    mocker.patch.object(actors, "reclaim", side_effect=gulp)
    with under_way(installation, dataclasses.replace(plan, actions=(slow,)), PageoutAction) as work:
        began = work.clock.monotonic()
        outcome = run(work.steps, work.clock)
        seconds = work.clock.monotonic() - began
    assert outcome.freed_bytes >= 0.9 * outcome.action.expected_bytes, outcome.detail
    assert outcome.freed_bytes / seconds <= 2.1 * MIB


@pytest.mark.parametrize("waits", [1, 3])
def test_told_to_stop_it_ends_at_once_and_says_why(tmp_path: Path, executor: str, waits: int) -> None:
    """Without another wait; and what was only watched goes on."""
    kind, make = EXECUTORS[executor]
    installation = make(tmp_path / "state")
    found, plan = installation.baseline(), installation.plan()
    with under_way(installation, plan, kind) as work:
        work.go_on(waits)
        outcome = work.stopped()
        assert installation.kernel.damon.running == {}
    if kind is KsmAction:
        assert outcome.status is Status.DONE
        assert outcome.detail.endswith(f"KSM keeps running unwatched (stopped: {REASON})")
        assert installation.kernel.ksm.settings["run"] == "1"
    elif outcome.freed_bytes >= outcome.action.expected_bytes > 0:
        assert (executor, waits) == ("compaction", 3), "all else takes longer"
        assert (outcome.status, outcome.detail) == (Status.DONE, "complete")
    else:
        assert (outcome.status, outcome.fault) == (Status.PARTIAL, None)
        assert outcome.detail.startswith(f"stopped: {REASON}")
    assert installation.restore().left == ()
    installation.host.advance(2)
    assert installation.baseline() == found
    assert installation.outstanding == 0


@pytest.mark.parametrize(
    ("kind", "make"), [EXECUTORS["balloon"], EXECUTORS["virtio-mem"]], ids=["balloon", "virtio-mem"]
)
def test_a_guest_on_its_way_down_is_left_where_it_is_when_told_to_stop(
    tmp_path: Path, kind: type[Action], make: Make
) -> None:
    """Its second step goes on slowly: it keeps what it has not given, and nobody calls it stuck."""
    installation = make(tmp_path / "state")
    plan = installation.plan()
    (action,) = (action for action in plan.runnable if isinstance(action, kind))
    assert isinstance(action, BalloonAction | VirtioMemAction)
    (guest,) = (g for g in installation.host.guests if g.name == action.domain.name)

    def told() -> int:
        return guest.balloon_target_bytes if kind is BalloonAction else guest.requested_bytes

    def given() -> int:
        return guest.balloon_bytes if kind is BalloonAction else guest.plugged_bytes

    with under_way(installation, plan, kind) as work:
        while given() == action.before_bytes:
            work.go_on(1)
            work.clock.wait(1.0)
        guest.behaviour = Behaviour.STUCK
        while told() == given():
            work.go_on(1)
            work.clock.wait(1.0)
        assert told() < given() < action.before_bytes
        outcome = work.stopped()
    assert outcome.detail == f"stopped: {REASON}"
    assert told() == given() == outcome.left_at_bytes
    assert outcome.freed_bytes == action.before_bytes - given()
    past = installation.past()
    assert [*(b.size_bytes for b in past.balloons), *(d.size_bytes for d in past.devices)] == [told()]
    assert past.quarantines == ()


def test_a_guest_that_was_just_asked_keeps_all_when_told_to_stop(tmp_path: Path) -> None:
    installation = install(tmp_path / "state", "damos-fvaddr")
    guest = installation.host.guests[1]
    with under_way(installation, installation.plan(), BalloonAction) as work:
        outcome = work.stopped()
    assert (outcome.status, outcome.freed_bytes) == (Status.PARTIAL, 0)
    assert guest.balloon_target_bytes == outcome.left_at_bytes == guest.memory_bytes


def reduced(directory: Path) -> Installation:
    """The second guest needs what its balloon took."""
    installation = install(directory / "state", "damos-fvaddr")
    installation.apply(installation.plan())
    guest = installation.host.guests[1]
    guest.resident = set(range(guest.balloon_target_bytes // MIB))
    guest.free.clear()
    installation.host.advance(5)
    return installation


def test_giving_back_is_not_stopped(tmp_path: Path) -> None:
    installation = reduced(tmp_path)
    guest = installation.host.guests[1]
    with under_way(installation, installation.plan(), BalloonAction) as work:
        work.reasons.append(REASON)
        outcome = run(work.steps, work.clock)
    assert isinstance(outcome.action, BalloonAction)
    assert (outcome.action.relieves, outcome.status) == (True, Status.DONE)
    assert guest.balloon_bytes == outcome.action.after_bytes


def test_giving_back_that_is_given_up_leaves_the_target_set(tmp_path: Path) -> None:
    installation = reduced(tmp_path)
    guest = installation.host.guests[1]
    plan = installation.plan()
    (relief,) = (action for action in plan.runnable if isinstance(action, BalloonAction))
    guest.behaviour = Behaviour.STUCK
    with under_way(installation, plan, BalloonAction) as work:
        work.go_on(2)
        work.steps.close()
    assert relief.relieves
    assert guest.balloon_target_bytes == installation.left_at("free") == relief.after_bytes
