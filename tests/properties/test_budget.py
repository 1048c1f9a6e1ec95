"""What holds for the account of any host, even where its figures contradict each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model.accounts import Arc, CgroupLimit, Charge, Compressed, HugePages, Zswap
from overcommit.model.budget import HostBudget, WorstCase
from overcommit.model.facts import DomainFacts, Residency, Snapshot
from overcommit.model.moments import Wall
from overcommit.model.nodes import MemoryNode, NodeBinding
from overcommit.model.policy import Policy
from overcommit.model.ranges import Range
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.plan.budget import make_budget
from overcommit.plan.limits import tightest
from overcommit.plan.nodes import free_on_nodes, nodes_of
from overcommit.units import GIB
from tests import scenarios

SIZES = st.integers(0, 20 * GIB)
POOLS = st.none() | st.builds(Compressed, stored_bytes=SIZES, used_bytes=SIZES)
LIMITS = st.builds(
    CgroupLimit,
    path=st.sampled_from(["/machine.slice", "/machine.slice/inner.slice"]),
    file=st.just("memory.max"),
    limit_bytes=SIZES,
    current_bytes=SIZES,
    cache_bytes=SIZES,
    own=st.booleans(),
)
POLICIES = st.builds(
    lambda used: scenarios.policy({"host": {"swap": {"max_used": f"{used}%"}}}), st.integers(0, 100)
)


NODES = st.dictionaries(st.integers(0, 2), st.tuples(SIZES, SIZES), max_size=3).map(
    lambda found: tuple(
        MemoryNode(nid=nid, total_bytes=20 * GIB, free_bytes=free, droppable_bytes=droppable)
        for nid, (free, droppable) in found.items()
    )
)
BINDINGS = st.lists(
    st.builds(NodeBinding, nodes=st.frozensets(st.integers(0, 2), min_size=1), size_bytes=st.none() | SIZES),
    max_size=3,
).map(tuple[NodeBinding, ...])


@st.composite
def areas(draw: st.DrawFn) -> SwapArea:
    size = draw(SIZES)
    kind = draw(st.sampled_from(SwapKind))
    return SwapArea(path="/dev/x", kind=kind, size_bytes=size, used_bytes=draw(st.integers(0, size)))


@st.composite
def guests(draw: st.DrawFn) -> DomainFacts:
    size, resident = draw(SIZES), draw(SIZES)
    hugepages, shared = draw(st.booleans()), draw(st.booleans())
    plain = scenarios.domain("web", size=size, resident=0, hugepages=hugepages, shared=shared)
    assert plain.cgroup is not None
    charge = Charge(anon_bytes=draw(SIZES), shmem_bytes=draw(SIZES), cache_bytes=0, kernel_bytes=0)
    residency = Residency(resident=(Range(0, resident),) if resident else (), swapped_bytes=draw(SIZES))
    return dataclasses.replace(
        plain,
        cgroup=dataclasses.replace(plain.cgroup, charge=charge, swap_bytes=draw(SIZES)),
        residency=draw(st.sampled_from([residency, residency, None])),
        limits=draw(st.none() | st.lists(LIMITS, max_size=2).map(tuple)),
        swap_limits=draw(st.none() | st.lists(LIMITS, max_size=2).map(tuple)),
        allowed_nodes=draw(st.none() | st.frozensets(st.integers(0, 2))),
        placement=draw(st.none() | st.dictionaries(st.integers(0, 2), SIZES)),
        definition=dataclasses.replace(plain.definition, bindings=draw(BINDINGS)),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Not one that `scenarios.snapshot` would take: files are read one after the other, and may disagree."""
    host = dataclasses.replace(
        scenarios.host(swap=draw(st.lists(areas(), max_size=2))),
        total_bytes=draw(st.integers(1, 20 * GIB)),
        mem_available_bytes=draw(SIZES),
        nodes=draw(st.just(()) | NODES),
        huge_pages=draw(st.none() | st.builds(HugePages, total_bytes=SIZES, free_bytes=SIZES)),
        arc=draw(st.none() | st.builds(Arc, size_bytes=SIZES, minimum_bytes=SIZES)),
        zram=draw(POOLS),
        zswap=draw(
            st.none()
            | st.builds(
                Zswap,
                enabled=st.booleans(),
                most=st.floats(0, 1),
                pool=st.builds(Compressed, stored_bytes=SIZES, used_bytes=SIZES),
            )
        ),
    )
    return Snapshot(taken_at=Wall(0.0), host=host, domains=tuple(draw(st.lists(guests(), max_size=3))))


def figures(data: HostBudget | WorstCase) -> Iterator[tuple[str, float]]:
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if isinstance(value, int | float):
            yield field.name, value


@given(snapshots(), POLICIES)
def test_nothing_is_ever_negative(snapshot: Snapshot, policy: Policy) -> None:
    budget = make_budget(snapshot, policy)
    assert [name for name, value in figures(budget) if value < 0] == []
    assert [name for name, value in figures(budget.worst_case) if value < 0] == []
    assert budget.overcommit_ratio is None or budget.overcommit_ratio >= 0


@given(snapshots(), POLICIES)
def test_the_parts_are_the_whole(snapshot: Snapshot, policy: Policy) -> None:
    budget = make_budget(snapshot, policy)
    parts = (budget.huge_pages_bytes, budget.guests_bytes, budget.overhead_bytes, budget.others_bytes)
    assert sum(parts) + budget.free_bytes == budget.total_bytes
    assert budget.available_bytes <= budget.free_bytes
    assert (budget.available_bytes < budget.free_bytes) is (budget.limit is not None)
    worst = budget.worst_case
    assert worst.memory_bytes + worst.swap_bytes + worst.nowhere_bytes == worst.wanted_bytes
    assert worst.memory_bytes <= budget.available_bytes
    assert budget.arc_bytes <= budget.free_bytes
    assert budget.free_now_bytes <= min(budget.available_bytes, snapshot.host.mem_available_bytes)
    assert (budget.free_now_bytes < worst.memory_bytes) is any("ZFS" in b for b in worst.rests_on)


@given(snapshots(), POLICIES)
def test_swap_takes_what_the_policy_allows_and_more_goes_there_than_it_makes_room_for(
    snapshot: Snapshot, policy: Policy
) -> None:
    host, worst = snapshot.host, make_budget(snapshot, policy).worst_case
    comes_back = min(
        sum(d.residency.swapped_bytes for d in snapshot.domains if d.residency), host.swap_used_bytes
    )
    allowed = round(policy.swap.max_used * host.swap_total_bytes)
    assert worst.swap_bytes <= worst.pushed_bytes
    assert worst.pushed_bytes <= max(0, allowed - host.swap_used_bytes + comes_back)
    assert worst.seconds * policy.swap.max_write_bytes_per_second <= worst.pushed_bytes * 1.001


@given(snapshots(), POLICIES, SIZES)
def test_more_memory_never_makes_it_worse(snapshot: Snapshot, policy: Policy, more: int) -> None:
    host = snapshot.host
    richer = dataclasses.replace(
        host,
        total_bytes=host.total_bytes + more,
        mem_available_bytes=host.mem_available_bytes + more,
    )
    before = make_budget(snapshot, policy)
    after = make_budget(dataclasses.replace(snapshot, host=richer), policy)
    assert after.available_bytes >= before.available_bytes
    bound = any((*(d.limits or ()), *(d.swap_limits or ())) for d in snapshot.domains) or host.nodes
    if before.limit is None and after.limit is None and not bound:
        assert after.worst_case.nowhere_bytes <= before.worst_case.nowhere_bytes + 1  # a byte by rounding
        assert after.worst_case.pushed_bytes <= before.worst_case.pushed_bytes + 2


@given(snapshots(), POLICIES, SIZES, st.data())
def test_more_promised_never_makes_it_better(
    snapshot: Snapshot, policy: Policy, more: int, data: st.DataObject
) -> None:
    if not snapshot.domains:
        return
    index = data.draw(st.integers(0, len(snapshot.domains) - 1))
    domains = list(snapshot.domains)
    size = domains[index].definition.maximum_bytes + more
    definition = dataclasses.replace(domains[index].definition, maximum_bytes=size)
    domains[index] = dataclasses.replace(domains[index], definition=definition)
    before = make_budget(snapshot, policy)
    after = make_budget(dataclasses.replace(snapshot, domains=tuple(domains)), policy)
    assert after.worst_case.wanted_bytes >= before.worst_case.wanted_bytes
    assert after.worst_case.nowhere_bytes >= before.worst_case.nowhere_bytes
    assert after.worst_case.pushed_bytes >= before.worst_case.pushed_bytes
    assert after.promised_bytes >= before.promised_bytes


@given(snapshots(), POLICIES)
def test_no_guest_has_more_than_its_limits_and_its_nodes_leave(snapshot: Snapshot, policy: Policy) -> None:
    """Of one guest alone, which nothing but what bounds it can be the reason for."""
    for domain in snapshot.domains:
        worst = make_budget(dataclasses.replace(snapshot, domains=(domain,)), policy).worst_case
        bound, nodes = tightest(domain.limits), nodes_of(domain, snapshot.host)
        merged = min(snapshot.host.ksm.sharing_bytes, worst.wanted_bytes) if snapshot.host.ksm else 0
        if bound is not None:
            assert worst.memory_bytes <= bound.room_bytes + merged
        if nodes is not None:
            free = free_on_nodes(snapshot.host)
            assert worst.memory_bytes <= sum(free.get(node, 0) for node in nodes) + merged
        if tightest(domain.swap_limits) and not any(limit.limit_bytes for limit in domain.swap_limits or ()):
            assert worst.swap_bytes == 0 or (domain.residency is not None and domain.residency.swapped_bytes)


@given(snapshots())
def test_nodes_together_have_no_more_than_is_available(snapshot: Snapshot) -> None:
    free = free_on_nodes(snapshot.host)
    assert all(size >= 0 for size in free.values())
    assert sum(free.values()) <= snapshot.host.mem_available_bytes
