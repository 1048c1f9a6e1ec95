"""Builds kdamonds: the monitor, and the actors that page out or move memory.

They are separate because every action except ``stat`` resets the age of the regions that it matches
(mm/damon/core.c, damos_apply_scheme). A kdamond that acts cannot measure idle time.
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
"""The bounds of interval tuning: windows of 1 to 4 s. Longer windows cost less, but memory whose use began
after the last window ended is called cold (docs/adr/0006).
"""


def monitor_intervals(sample_seconds: float = 0.1, *, tuned_by_kernel: bool = False) -> Intervals:
    """The intervals of a monitor.

    The kernel's defaults (5 ms, 100 ms) are "too short in many cases"
    (Documentation/mm/damon/monitoring_intervals_tuning_example.rst). A kernel that tunes them keeps the
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
"""A range classified as cold must also be idle for this many aggregations of the actor before it is paged
out. This is more than the quota's window, because kernels 6.12 and 6.17 leave the first quota window
unlimited (damos_adjust_quota sets charged_from, but no esz). In that window no region is old enough to match.
"""
QUOTA_WINDOW_SECONDS = ACTOR_INTERVALS.aggregation_seconds
"""One quota window for each time that a scheme is applied."""
_NEVER_SECONDS = 86400.0
"""The reset interval of a quota that is used once."""
_FAIL_CHARGE_DENOMINATOR = 1000
"""Memory that a scheme checks and leaves is charged a thousandth, because the check is almost free."""
_OTHERS_DENOMINATOR = 1_000_000
"""The denominator where one quota covers repeated checks of all of the host's memory."""


_GOAL = 10_000
"""The value of the goal's metric when the domain is at its SLO bound."""


def with_mark(kdamond: Kdamond, mark: int) -> Kdamond:
    """The same with this program's mark (µs) in its update interval: see `overcommit.damon.sysfs.MARK`."""
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
    """A page of this process as a second target, so that a kdamond does not end with its domain.

    Between Linux 6.14 and 7.1 a command that races with a kdamond's exit hangs for ever and holds DAMON's
    global lock (fixed by "mm/damon/core: fix damon_call() vs kdamond_fn() exit race", 2026).
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, PAGE_SIZE)
        self._page[0] = 1
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self.target = Target.of(os.getpid(), (Range(address, address + PAGE_SIZE),))


MONITOR_INTERVALS = monitor_intervals()
"""The first intervals of a monitor: windows of 2 s, in which its regions adapt quickly."""


def monitor_limits(ram: Sequence[Range]) -> RegionLimits:
    """The number of regions of a monitor, by the size of guest RAM.

    At least one per 4 MiB, so that a hot set of a few percent is found. At most one per MiB, so that small
    guests stay cheap. Both are bounded for hosts with many domains.
    """
    mebibytes = total_size(ram) // MIB
    return RegionLimits(minimum=max(16, min(mebibytes // 4, 500)), maximum=max(64, min(mebibytes, 2000)))


def monitor(target: Target, sentinel: Sentinel, intervals: Intervals = MONITOR_INTERVALS) -> Kdamond:
    """A kdamond that monitors guest RAM and changes nothing.

    A target with many ranges is taken as it is: an earlier monitor had split it.
    """
    limits = monitor_limits(target.ranges)
    if len(target.regions) < limits.minimum:
        target = _pre_split(target, limits.minimum)
    return _kdamond("fvaddr", intervals, limits, (target, sentinel.target), _look(intervals))


def process_monitor(
    pid: int, memory: Sequence[Range], sentinel: Sentinel, intervals: Intervals = MONITOR_INTERVALS
) -> Kdamond:
    """A kdamond that monitors all mappings of a process, where the place of guest RAM is not known.

    ``vaddr`` finds the mappings by itself, and updates them each minute; it would overwrite given regions.
    The sentinel's addresses may equal the process's, because only the first target is reported.
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
    """A small number of regions for the host's memory. Users of memory need not be told apart."""
    minimum = max(16, min(total_size(ram) // (64 * MIB), 500))
    return RegionLimits(minimum=minimum, maximum=2 * minimum)


def host_monitor(ram: tuple[Range, ...], intervals: Intervals = MONITOR_INTERVALS) -> Kdamond:
    """A kdamond that monitors all of the host's memory."""
    limits = host_limits(ram)
    target = _pre_split(Target.of(0, ram), limits.minimum)
    return _kdamond("paddr", intervals, limits, (target,), _look(intervals))


def _look(intervals: Intervals) -> Scheme:
    """A ``stat`` scheme for all regions, for snapshots.

    It answers after two samples, not a whole aggregation.
    """
    return Scheme(pattern=pattern(), apply_seconds=2 * intervals.sample_seconds)


def fvaddr_actor(
    target: Target, *, max_bytes_per_second: int, lease_seconds: float, capabilities: Capabilities
) -> Kdamond:
    """A kdamond that pages out what is still idle in the target's ranges, at a bounded rate.

    Where the kernel can end a scheme by itself, it ends this one after at most ``lease_seconds``, also when
    this program has ended. The kernel counts complete passes over all ranges, not those that the quota cut
    short (seen with Linux 7.3). The number of passes fits ``lease_seconds`` if all of the memory is idle. So
    the ranges must be no more than the quota allows in a fraction of that time.
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

    The kernel checks and clears each page's accessed bit. A page is moved when a second check, at least
    `RECHECK_AGGREGATIONS` later, finds that it was not accessed since. From Linux 7.2 on, pages that are left
    cost little of the quota. Before that the first check takes as long as the moves.

    ``in_use`` is the reverse: in regions where at least one sample was a hit, pages that were accessed since
    the last check are moved. One hit is enough, because hits are real and the page's own bit decides. No
    region has priority: the hottest memory is mostly on the node already, and its size would use up the
    quota, moved or not, so that other memory would never be moved.

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

    It takes ``most_bytes`` in all, as fast as it can: its one quota window is longer than any lease. Where it
    finds less, the kernel ends it after ``lease_seconds``.

    The kernel checks each page's accessed bits again before it takes the page (an implicit young filter,
    since Linux 6.10). The cgroup filter rejects other pages; a filter that allows the cgroup's pages would
    skip that check. Before Linux 7.2 (fail_charge) other cgroups' pages use up the quota in full.
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
    """The same quota, with almost no charge for memory that a scheme checks and leaves (Linux 7.2)."""
    if not capabilities.offers("contexts/0/schemes/0/quotas/fail_charge_denom"):
        return quota
    return dataclasses.replace(quota, fail_charge_num=1, fail_charge_denom=denominator)


def _pageout(quota: Quota, looks: int, capabilities: Capabilities) -> Scheme:
    """A scheme for regions idle for `RECHECK_AGGREGATIONS`, with a quota per second, for some passes."""
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
    """The actor with new goal values: full speed while ``pain`` is below 1, and no work from 1 on.

    ``pain`` is the domain's worst SLO figure as a share of its bound. It takes effect with
    ``commit_schemes_quota_goals``, in the next quota window. Nothing else in the slot changes.
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

    Before Linux 7.1 a kdamond starts with one region per range. One accessed page then makes the whole range
    look accessed until regions have been split: half a minute with these intervals.
    """
    size = max(1, round(total_size(target.ranges) / count / PIECE_ALIGNMENT)) * PIECE_ALIGNMENT
    return Target.of(target.pid, tuple(chop(target.ranges, size)))
