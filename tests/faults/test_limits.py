"""Limits of cgroups at the moment of acting: they may be other ones than those that were planned with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.apply.balloon import move_balloon
from overcommit.apply.context import ApplyContext
from overcommit.control.freeing import require_possible
from overcommit.errors import Refused
from overcommit.model.action import GUEST_IN_PAIN, BalloonAction, PageoutAction
from overcommit.model.facts import DomainFacts
from overcommit.model.nodes import MemoryNode, NodeBinding
from overcommit.model.outcome import Status
from overcommit.model.policy import PageoutActor
from overcommit.plan.promises import Wish
from overcommit.testing import FakeGuest
from overcommit.units import MIB
from overcommit.wire.protocol import Verb
from tests.faults.daemon import Daemon, Disk, World, policy_text
from tests.routines import run

ACTORS = [actor.value for actor in PageoutActor]


def page_outs(world: World) -> int:
    return sum(len(guest.swapped) for guest in world.host.guests) * MIB


@pytest.mark.parametrize("actor", ACTORS)
def test_a_slice_that_may_not_swap_keeps_all_in_memory(tmp_path: Path, disk: Disk, actor: str) -> None:
    del disk
    world = World(tmp_path, policy_text(actor=actor))
    world.host.slice_swap_limit_bytes = 0
    daemon = world.daemon()
    daemon.run_for(240.0)
    assert page_outs(world) == 0
    plan = daemon.controller.state.plan
    assert plan is not None
    assert not any(isinstance(action, PageoutAction) for action in plan.actions)


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("most", [0, 8])
def test_where_nothing_may_go_past_zswap_no_more_is_taken_than_zswap_holds(
    tmp_path: Path, disk: Disk, actor: str, most: int
) -> None:
    """At 3:1 that is three times its limit; without one more of it is idle."""
    del disk
    world = World(tmp_path, policy_text(actor=actor))
    world.host.zswap, world.host.slice_zswap_writeback = True, False
    world.host.slice_zswap_limit_bytes = most * MIB
    daemon, asked = world.daemon(), 0

    def look() -> None:
        nonlocal asked
        begun = [a for a in daemon.controller._acting.actions if isinstance(a, PageoutAction)]
        asked = max(asked, sum(action.expected_bytes for action in begun))

    daemon.run_for(300.0, look)
    assert asked <= 3 * most * MIB
    assert page_outs(world) <= 3 * most * MIB
    assert bool(page_outs(world)) is bool(most)


@pytest.mark.parametrize("actor", ACTORS)
def test_all_guests_of_a_slice_together_keep_to_its_limit(tmp_path: Path, disk: Disk, actor: str) -> None:
    del disk
    world = World(tmp_path, policy_text(actor=actor))
    world.host.slice_swap_limit_bytes = 24 * MIB
    daemon, most = world.daemon(), 0

    def look() -> None:
        nonlocal most
        asked = [a for a in daemon.controller._acting.actions if isinstance(a, PageoutAction)]
        most = max(most, sum(action.expected_bytes for action in asked))

    daemon.run_for(300.0, look)
    assert 0 < page_outs(world) <= 24 * MIB
    assert most <= 24 * MIB, "no more is begun together than the slice takes"


@pytest.mark.parametrize("actor", ACTORS)
def test_a_limit_that_was_lowered_after_the_plan_is_seen_by_the_actor(
    tmp_path: Path, disk: Disk, mocker: MockerFixture, actor: str
) -> None:
    """Here after it was found to be fresh, too: else the plan would be refused for that."""
    del disk
    mocker.patch("overcommit.control.applying.require_fresh")
    world = World(tmp_path, policy_text(actor=actor))
    verbs = world.verbs
    plan = verbs.plan()
    assert any(isinstance(action, PageoutAction) for action in plan.runnable)
    for guest in world.host.guests:
        guest.swap_limit_bytes = 0
    report = verbs.apply(plan)
    ended = [outcome for outcome in report.outcomes if isinstance(outcome.action, PageoutAction)]
    assert ended
    for outcome in ended:
        assert outcome.status is Status.FAILED
        assert "its cgroup may not swap (memory.swap.max 0 of its own cgroup)" in outcome.detail
    assert page_outs(world) == 0


def test_a_limit_that_others_reach_meanwhile_ends_a_reclaim(tmp_path: Path, disk: Disk) -> None:
    """The kernel would take the files of QEMU instead."""
    del disk
    world = World(tmp_path, policy_text(actor="memcg-reclaim"))
    verbs, asked = world.verbs, []
    plan = verbs.plan()

    def fill(path: str, _value: str) -> None:
        if path.endswith("memory.reclaim"):
            asked.append(path)
            world.host.slice_swap_limit_bytes = page_outs(world) + MIB

    world.host.after_write = fill
    report = verbs.apply(plan)
    first = next(o for o in report.outcomes if isinstance(o.action, PageoutAction))
    assert "its cgroup may swap no more (memory.swap.max" in first.detail
    assert 0 < first.freed_bytes < first.action.expected_bytes
    assert len(asked) == 1


def relief(world: World, daemon: Daemon, domain: DomainFacts) -> tuple[BalloonAction, ApplyContext]:
    """From 60 MiB to 100, and what it is done with."""
    action = BalloonAction(
        id="1",
        domain=domain.incarnation,
        before_bytes=60 * MIB,
        after_bytes=100 * MIB,
        expected_bytes=0,
        reason=GUEST_IN_PAIN,
        because="it hurts",
        risk="none",
    )
    context = ApplyContext(
        kernel=world.kernel,
        hypervisor=world.libvirt,
        clock=world.clock,
        generation=daemon.controller._generation,
        progress=lambda _: None,
    )
    return action, context


@pytest.mark.parametrize(
    ("limit", "status", "left_at"),
    [(None, Status.DONE, 100), (90, Status.PARTIAL, 70), (80, Status.FAILED, 60), (40, Status.FAILED, 60)],
)
def test_a_guest_in_pain_gets_what_its_limit_leaves_at_that_moment(
    tmp_path: Path, disk: Disk, limit: int | None, status: Status, left_at: int
) -> None:
    """Of 60 MiB that it has it holds 40, and may still fill the others; QEMU takes 20 beyond that."""
    del disk
    guest = FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(40)), overhead_bytes=20 * MIB)
    world = World(tmp_path, inhabitants=[guest])
    guest.balloon_bytes = guest.balloon_target_bytes = 60 * MIB
    guest.limit_bytes = None if limit is None else limit * MIB
    daemon = world.daemon(observe=True)
    daemon.run_for(5.0)
    assert daemon.controller.state.snapshot is not None
    (domain,) = daemon.controller.state.snapshot.domains
    action, context = relief(world, daemon, domain)
    outcome = run(move_balloon(context, action, domain), world.clock)
    assert outcome.status is status
    assert guest.balloon_bytes == left_at * MIB
    assert ("its limit is reached (memory.max" in outcome.detail) is (limit is not None)
    released = dataclasses.replace(
        action, before_bytes=left_at * MIB, after_bytes=128 * MIB, reason="released"
    )
    assert run(move_balloon(context, released, domain), world.clock).status is Status.DONE
    assert guest.balloon_bytes == 128 * MIB, "what it had before us it gets back, whatever its limit"


@pytest.mark.parametrize(
    ("free", "status", "left_at"), [(80, Status.DONE, 100), (15, Status.PARTIAL, 75), (0, Status.FAILED, 60)]
)
def test_a_guest_in_pain_gets_what_its_memory_node_has_at_that_moment(
    tmp_path: Path, disk: Disk, mocker: MockerFixture, free: int, status: Status, left_at: int
) -> None:
    """What it does not find there the kernel kills it for, however much there is on other nodes."""
    del disk
    guest = FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(40)), overhead_bytes=20 * MIB)
    world = World(tmp_path, inhabitants=[guest])
    guest.balloon_bytes = guest.balloon_target_bytes = 60 * MIB
    daemon = world.daemon(observe=True)
    daemon.run_for(5.0)
    assert daemon.controller.state.snapshot is not None
    (domain,) = daemon.controller.state.snapshot.domains
    bound = NodeBinding(nodes=frozenset({1}))
    domain = dataclasses.replace(domain, definition=dataclasses.replace(domain.definition, bindings=(bound,)))
    nodes = tuple(
        MemoryNode(nid=nid, total_bytes=1024 * MIB, free_bytes=there * MIB, droppable_bytes=0)
        for nid, there in ((0, 1000), (1, free))
    )
    mocker.patch("overcommit.apply.context.read_nodes", return_value=(nodes, ()))
    action, context = relief(world, daemon, domain)
    outcome = run(move_balloon(context, action, domain), world.clock)
    assert (outcome.status, guest.balloon_bytes) == (status, left_at * MIB)
    assert ("it must lie on memory node 1" in outcome.detail) is (status is not Status.DONE)


def test_no_more_is_promised_to_a_domain_than_its_own_limit_leaves_it(tmp_path: Path, disk: Disk) -> None:
    """It holds 40 MiB, and QEMU 20 beyond that: its limit leaves it 60 more, whatever the host has."""
    del disk
    guest = FakeGuest("web", "uuid-1", 501, 512 * MIB, resident=set(range(40)), overhead_bytes=20 * MIB)
    guest.limit_bytes = 120 * MIB
    daemon = World(tmp_path, inhabitants=[guest]).daemon(observe=True)
    daemon.run_for(60.0)
    asked = [
        daemon.order(Verb.RESERVE, size_bytes=size, purpose="web", timeout_seconds=60.0, hold_seconds=600.0)
        for size in (101 * MIB, 100 * MIB)
    ]
    daemon.run_for(11.0)
    refused, granted = (each.answer for each in asked)
    assert refused is not None
    assert granted is not None
    assert (
        "web has a limit (memory.max 120 MiB of its own cgroup) that is 1.0 MiB too low" in refused["message"]
    )
    assert granted["granted"] is True


BOUND = (
    "<domain><name>db</name><memory unit='MiB'>{size}</memory>"
    "<numatune><memory mode='strict' nodeset='1'/></numatune><devices/></domain>"
)


def reserve(daemon: Daemon, size: int, purpose: str, *, seconds: float = 60.0) -> dict[str, object]:
    order = daemon.order(
        Verb.RESERVE, size_bytes=size, purpose=purpose, timeout_seconds=seconds, hold_seconds=600.0
    )
    daemon.run_for(11.0)
    assert order.answer is not None
    return dict(order.answer)


def two_nodes(tmp_path: Path, free: int) -> World:
    """Gigabytes are free on the host, and so many MiB of them on its second node."""
    world = World(tmp_path)
    world.host.second_node_bytes = free * MIB
    return world


def test_a_domain_that_does_not_run_is_promised_no_more_than_its_nodes_have(
    tmp_path: Path, disk: Disk
) -> None:
    """libvirt starts it on node 1 or not at all, however much there is on the other."""
    del disk
    world = two_nodes(tmp_path, 200)
    world.libvirt.not_running["db"] = BOUND.format(size=300)
    daemon = world.daemon(observe=True)
    daemon.run_for(60.0)
    refused = reserve(daemon, 300 * MIB, "db")
    assert (
        "300 MiB cannot be reserved: db has a limit (it must lie on memory node 1) that is 100 MiB too low"
        in str(refused["message"])
    )
    assert reserve(daemon, 200 * MIB, "db")["granted"] is True
    assert reserve(daemon, 300 * MIB, "unknown")["granted"] is True, "of others nothing is known"


def test_what_another_domain_was_promised_on_a_node_is_not_there_any_more(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = two_nodes(tmp_path, 200)
    world.libvirt.not_running |= {name: BOUND.format(size=150) for name in ("db", "mail")}
    daemon = world.daemon(observe=True)
    daemon.run_for(60.0)
    assert reserve(daemon, 150 * MIB, "db")["granted"] is True
    assert "100 MiB too low" in str(reserve(daemon, 150 * MIB, "mail")["message"])


def test_a_definition_that_cannot_be_read_is_a_refusal_with_its_reason(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = two_nodes(tmp_path, 200)
    world.libvirt.not_running["db"] = "<domain><memory unit='bushel'>3</memory></domain>"
    daemon = world.daemon(observe=True)
    daemon.run_for(60.0)
    assert "unknown unit 'bushel'" in str(reserve(daemon, MIB, "db")["message"])
    daemon.run_for(5.0)
    assert daemon.controller.state.plan is not None


def test_the_verb_asks_for_the_definition_as_the_daemon_does(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = two_nodes(tmp_path, 200)
    world.libvirt.not_running["db"] = BOUND.format(size=300)
    verbs = world.verbs
    session = verbs.session()
    with session.generation("reserve") as generation:
        operation = verbs.operation(session, generation, take_over=True, hypervisor=world.libvirt)
        with pytest.raises(
            Refused, match=r"db has a limit \(it must lie on memory node 1\) that is 100 MiB too"
        ):
            require_possible(operation, Wish(size_bytes=300 * MIB, purpose="db"))
        stands = require_possible(operation, Wish(size_bytes=200 * MIB, purpose="db"))
    assert stands.missing_bytes == 0
