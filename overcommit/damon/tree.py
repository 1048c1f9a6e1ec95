"""A kdamond as data: DAMON's sysfs interface up to Linux 7.3, without the attribute probes. Pure.

Every default is the kernel's, so ``Kdamond()`` is a new slot. Names, meanings and units:
Documentation/ABI/testing/sysfs-kernel-mm-damon and Documentation/admin-guide/mm/damon/usage.rst. Files that
are newer than Linux 6.12 are marked so; on an older kernel such a field must keep its default. Attribute
probes (7.2) are left out, because a probe's weight turns the monitoring of accesses off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overcommit.damon.codec import (
    BASIS_POINTS,
    BOOLEAN,
    MICROSECONDS,
    MILLISECONDS,
    NUMBER,
    PERMIL,
    TEXT,
    children,
    file,
    section,
)
from overcommit.host.figures import number
from overcommit.model.heat import AccessRegion
from overcommit.model.ranges import Range
from overcommit.units import PAGE_SIZE

U32_MAX = (1 << 32) - 1
ULONG_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalsGoal:
    """Kernel tuning of the intervals (Linux 6.15); off while ``aggregations`` is 0.

    The kernel changes the sampling interval within its bounds until the seen accesses, over so many
    aggregations, are the share ``access_ratio`` of the most that could be seen.
    """

    access_ratio: float = file("access_bp", BASIS_POINTS, 0.0)
    aggregations: int = file("aggrs", NUMBER, 0)
    min_sample_seconds: float = file("min_sample_us", MICROSECONDS, 0.0)
    max_sample_seconds: float = file("max_sample_us", MICROSECONDS, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """How often regions are sampled, aggregated, and (``vaddr`` only) updated from the mappings."""

    sample_seconds: float = file("sample_us", MICROSECONDS, 0.005)
    aggregation_seconds: float = file("aggr_us", MICROSECONDS, 0.1)
    update_seconds: float = file("update_us", MICROSECONDS, 60.0)
    goal: IntervalsGoal = section("intervals_goal", IntervalsGoal)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionLimits:
    """The number of regions that all targets of a context may have together."""

    minimum: int = file("min", NUMBER, 10)
    maximum: int = file("max", NUMBER, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringAttributes:
    """Intervals and region limits of a context."""

    intervals: Intervals = section("intervals", Intervals)
    regions: RegionLimits = section("nr_regions", RegionLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialRegion:
    """Addresses ``start <= a < end``; regions of a target are sorted and do not overlap."""

    start: int = file("start", NUMBER, 0)
    end: int = file("end", NUMBER, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Address ranges of one process. ``obsolete`` (Linux 6.19) drops the target at the next commit."""

    pid: int = file("pid_target", NUMBER, 0)
    obsolete: bool = file("obsolete_target", BOOLEAN, default=False)
    regions: tuple[InitialRegion, ...] = children("regions/nr_regions", InitialRegion)

    @classmethod
    def of(cls, pid: int, ranges: tuple[Range, ...]) -> Target:
        """A process with its address ranges."""
        return cls(pid=pid, regions=tuple(InitialRegion(start=r.start, end=r.end) for r in ranges))

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Its address ranges."""
        return tuple(Range(region.start, region.end) for region in self.regions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A closed interval."""

    minimum: int = file("min", NUMBER, 0)
    maximum: int = file("max", NUMBER, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPattern:
    """The regions that a scheme applies to: bytes, hits per aggregation, age in aggregations.

    The kernel's default matches almost nothing; see `pattern`.
    """

    size: Bounds = section("sz", Bounds)
    accesses: Bounds = section("nr_accesses", Bounds)
    age: Bounds = section("age", Bounds)


def pattern(*, min_accesses: int = 0, max_accesses: int = U32_MAX, min_age: int = 0) -> AccessPattern:
    """Regions of any size with these access counts, unchanged for at least ``min_age`` aggregations."""
    return AccessPattern(
        size=Bounds(minimum=PAGE_SIZE, maximum=ULONG_MAX),
        accesses=Bounds(minimum=min_accesses, maximum=max_accesses),
        age=Bounds(minimum=min_age, maximum=U32_MAX),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A value that the quota is tuned to reach. The kernel skips a ``target`` of 0.

    ``nid`` (Linux 6.16) and ``path`` (a cgroup, 6.19) belong to metrics of a node or a cgroup.
    """

    metric: str = file("target_metric", TEXT, "user_input")
    target: int = file("target_value", NUMBER, 0)
    current: int = file("current_value", NUMBER, 0)
    nid: int = file("nid", NUMBER, 0)
    path: str = file("path", TEXT, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The priority of regions when the quota is too small for all; all 0: address order."""

    size: float = file("sz_permil", PERMIL, 0.0)
    accesses: float = file("nr_accesses_permil", PERMIL, 0.0)
    age: float = file("age_permil", PERMIL, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Bounds on a scheme's work per reset interval: time, bytes, and goals. All 0: no bound.

    ``tuner`` (Linux 7.1) is ``consist`` or ``temporal``. Memory that a scheme tried without success is
    charged with the share ``fail_charge_num / fail_charge_denom`` (7.2; a denominator of 0: in full).
    """

    seconds: float = file("ms", MILLISECONDS, 0.0)
    size: int = file("bytes", NUMBER, 0)
    reset_seconds: float = file("reset_interval_ms", MILLISECONDS, 0.0)
    weights: Weights = section("weights", Weights)
    goals: tuple[Goal, ...] = children("goals/nr_goals", Goal)
    tuner: str = file("goal_tuner", TEXT, "consist")
    fail_charge_num: int = file("fail_charge_num", NUMBER, 0)
    fail_charge_denom: int = file("fail_charge_denom", NUMBER, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermarks:
    """When a scheme is active: always (``none``), or by the share of free memory."""

    metric: str = file("metric", TEXT, "none")
    interval_seconds: float = file("interval_us", MICROSECONDS, 0.0)
    high: float = file("high", PERMIL, 0.0)
    mid: float = file("mid", PERMIL, 0.0)
    low: float = file("low", PERMIL, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Memory that a scheme leaves out: of a kind if ``matching``, otherwise all other memory.

    ``allow`` (Linux 6.14) inverts the sense. An allowing core filter skips all filters of the operations
    layer, the kernel's implicit check for young pages included. So scopes are made by rejecting what does not
    match.
    """

    kind: str = file("type", TEXT, "anon")
    matching: bool = file("matching", BOOLEAN, default=False)
    allow: bool = file("allow", BOOLEAN, default=False)
    memcg_path: str = file("memcg_path", TEXT, "")
    address_start: int = file("addr_start", NUMBER, 0)
    address_end: int = file("addr_end", NUMBER, 0)
    min_size: int = file("min", NUMBER, 0)
    max_size: int = file("max", NUMBER, 0)
    target_index: int = file("damon_target_idx", NUMBER, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A node to migrate to, and its share (Linux 6.17)."""

    nid: int = file("id", NUMBER, 0)
    weight: int = file("weight", NUMBER, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeLimit:
    """The kernel deactivates the scheme after this many snapshots (Linux 7.0; 0: never)."""

    max_snapshots: int = file("max_nr_snapshots", NUMBER, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """An action for regions of an access pattern.

    Since Linux 6.15 each layer has its own filters: the core (``addr``, ``target``) and the operations
    (``anon``, ``memcg``, ``young``, ...). ``filters`` is the older place for both.
    """

    action: str = file("action", TEXT, "stat")
    pattern: AccessPattern = section("access_pattern", AccessPattern)
    apply_seconds: float = file("apply_interval_us", MICROSECONDS, 0.0)
    target_nid: int = file("target_nid", NUMBER, -1)
    destinations: tuple[Destination, ...] = children("dests/nr_dests", Destination)
    quota: Quota = section("quotas", Quota)
    watermarks: Watermarks = section("watermarks", Watermarks)
    filters: tuple[Filter, ...] = children("filters/nr_filters", Filter)
    core_filters: tuple[Filter, ...] = children("core_filters/nr_filters", Filter)
    ops_filters: tuple[Filter, ...] = children("ops_filters/nr_filters", Filter)
    limit: SchemeLimit = section("stats", SchemeLimit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a kdamond works on: processes (``vaddr``, ``fvaddr``) or physical memory (``paddr``).

    ``address_unit`` (Linux 6.18) is for physical memory of 32-bit machines. ``pause`` is since Linux 7.2.
    """

    operations: str = file("operations", TEXT, "vaddr")
    address_unit: int = file("addr_unit", NUMBER, 1)
    pause: bool = file("pause", BOOLEAN, default=False)
    attributes: MonitoringAttributes = section("monitoring_attrs", MonitoringAttributes)
    targets: tuple[Target, ...] = children("targets/nr_targets", Target)
    schemes: tuple[Scheme, ...] = children("schemes/nr_schemes", Scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kdamond:
    """One slot. The kernel accepts at most one context.

    ``refresh_seconds`` (Linux 6.17) stays 0: up to 7.2 one timer serves all kdamonds, and refreshes only one.
    """

    refresh_seconds: float = file("refresh_ms", MILLISECONDS, 0.0)
    contexts: tuple[Context, ...] = children("contexts/nr_contexts", Context)


REGION_FIELDS = ("start", "end", "nr_accesses")
"""The files of a tried region that make an `AccessRegion`, in its order. ``age`` is left out, because up to
Linux 6.17 it is not idle time, and each file costs a read.
"""


def parse_regions(files: Mapping[str, str]) -> tuple[AccessRegion, ...]:
    """The regions under ``schemes/0/tried_regions``, from file contents keyed ``<index>/<field>``.

    Sorted by address. An index with missing fields is left out: the kernel replaced it meanwhile.

    Raises:
        Unreadable: a field is not a number.
    """
    indices = {path.partition("/")[0] for path in files}
    regions = []
    for index in indices:
        fields = [files.get(f"{index}/{name}") for name in REGION_FIELDS]
        if all(fields):
            start, end, accesses = (number(field or "", f"tried_regions/{index}") for field in fields)
            regions.append(AccessRegion(start, end, accesses))
    return tuple(sorted(regions))
