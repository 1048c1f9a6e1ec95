"""The account of a host, and the worst case, in exact figures."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from overcommit.model.accounts import Arc, CgroupLimit, Compressed, HugePages, Zswap
from overcommit.model.budget import HostBudget
from overcommit.model.facts import DomainFacts, HostFacts
from overcommit.model.past import NOTHING_PAST, Past, Reservation
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.plan.budget import make_budget, shared_limit, zfs_text
from overcommit.plan.planner import host_plan
from overcommit.units import GIB, MIB
from tests import scenarios

ALL_SWAP = {"host": {"swap": {"max_used": "100%", "max_write": "64MiB/s"}}}
DISK = SwapArea(path="/dev/sda2", kind=SwapKind.PARTITION, size_bytes=8 * GIB, used_bytes=0, encrypted=True)


def budget(host: HostFacts, *domains: DomainFacts) -> HostBudget:
    return make_budget(scenarios.snapshot(host, *domains), scenarios.policy(ALL_SWAP))


def limit(path: str, size: int, current: int, *, own: bool = False) -> CgroupLimit:
    return CgroupLimit(
        path=path, file="memory.max", limit_bytes=size, current_bytes=current, cache_bytes=0, own=own
    )


def test_everything_has_its_place() -> None:
    huge = HugePages(total_bytes=GIB, free_bytes=0)
    host = scenarios.host(
        huge_pages=huge, available=2 * GIB, arc=Arc(size_bytes=GIB, minimum_bytes=256 * MIB)
    )
    plain = scenarios.domain("web", size=3 * GIB, resident=2 * GIB, overhead=100 * MIB, cache=500 * MIB)
    on_huge = scenarios.domain("db", hugepages=True, overhead=50 * MIB)
    found = budget(host, plain, on_huge)
    assert found.huge_pages_bytes == GIB
    assert found.guests_bytes == 2 * GIB
    assert found.overhead_bytes == 150 * MIB
    assert found.free_bytes == found.available_bytes == 2 * GIB + 768 * MIB
    assert found.others_bytes == 8 * GIB - GIB - 2 * GIB - 150 * MIB - found.free_bytes
    assert found.promised_bytes == 3 * GIB + 150 * MIB
    assert found.overcommit_ratio == pytest.approx((3 * GIB + 150 * MIB) / (7 * GIB))
    assert found.worst_case.wanted_bytes == GIB


def test_what_zfs_has_to_give_back_first_is_available_but_not_free_now() -> None:
    host = scenarios.host(available=GIB, arc=Arc(size_bytes=5 * GIB, minimum_bytes=GIB))
    found = budget(host, scenarios.domain(size=4 * GIB, resident=GIB))
    assert (found.available_bytes, found.free_now_bytes, found.arc_bytes) == (5 * GIB, GIB, 4 * GIB)
    assert found.worst_case.rests_on == ("ZFS must give back 2.0 GiB",)
    assert zfs_text(found) == " (ZFS must give back 4.0 GiB)"
    bounded = budget(host, scenarios.domain(limits=[limit("/m", 2 * GIB, 512 * MIB)]))
    assert (bounded.available_bytes, bounded.free_now_bytes) == (3 * GIB // 2, GIB)
    assert zfs_text(bounded) == " (ZFS must give back 512 MiB)"


def test_a_promise_must_be_free_now_and_the_reserve_may_rest_on_zfs() -> None:
    host = scenarios.host(available=GIB, arc=Arc(size_bytes=5 * GIB, minimum_bytes=GIB))
    policy, snapshot = scenarios.policy({"host": {"reserve": "25%"}}), scenarios.snapshot(host)
    assert host_plan(snapshot, policy, NOTHING_PAST).short_bytes == 0
    one = Reservation(id=1, purpose=None, size_bytes=512 * MIB, expires_at=scenarios.NOW + 1)
    promised = host_plan(snapshot, policy, Past(reservations=(one,)))
    assert promised.headroom_bytes > 0
    assert promised.short_bytes == 2 * GIB + 512 * MIB - GIB


def test_what_is_promised_is_one_figure() -> None:
    on_huge = scenarios.domain("db", size=2 * GIB, hugepages=True)
    plain = scenarios.domain("web", size=2 * GIB, overhead=300 * MIB)
    plan = host_plan(scenarios.snapshot(scenarios.host(), on_huge, plain), scenarios.policy(), NOTHING_PAST)
    assert plan.promised_bytes == plan.budget.promised_bytes == 2 * GIB + 300 * MIB


def test_a_host_of_huge_pages_alone_has_no_ratio() -> None:
    host = scenarios.host(available=0, huge_pages=HugePages(total_bytes=8 * GIB, free_bytes=GIB), swap=())
    assert budget(host).overcommit_ratio is None


def test_a_memfd_has_the_same_account_as_anonymous_memory() -> None:
    figures: dict[str, Any] = {"size": 2 * GIB, "resident": GIB, "overhead": 30 * MIB, "cache": 300 * MIB}
    plain, memfd = scenarios.domain(**figures), scenarios.domain(shared=True, **figures)
    assert memfd.cgroup is not None
    assert memfd.cgroup.charge is not None
    assert memfd.cgroup.charge.shmem_bytes == GIB
    assert budget(scenarios.host(), memfd) == budget(scenarios.host(), plain)


@pytest.mark.parametrize(
    "domain",
    [
        scenarios.domain("web", overhead=MIB, shared_cgroup=True),
        scenarios.domain("web", overhead=MIB, gaps={"guest RAM": "not found"}),
        scenarios.domain("web", overhead=MIB, gaps={"cgroup": "none"}),
    ],
    ids=["others in its cgroup", "RAM not found", "no cgroup"],
)
def test_unknown_overhead_is_said_and_not_guessed(domain: DomainFacts) -> None:
    assert domain.overhead_bytes is None
    assert "overhead of web unknown" in budget(scenarios.host(), domain).rests_on


def test_a_sentence_names_a_few_domains_and_counts_many() -> None:
    def without(count: int) -> tuple[str, ...]:
        made = [scenarios.domain(f"vm-{n}", size=MIB, gaps={"cgroup": "none"}) for n in range(count)]
        return budget(scenarios.host(swap=()), *made).rests_on

    assert without(2) == ("overhead of vm-0, vm-1 unknown", "cgroup limits of vm-0, vm-1 unknown")
    assert without(4) == ("overhead of 4 domains unknown", "cgroup limits of 4 domains unknown")


def test_memory_that_nobody_could_read_counts_as_still_to_come() -> None:
    domain = scenarios.domain("web", gaps={"residency": "not permitted"})
    found = budget(scenarios.host(), domain)
    assert found.worst_case.wanted_bytes == GIB
    assert "memory of web unknown" in found.rests_on


def test_pushing_out_to_a_disk_costs_no_memory() -> None:
    host = scenarios.host(available=GIB, swap=[DISK])
    worst = budget(host, scenarios.domain(size=6 * GIB, resident=GIB)).worst_case
    assert (worst.memory_bytes, worst.swap_bytes, worst.pushed_bytes) == (GIB, 4 * GIB, 4 * GIB)
    assert worst.nowhere_bytes == 0
    assert worst.seconds == 64.0


def test_zram_keeps_its_share_as_assumed_until_there_is_enough_in_it_to_measure() -> None:
    domain = scenarios.domain(size=6 * GIB, resident=GIB)
    for held, pushed, basis in [
        (None, 3 * GIB // 2, "zram at 3.0:1, assumed"),
        (Compressed(stored_bytes=63 * MIB, used_bytes=60 * MIB), 3 * GIB // 2, "zram at 3.0:1, assumed"),
        (Compressed(stored_bytes=800 * MIB, used_bytes=400 * MIB), 2 * GIB, "zram at 2.0:1, measured"),
    ]:
        host = scenarios.host(available=4 * GIB, swap=[scenarios.zram(4 * GIB)], zram=held)
        found = budget(host, domain)
        assert found.worst_case.swap_bytes == GIB
        assert found.worst_case.pushed_bytes == pushed
        assert found.rests_on == (basis,)


def test_a_zram_that_does_not_compress_makes_no_room() -> None:
    useless = Compressed(stored_bytes=GIB, used_bytes=GIB + MIB)
    host = scenarios.host(available=GIB, swap=[scenarios.zram(4 * GIB, GIB)], zram=useless)
    worst = budget(host, scenarios.domain(size=3 * GIB, resident=GIB)).worst_case
    assert (worst.swap_bytes, worst.pushed_bytes, worst.nowhere_bytes) == (0, 0, GIB)


def test_zswap_takes_memory_until_its_pool_is_full() -> None:
    pool = Compressed(stored_bytes=400 * MIB, used_bytes=200 * MIB)
    zswap = Zswap(enabled=True, most=0.1, pool=pool)
    host = scenarios.host(total=10 * GIB, available=0, swap=[DISK], zswap=zswap)
    worst = budget(host, scenarios.domain(size=4 * GIB, resident=GIB)).worst_case
    room = 1024 * MIB - 200 * MIB  # of the pool: it takes that much, for twice as much pushed out
    assert worst.swap_bytes == 3 * GIB
    assert worst.pushed_bytes == 3 * GIB + room
    off = budget(dataclasses.replace(host, zswap=dataclasses.replace(zswap, enabled=False)))
    assert off.rests_on == ()


def test_what_comes_back_from_swap_leaves_its_room_to_others() -> None:
    host = scenarios.host(available=0, swap=[scenarios.zram(GIB, GIB)])
    worst = budget(host, scenarios.domain(size=4 * GIB, resident=3 * GIB, swapped=GIB)).worst_case
    assert (worst.wanted_bytes, worst.swap_bytes, worst.nowhere_bytes) == (GIB, GIB, 0)


def test_a_slice_bounds_only_what_all_guests_share() -> None:
    def inside(name: str, *limits: CgroupLimit) -> DomainFacts:
        return scenarios.domain(name, limits=limits)

    shared, tighter = limit("/m", 4 * GIB, GIB), limit("/m/a", GIB, 900 * MIB)
    own = limit("/m/web", GIB, GIB, own=True)
    assert shared_limit([inside("a", own, shared), inside("b", shared)]) == shared
    assert shared_limit([inside("a", tighter, shared), inside("b", shared)]) == shared
    assert shared_limit([inside("a", tighter, shared), inside("b", tighter, shared)]) == tighter
    assert shared_limit([inside("a", tighter), inside("b", shared)]) is None
    assert shared_limit([inside("a", own)]) is None
    assert shared_limit([]) is None


def test_a_slice_that_leaves_more_than_the_host_has_is_no_bound() -> None:
    domain = scenarios.domain(limits=[limit("/m", 64 * GIB, GIB)])
    found = budget(scenarios.host(available=2 * GIB), domain)
    assert (found.available_bytes, found.limit) == (2 * GIB, None)


def test_a_slice_that_is_full_leaves_nothing() -> None:
    domain = scenarios.domain(limits=[limit("/m", GIB, 2 * GIB)])
    found = budget(scenarios.host(available=2 * GIB), domain)
    assert (found.available_bytes, found.free_bytes) == (0, 2 * GIB)
    assert found.limit == "/m (memory.max 1.0 GiB)"


def test_without_any_domain_the_worst_case_is_none() -> None:
    assert budget(scenarios.host()).worst_case.wanted_bytes == 0


def test_merged_memory_is_held_once_and_wanted_by_each_who_writes_to_it() -> None:
    merged = scenarios.ksm(sharing_bytes=300 * MIB)
    two = (scenarios.domain("a"), scenarios.domain("b"))
    apart, shared = (budget(scenarios.host(ksm=ksm), *two) for ksm in (scenarios.ksm(), merged))
    assert apart.guests_bytes - shared.guests_bytes == 300 * MIB
    assert (apart.worst_case.wanted_bytes, shared.worst_case.wanted_bytes) == (0, 300 * MIB)
    others = budget(scenarios.host(ksm=scenarios.ksm(sharing_bytes=3 * GIB)), *two)
    assert (others.guests_bytes, others.worst_case.wanted_bytes) == (0, 2 * GIB), (
        "not only guests' may be merged"
    )
