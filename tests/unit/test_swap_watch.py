"""Swap from reading to reading, and what page-outs may do by that (rule S7)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from overcommit.model.accounts import Compressed
from overcommit.model.facts import HostFacts
from overcommit.model.policy import SwapBudget
from overcommit.model.swap import SwapArea, SwapKind, SwapTraffic
from overcommit.plan.swap_budget import Grant, SwapFlow, filled_next, judge_swap
from overcommit.plan.swap_watch import FEWEST_READS, SwapWatch, WriteAccount
from overcommit.units import GIB, MIB
from tests import scenarios

BUDGET = SwapBudget(
    max_used=0.6,
    max_write_bytes_per_second=50 * MIB,
    max_write_bytes_per_day=100 * GIB,
    max_latency_seconds=0.02,
)
HOUR = 3600.0


def disk(name: str = "sdb2", *, used: int = 0, priority: int = 0, **counts: Any) -> SwapArea:
    return SwapArea(
        path=f"/dev/{name}",
        kind=SwapKind.PARTITION,
        size_bytes=8 * GIB,
        used_bytes=used,
        priority=priority,
        encrypted=True,
        device=scenarios.block_device(name, **counts),
    )


def zram(used: int = 0, *, priority: int = 100, written: int = 0, **pool: Any) -> SwapArea:
    return dataclasses.replace(
        scenarios.zram(GIB, used),
        priority=priority,
        device=scenarios.block_device("zram0", written_bytes=written),
        **pool,
    )


def reading(*areas: SwapArea, out: int | None = 0, kept: int = 0, boot: str = "boot-1") -> HostFacts:
    """A host whose counters say so: ``out`` written to areas, ``kept`` by zswap beside."""
    traffic = None if out is None else SwapTraffic(paged_out_bytes=out + kept, written_bytes=out)
    return dataclasses.replace(scenarios.host(swap=areas, swap_traffic=traffic), boot_id=boot)


def flow_of(*readings: HostFacts, every: float = 10.0) -> SwapFlow:
    watch = SwapWatch.begin(readings[0])
    for one in readings[1:]:
        watch = watch.after(one, every)
    assert watch.flow is not None
    return watch.flow


def test_one_reading_shows_no_flow_and_only_room_is_judged() -> None:
    watch = SwapWatch.begin(reading(disk()))
    assert watch.flow is None
    verdict = watch.verdict(BUDGET)
    assert (verdict.room_bytes, verdict.why_not) == (round(0.6 * 8 * GIB), None)
    assert verdict.unknown == (
        "the speed and the wear of swap on /dev/sdb2 are not known yet: that takes two measurements",
    )
    assert SwapWatch.begin(reading(zram())).verdict(BUDGET).unknown == ()


def test_what_is_paged_out_now_is_of_all_kinds() -> None:
    flow = flow_of(reading(disk(), out=GIB), reading(disk(), out=GIB + 30 * MIB, kept=70 * MIB))
    assert flow.bytes_per_second == 10 * MIB
    assert flow.written_bytes == 30 * MIB  # what zswap keeps wears nothing
    assert flow.known_seconds == 10.0


def test_what_went_to_zram_wears_no_disk() -> None:
    before = reading(zram(written=GIB), disk(), out=5 * GIB)
    after = reading(zram(written=GIB + 60 * MIB), disk(), out=5 * GIB + 100 * MIB)
    assert flow_of(before, after).written_bytes == 40 * MIB
    alone = flow_of(reading(zram(), out=0), reading(dataclasses.replace(zram(), device=None), out=100 * MIB))
    assert alone.written_bytes == 0


def test_counters_read_one_after_the_other_do_not_add_up_to_wear() -> None:
    """zram's is read later: what is written in between is counted there first, and later as written."""
    readings = [reading(zram(), disk(), out=0)]
    readings += [reading(zram(written=n * MIB + MIB), disk(), out=n * MIB) for n in range(1, 50)]
    assert flow_of(*readings).written_bytes == 0
    settled = reading(zram(written=50 * MIB), disk(), out=53 * MIB)
    assert flow_of(*readings, settled).written_bytes == 3 * MIB


@pytest.mark.parametrize(
    "later",
    [
        reading(disk(), out=MIB, boot="boot-2"),
        reading(disk(), out=None),
        reading(disk(), out=MIB),
    ],
    ids=["rebooted", "unreadable", "backwards"],
)
def test_counters_that_began_again_are_no_flow(later: HostFacts) -> None:
    flow = flow_of(reading(disk(reads=1000, read_seconds=90.0), out=GIB), later)
    assert not flow.bytes_per_second
    assert (flow.written_bytes, flow.seconds_per_read) == (0, {})


def test_the_rate_is_not_counted_over_an_instant() -> None:
    watch = SwapWatch.begin(reading(disk(), out=0))
    soon = watch.after(reading(disk(used=GIB), out=40 * MIB), 0.4)
    assert soon.flow is None
    assert soon.verdict(BUDGET).room_bytes == round(0.6 * 8 * GIB) - GIB  # its room is of now
    later = soon.after(reading(disk(), out=100 * MIB), 0.6)
    assert later.flow is not None
    assert later.flow.bytes_per_second == 100 * MIB
    assert watch.after(reading(disk(), out=100 * MIB), -5.0).flow is None


def test_a_disk_is_judged_by_its_reads_of_late() -> None:
    few = FEWEST_READS - 1
    assert flow_of(reading(disk()), reading(disk(reads=few, read_seconds=9.0))).seconds_per_read == {}
    slow = reading(disk(reads=100, read_seconds=4.8))
    flow = flow_of(reading(disk()), slow)
    assert flow.seconds_per_read == {"sdb2": pytest.approx(0.048)}
    fast = reading(disk(reads=10_100, read_seconds=4.8 + 10.0))
    assert flow_of(reading(disk()), slow, fast).seconds_per_read["sdb2"] == pytest.approx(0.0013, abs=1e-4)
    # Nobody reads any more: after a few minutes nobody knows.
    assert flow_of(reading(disk()), *[slow] * 30).seconds_per_read == {}


def test_a_watch_does_not_grow() -> None:
    watch = SwapWatch.begin(reading(disk("sda0")))
    for n in range(1, 200):
        watch = watch.after(
            reading(disk(f"sda{n // 2}", reads=100 * n, read_seconds=float(n)), out=n * GIB), HOUR
        )
    assert len(watch.account.by_hour) == 25
    assert watch.reads.keys() <= {"sda99"}


def test_an_account_forgets_after_a_day() -> None:
    account = WriteAccount().after(70 * GIB, 60.0)
    assert (account.written_bytes, account.known_seconds) == (70 * GIB, 60.0)
    for _ in range(23):
        account = account.after(GIB, HOUR)
    assert account.written_bytes == 93 * GIB
    account = account.after(0, HOUR).after(0, HOUR)
    assert (account.written_bytes, account.known_seconds) == (23 * GIB, 24 * HOUR)
    assert account.after(MIB, 1000 * HOUR).written_bytes == MIB


def worn(budget: SwapBudget = BUDGET, **flow: Any) -> SwapFlow:
    return SwapFlow(**{"bytes_per_second": 0.0, "written_bytes": budget.max_write_bytes_per_day, **flow})


def test_slow_worn_limited_and_overused_swap_ends_page_outs_under_way_and_a_busy_one_does_not() -> None:
    slow = judge_swap(reading(disk()), BUDGET, SwapFlow(bytes_per_second=0, seconds_per_read={"sdb2": 0.021}))
    assert slow.halt == slow.why_not == "swap on /dev/sdb2 is slow: 21 ms per read, the policy allows 20 ms"
    used_up = judge_swap(reading(disk()), BUDGET, worn())
    assert used_up.halt == used_up.why_not
    assert used_up.halt is not None
    assert used_up.halt.startswith("swap on /dev/sdb2 wears out: 100 GiB was written in a day")
    limit = zram(pool=Compressed(stored_bytes=300 * MIB, used_bytes=100 * MIB), pool_limit_bytes=100 * MIB)
    assert judge_swap(reading(limit), BUDGET).halt is not None
    busy = judge_swap(reading(disk()), BUDGET, SwapFlow(bytes_per_second=49.5 * MIB))
    assert (busy.halt, busy.why_not) == (None, "swap is written at 49.5 MiB/s, the policy allows 50.0 MiB/s")
    all_used = judge_swap(reading(disk(used=round(0.6 * 8 * GIB) + MIB)), BUDGET)
    assert (all_used.halt, all_used.room_bytes) == (None, 0)
    over = judge_swap(reading(disk(used=7 * GIB)), BUDGET)
    assert over.halt == over.why_not == "swap budget: 7.0 GiB of 8.0 GiB in use, the policy allows 60%"


def test_a_disk_at_the_limits_is_still_good() -> None:
    flow = SwapFlow(bytes_per_second=49 * MIB, seconds_per_read={"sdb2": 0.02}, written_bytes=90 * GIB)
    verdict = judge_swap(reading(disk()), BUDGET, flow)
    assert (verdict.why_not, verdict.halt, verdict.bytes_per_second) == (None, None, MIB)
    assert verdict.room_bytes == round(0.6 * 8 * GIB)


def test_what_was_granted_is_spoken_for() -> None:
    grant = Grant(room_bytes=4 * GIB, bytes_per_second=20 * MIB)
    verdict = judge_swap(reading(disk()), BUDGET, SwapFlow(bytes_per_second=5 * MIB), granted=grant)
    assert verdict.room_bytes == round(0.6 * 8 * GIB) - 4 * GIB
    assert verdict.bytes_per_second == 30 * MIB  # what is written now may be by those that were granted it
    others = judge_swap(reading(disk()), BUDGET, SwapFlow(bytes_per_second=35 * MIB), granted=grant)
    assert others.bytes_per_second == 15 * MIB
    everything = judge_swap(reading(disk()), BUDGET, granted=Grant(room_bytes=5 * GIB))
    assert everything.why_not is not None
    assert everything.why_not.startswith(
        "page-outs in progress may still take 5.0 GiB of swap; swap budget: "
    )
    rate = judge_swap(reading(disk()), BUDGET, granted=Grant(bytes_per_second=50 * MIB))
    assert rate.why_not == "page-outs in progress may write 50.0 MiB/s, the policy allows 50.0 MiB/s"


def test_the_kernel_fills_what_has_room_and_the_highest_priority() -> None:
    areas = [disk("sda2", priority=-2), zram(GIB), disk("sdb2", priority=5), disk("sdc2", priority=5)]
    assert [area.path for area in filled_next(areas)] == ["/dev/sdb2", "/dev/sdc2"]
    assert filled_next([zram(GIB)]) == ()


def test_what_cannot_be_read_is_said_and_blocks_nothing() -> None:
    blind = dataclasses.replace(disk(), device=None)
    verdict = judge_swap(reading(blind, out=None), BUDGET, SwapFlow(bytes_per_second=None))
    assert verdict.why_not is None
    assert verdict.unknown == (
        "the speed of swap on /dev/sdb2 cannot be measured",
        "the writes to swap on /dev/sdb2 cannot be measured",
    )
