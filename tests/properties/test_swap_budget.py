"""Page-outs of a plan never exceed the swap budget together, whatever swap is made of (rule S7)."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from overcommit.model.accounts import Compressed
from overcommit.model.action import PageoutAction
from overcommit.model.facts import DomainFacts
from overcommit.model.heat import Heat
from overcommit.model.policy import LEAST_WRITE_RATE, Policy, SwapBudget
from overcommit.model.swap import SwapArea, SwapKind, SwapTraffic
from overcommit.plan.feedback import Feedback
from overcommit.plan.planner import make_plan
from overcommit.plan.swap_budget import Grant, SwapFlow, judge_swap
from overcommit.plan.swap_watch import WriteAccount
from overcommit.units import GIB, MIB
from tests import scenarios

MANY = 600
"""Examples are cheap here, and what can go wrong has many sides."""
SIZES = st.sampled_from([300, 0, 20, 1000, 2000, 8000])  # MiB
BUDGETS = st.builds(
    SwapBudget,
    max_used=st.sampled_from([1.0, 1.0, 0.9, 0.6]),
    max_write_bytes_per_second=st.sampled_from([50, 50, 3]).map(lambda n: n * MIB),
    max_write_bytes_per_day=st.sampled_from([100 * MIB, GIB, 100 * GIB]),
    max_latency_seconds=st.just(0.02),
)


@st.composite
def areas(draw: st.DrawFn, number: int) -> SwapArea:
    kind = draw(st.sampled_from([SwapKind.ZRAM, SwapKind.PARTITION, SwapKind.FILE]))
    used, free = draw(SIZES) * MIB, draw(SIZES) * MIB
    name = f"{'zram' if kind is SwapKind.ZRAM else 'sd'}{number}"
    pool, limit = None, None
    if kind is SwapKind.ZRAM:
        pool = Compressed(stored_bytes=used, used_bytes=used // draw(st.sampled_from([1, 3])))
        limit = draw(st.sampled_from([None, None, pool.used_bytes + 50 * MIB, pool.used_bytes, 0]))
    return SwapArea(
        path=f"/dev/{name}",
        kind=kind,
        size_bytes=used + free,
        used_bytes=used,
        priority=draw(st.sampled_from([100, 5, 5, -2])),
        device=draw(st.sampled_from([scenarios.block_device(name)] * 4 + [None])),
        pool=pool,
        pool_limit_bytes=limit,
    )


@st.composite
def mixes(draw: st.DrawFn) -> tuple[SwapArea, ...]:
    return tuple(draw(areas(number)) for number in range(draw(st.integers(0, 4))))


FLOWS = st.builds(
    SwapFlow,
    bytes_per_second=st.sampled_from([0.0, None, 0.0, 1.5 * MIB, 30.0 * MIB]),
    seconds_per_read=st.builds(
        lambda slow: {f"sd{n}": 0.048 if n in slow else 0.001 for n in range(4)},
        st.sets(st.sampled_from([0, 1, 2, 3]), max_size=2),
    ),
    written_bytes=st.sampled_from([0, 90 * MIB, 90 * GIB, 101 * GIB]),
)
MAYBE = st.sampled_from([False, True, True, True])
GRANTS = st.builds(Grant, st.sampled_from([0, 0, 100 * MIB, 4 * GIB]), st.sampled_from([0, 0, MIB, 40 * MIB]))


def filled(mix: tuple[SwapArea, ...], size: int) -> dict[str, int]:
    """Where the kernel puts so much: by priority, in turns where several have the same."""
    put = dict.fromkeys((area.path for area in mix), 0)
    ordered = sorted(mix, key=lambda area: -area.priority)
    for _, group in itertools.groupby(ordered, key=lambda area: area.priority):
        left = sorted(group, key=lambda area: area.free_bytes)
        while left:
            area = left.pop(0)
            part = min(area.free_bytes, size // (len(left) + 1))
            put[area.path] = part
            size -= part
    return put


def _idle_guests() -> tuple[list[DomainFacts], dict[str, Heat], Policy]:
    """Guests that would be paged out as far as swap lets them be."""
    policy = scenarios.policy({"classes": {"standard": {"floor": "0%", "actuators": ["pageout"]}}})
    domains = [scenarios.domain(name, size=GIB) for name in ("a", "b", "c")]
    heats = {
        domain.incarnation.uuid: scenarios.heat(
            domain, [(300.0, 600 * MIB), (200.0, 300 * MIB), (0.0, 124 * MIB)], watched=300.0, policy=policy
        )
        for domain in domains
    }
    return domains, heats, policy


DOMAINS, HEATS, POLICY = _idle_guests()


@settings(max_examples=max(MANY, settings().max_examples))
@given(mixes(), BUDGETS, FLOWS, MAYBE, GRANTS, st.integers(1, 4))
def test_s7_page_outs_stay_within_the_swap_budget_together(
    mix: tuple[SwapArea, ...],
    budget: SwapBudget,
    flowing: SwapFlow,
    known: bool,
    granted: Grant,
    at_once: int,
) -> None:
    flow = flowing if known else None
    traffic = SwapTraffic(paged_out_bytes=0, written_bytes=0)
    host = scenarios.host(swap=mix, swap_traffic=traffic)
    policy = dataclasses.replace(POLICY, swap=budget)
    verdict = judge_swap(host, budget, flow, granted=granted, at_once=at_once)
    plan = make_plan(scenarios.snapshot(host, *DOMAINS), HEATS, policy, feedback=Feedback(swap=verdict))
    outs = [action for action in plan.runnable if isinstance(action, PageoutAction)]
    moved = sum(action.expected_bytes for action in outs)
    if not outs:
        return
    everything = moved + granted.room_bytes  # by the same way, first or last
    assert host.swap_used_bytes + everything <= budget.max_used * host.swap_total_bytes + 1
    put = filled(mix, everything)
    for area in mix:
        if area.on_disk and flow and area.device and flow.seconds_per_read.get(area.device.name, 0) > 0.02:
            assert put[area.path] == 0, "written to a slow disk"
        if area.pool is not None and area.pool_limit_bytes is not None:
            ratio = (
                area.pool.used_bytes / area.pool.stored_bytes if area.pool.stored_bytes >= 64 * MIB else 1 / 3
            )
            assert area.pool.used_bytes + put[area.path] * ratio <= max(
                area.pool_limit_bytes + 1, area.pool.used_bytes
            )
    if flow is not None and any(put[area.path] for area in mix if area.on_disk):
        to_disks = sum(put[area.path] for area in mix if area.on_disk)
        assert flow.written_bytes + to_disks <= budget.max_write_bytes_per_day
    fastest = sorted((action.max_bytes_per_second for action in outs), reverse=True)[:at_once]
    now = max((flow.bytes_per_second if flow else None) or 0, granted.bytes_per_second)
    assert now + sum(fastest) <= budget.max_write_bytes_per_second
    assert all(rate >= LEAST_WRITE_RATE for rate in fastest)


@given(
    st.lists(
        st.tuples(st.integers(0, 10 * GIB), st.sampled_from([1.0, 5.0, 600.0, 3600.0, 50_000.0])), max_size=80
    )
)
def test_an_account_of_a_day_counts_all_of_a_day_and_no_more_than_25_hours(
    writes: list[tuple[int, float]],
) -> None:
    account, now, log = WriteAccount(), 0.0, []
    for written, seconds in writes:
        now += seconds
        account = account.after(written, seconds)
        log.append((now, written))
    day = sum(written for at, written in log if at > now - 24 * 3600)
    more = sum(written for at, written in log if at > now - 25 * 3600)
    assert day <= account.written_bytes <= more
    assert len(account.by_hour) <= 25
    assert account.known_seconds == min(now, 24 * 3600)
