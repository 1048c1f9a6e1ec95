"""What our kdamonds are made of: the monitor that only looks, and the actors that page out or move.

They are separate because every action but ``stat`` resets the age of the regions it matches
(mm/damon/core.c, damos_apply_scheme): who acts cannot measure idleness.
"""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
from collections.abc import Sequence

from overcommit.damon.capabilities import Capabilities
from overcommit.damon.tree import (
    Context,
    Filter,
    Goal,
    Intervals,
    IntervalsGoal,
    Kdamond,
    MonitoringAttributes,
    Quota,
    RegionLimits,
    Scheme,
    SchemeLimit,
    Target,
    Weights,
    pattern,
)
from overcommit.damon.tuning import ACCESS_RATIO, AGGREGATIONS
from overcommit.errors import Unsupported
from overcommit.model.heat import SAMPLES
from overcommit.model.ranges import Range, chop, total_size
from overcommit.units import MIB, PAGE_SIZE, PIECE_ALIGNMENT

SHORTEST_SAMPLE_SECONDS, LONGEST_SAMPLE_SECONDS = 0.05, 0.2
"""What tuning keeps to: windows of 1 to 4 s.

Longer ones cost less, but memory that came into use since the last one ended is called cold (docs/adr/0006).
"""


def monitor_intervals(sample_seconds: float = 0.1, *, tuned_by_kernel: bool = False) -> Intervals:
    """The intervals of a monitor; the kernel's own (5 ms, 100 ms) are "too short in many cases".

    Documentation/mm/damon/monitoring_intervals_tuning_example.rst. A kernel that can tune them keeps the
    number of samples.
    """
    goal = IntervalsGoal(
        access_ratio=ACCESS_RATIO,
        aggregations=AGGREGATIONS,
        min_sample_seconds=SHORTEST_SAMPLE_SECONDS,
        max_sample_seconds=LONGEST_SAMPLE_SECONDS,
    )
    return Intervals(
        sample_seconds=sample_seconds,
        aggregation_seconds=SAMPLES * sample_seconds,
        goal=goal if tuned_by_kernel else IntervalsGoal(),
    )


ACTOR_INTERVALS = Intervals(sample_seconds=0.1, aggregation_seconds=1.0)
RECHECK_AGGREGATIONS = 3
"""A range classified cold must also be idle this long in the actor's own view before it is paged out.

It exceeds the quota's window on purpose: kernels 6.12 and 6.17 leave the first window unlimited
(damos_adjust_quota sets charged_from, but no esz), and no region is old enough to match in that one.
"""
QUOTA_WINDOW_SECONDS = ACTOR_INTERVALS.aggregation_seconds
"""One for each time that a scheme is applied."""
_NEVER_SECONDS = 86400.0
"""When a quota that is meant once is due again."""
_FAIL_CHARGE_DENOMINATOR = 1000
"""What it leaves costs a scheme a thousandth of its quota: looking at it is not free, but nearly so."""
_OTHERS_DENOMINATOR = 1_000_000
"""Where all of the host's memory is looked at again and again with one quota for all of it."""


_GOAL = 10_000
"""Our measure of a domain's pain, when it is at its bound."""


def with_mark(kdamond: Kdamond, mark: int) -> Kdamond:
    """The same with a mark of ours (µs) in its update interval: see `overcommit.damon.sysfs.MARK`."""
    marked = [
        dataclasses.replace(
            context,
            attributes=dataclasses.replace(
                context.attributes,
                intervals=dataclasses.replace(context.attributes.intervals, update_seconds=mark / 1_000_000),
            ),
        )
        for context in kdamond.contexts
    ]
    return dataclasses.replace(kdamond, contexts=tuple(marked))


class Sentinel:
    """A page of our own as a second target, so that a kdamond outlives its domain by our choice.

    Between Linux 6.14 and 7.1 a command that races with a kdamond's exit hangs for ever, holding DAMON's
    global lock (fixed by "mm/damon/core: fix damon_call() vs kdamond_fn() exit race", 2026).
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, PAGE_SIZE)
        self._page[0] = 1
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self.target = Target.of(os.getpid(), (Range(address, address + PAGE_SIZE),))


MONITOR_INTERVALS = monitor_intervals()
"""What a monitor begins with: windows of 2 s, in which its regions find their places quickly."""


def monitor_limits(ram: Sequence[Range]) -> RegionLimits:
    """Regions scale with guest RAM.

    At least one per 4 MiB so that a hot set of a few percent is found, and at most one per MiB so that small
    guests stay cheap, within what a host with many domains can afford.
    """
    mebibytes = total_size(ram) // MIB
    return RegionLimits(minimum=max(16, min(mebibytes // 4, 500)), maximum=max(64, min(mebibytes, 2000)))


def monitor(target: Target, sentinel: Sentinel, intervals: Intervals = MONITOR_INTERVALS) -> Kdamond:
    """A kdamond that watches guest RAM and does nothing to it.

    A target that comes in many pieces is taken as it is: as an earlier monitor had cut it.
    """
    limits = monitor_limits(target.ranges)
    if len(target.regions) < limits.minimum:
        target = _pre_split(target, limits.minimum)
    return _kdamond("fvaddr", intervals, limits, (target, sentinel.target), _look(intervals))


def process_monitor(
    pid: int, memory: Sequence[Range], sentinel: Sentinel, intervals: Intervals = MONITOR_INTERVALS
) -> Kdamond:
    """A kdamond that watches all that a process has mapped, for want of knowing where guest RAM is.

    ``vaddr`` finds out by itself, and looks again each minute; regions given to it would be overwritten. The
    sentinel's addresses may be the same as the process's: only the first target is reported.
    """
    look = _look(intervals)
    only_first = (Filter(kind="target", matching=False, target_index=0),)
    return _kdamond(
        "vaddr",
        intervals,
        monitor_limits(memory),
        (Target(pid=pid), Target(pid=sentinel.target.pid)),
        dataclasses.replace(look, filters=only_first),
    )


def host_limits(ram: Sequence[Range]) -> RegionLimits:
    """Coarse regions for the host's memory: who uses it is not their business."""
    minimum = max(16, min(total_size(ram) // (64 * MIB), 500))
    return RegionLimits(minimum=minimum, maximum=2 * minimum)


def host_monitor(ram: tuple[Range, ...], intervals: Intervals = MONITOR_INTERVALS) -> Kdamond:
    """A kdamond that watches all of the host's memory."""
    limits = host_limits(ram)
    target = _pre_split(Target.of(0, ram), limits.minimum)
    return _kdamond("paddr", intervals, limits, (target,), _look(intervals))


def _look(intervals: Intervals) -> Scheme:
    """Every region, for snapshots; answered after two samples rather than a whole aggregation."""
    return Scheme(pattern=pattern(), apply_seconds=2 * intervals.sample_seconds)


def fvaddr_actor(
    target: Target, *, max_bytes_per_second: int, lease_seconds: float, capabilities: Capabilities
) -> Kdamond:
    """A kdamond that pages out what is still idle in the target's ranges, at a bounded rate.

    Where the kernel can end a scheme by itself, it does so after ``lease_seconds`` at most, whatever happens
    to us. It counts the looks at all of the ranges, not those that the quota cut short (seen with Linux 7.3):
    it gets as many as take that long where all of the memory is idle. So the ranges must be no more than the
    quota allows in a fraction of that time.
    """
    min_regions = max(10, min(total_size(target.ranges) // MIB, 500))
    sweep_seconds = max(1.0, total_size(target.ranges) / max_bytes_per_second) * QUOTA_WINDOW_SECONDS
    looks = max(RECHECK_AGGREGATIONS + 1, int(lease_seconds / sweep_seconds))
    return _kdamond(
        "fvaddr",
        ACTOR_INTERVALS,
        RegionLimits(minimum=min_regions, maximum=1000),
        (_pre_split(target, min_regions),),
        _pageout(Quota(size=max_bytes_per_second), looks, capabilities),
    )


def fvaddr_migration(
    target: Target,
    nid: int,
    *,
    in_use: bool = False,
    max_bytes_per_second: int,
    lease_seconds: float,
    capabilities: Capabilities,
) -> Kdamond:
    """A kdamond that moves what is still idle in the target's ranges to a memory node, at a bounded rate.

    The kernel looks at each page's accessed bit, and clears it: a page is moved when a second look, at least
    `RECHECK_AGGREGATIONS` later, finds that it was not accessed since. What is left costs little of the quota
    from Linux 7.2 on; before that the first look takes as long as the moving.

    ``in_use`` turns it around: where at least one sample was a hit, pages that were accessed since the last
    look are moved. One is enough, for hits are real, and the page's own bit decides. No region comes before
    another: the hottest memory mostly lies on the node already, and its size counts when the kernel chooses
    what fits into the quota, moved or not. What is slower would never have its turn.

    Raises:
        Unsupported: this kernel's DAMON moves physical memory only.
    """
    if not capabilities.migration:
        raise Unsupported(
            "this kernel's DAMON cannot move the memory of a process to another node",
            hint="it came with Linux 6.17",
        )
    scheme = dataclasses.replace(
        _pageout(
            _forgiving(Quota(size=max_bytes_per_second), capabilities),
            round(lease_seconds / ACTOR_INTERVALS.aggregation_seconds),
            capabilities,
        ),
        action="migrate_cold",
        target_nid=nid,
        ops_filters=(Filter(kind="young", matching=True),),
    )
    if in_use:
        scheme = dataclasses.replace(
            scheme,
            action="migrate_hot",
            pattern=pattern(min_accesses=1),
            ops_filters=(Filter(kind="young", matching=False),),
        )
    min_regions = max(10, min(total_size(target.ranges) // MIB, 500))
    return _kdamond(
        "fvaddr",
        ACTOR_INTERVALS,
        RegionLimits(minimum=min_regions, maximum=1000),
        (_pre_split(target, min_regions),),
        scheme,
    )


def paddr_actor(
    ram: tuple[Range, ...],
    memcg_path: str,
    *,
    most_bytes: int,
    lease_seconds: float,
    capabilities: Capabilities,
) -> Kdamond:
    """A kdamond over the host's physical memory that pages out idle pages of one cgroup, coldest first.

    It takes ``most_bytes`` in all, as fast as it can: its one quota window is longer than anybody waits.
    Where it finds less, the kernel ends it after ``lease_seconds``.

    The kernel checks each page's accessed bits again before it takes it (an implicit young filter, since
    Linux 6.10). The filter rejects what is not the cgroup's: one that allows what is would skip that check.
    Pages of others use up the quota in full before Linux 7.2 (fail_charge).
    """
    only_ours = (Filter(kind="memcg", matching=False, memcg_path=memcg_path),)
    layered = capabilities.offers("contexts/0/schemes/0/ops_filters/nr_filters")
    quota = Quota(size=most_bytes, weights=Weights(age=1.0))
    quota = _forgiving(quota, capabilities, denominator=_OTHERS_DENOMINATOR)
    scheme = _pageout(quota, round(lease_seconds / ACTOR_INTERVALS.aggregation_seconds), capabilities)
    scheme = dataclasses.replace(
        scheme,
        quota=dataclasses.replace(quota, reset_seconds=_NEVER_SECONDS),
        filters=() if layered else only_ours,
        ops_filters=only_ours if layered else (),
    )
    min_regions = max(10, min(total_size(ram) // (4 * MIB), 1000))
    return _kdamond(
        "paddr",
        ACTOR_INTERVALS,
        RegionLimits(minimum=min_regions, maximum=2 * min_regions),
        (_pre_split(Target.of(0, ram), min_regions),),
        scheme,
    )


def _forgiving(
    quota: Quota, capabilities: Capabilities, *, denominator: int = _FAIL_CHARGE_DENOMINATOR
) -> Quota:
    """The same quota, of which memory that a scheme looks at and leaves takes next to nothing (Linux 7.2)."""
    if not capabilities.offers("contexts/0/schemes/0/quotas/fail_charge_denom"):
        return quota
    return dataclasses.replace(quota, fail_charge_num=1, fail_charge_denom=denominator)


def _pageout(quota: Quota, looks: int, capabilities: Capabilities) -> Scheme:
    """What has not been accessed for `RECHECK_AGGREGATIONS`, within a quota per second, for so many looks."""
    temporal = capabilities.temporal_goals
    return Scheme(
        action="pageout",
        pattern=pattern(max_accesses=0, min_age=RECHECK_AGGREGATIONS),
        quota=dataclasses.replace(
            quota,
            reset_seconds=QUOTA_WINDOW_SECONDS,
            goals=(Goal(target=_GOAL),) if temporal else (),
            tuner="temporal" if temporal else "consist",
        ),
        limit=SchemeLimit(max_snapshots=looks if capabilities.snapshot_limit else 0),
    )


def with_pain(kdamond: Kdamond, pain: float) -> Kdamond:
    """The actor as it shall go on: at full speed below a pain of 1, not at all from there on.

    It takes effect with ``commit_schemes_quota_goals``, in the next quota window. Whatever else is in a slot
    stays as it is.
    """
    current = round(min(pain, 2.0) * _GOAL)
    contexts = []
    for context in kdamond.contexts:
        schemes = []
        for scheme in context.schemes:
            goals = tuple(dataclasses.replace(goal, current=current) for goal in scheme.quota.goals)
            schemes.append(dataclasses.replace(scheme, quota=dataclasses.replace(scheme.quota, goals=goals)))
        contexts.append(dataclasses.replace(context, schemes=tuple(schemes)))
    return dataclasses.replace(kdamond, contexts=tuple(contexts))


def _kdamond(
    operations: str, intervals: Intervals, regions: RegionLimits, targets: tuple[Target, ...], scheme: Scheme
) -> Kdamond:
    context = Context(
        operations=operations,
        attributes=MonitoringAttributes(intervals=intervals, regions=regions),
        targets=targets,
        schemes=(scheme,),
    )
    return Kdamond(contexts=(context,))


def _pre_split(target: Target, count: int) -> Target:
    """The same addresses as about ``count`` regions.

    Before Linux 7.1 a kdamond starts with one region per range, and one accessed page makes all of it look
    accessed until splitting has worked its way down: half a minute with our intervals.
    """
    size = max(1, round(total_size(target.ranges) / count / PIECE_ALIGNMENT)) * PIECE_ALIGNMENT
    return Target.of(target.pid, tuple(chop(target.ranges, size)))
