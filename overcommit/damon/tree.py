"""A kdamond as data, and the sysfs writes that make it so. Pure.

Paths are relative to ``/sys/kernel/mm/damon/admin/kdamonds/<slot>``. Source of every name and meaning:
Documentation/ABI/testing/sysfs-kernel-mm-damon and Documentation/admin-guide/mm/damon/usage.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.model.heat import AccessRegion
from overcommit.model.ranges import Range
from overcommit.units import PAGE_SIZE

REGION_FIELDS = ("start", "end", "nr_accesses")
"""The files of a tried region that an `AccessRegion` is made of, in its order.

``age`` is not among them: it is not idle time up to Linux 6.17, and each file read costs.
"""

_U32_MAX = (1 << 32) - 1
_ULONG_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Sampling and aggregation intervals, seconds."""

    sample_seconds: float
    aggregation_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Address ranges of one process, sorted and free of overlaps."""

    pid: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What to do with regions of an access pattern.

    ``min_age`` counts aggregation intervals. ``quota_bytes`` per ``quota_seconds`` bounds an acting scheme, 0
    means unbounded. ``max_snapshots`` is the lease: after that many the kernel deactivates the scheme by
    itself (Linux 7.0 and later; None leaves it out).
    """

    action: str
    max_accesses: int = _U32_MAX
    min_age: int = 0
    apply_seconds: float = 0.0
    quota_bytes: int = 0
    quota_seconds: float = 0.0
    max_snapshots: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kdamond:
    """One kdamond over fixed virtual address ranges (``fvaddr``)."""

    intervals: Intervals
    min_regions: int
    max_regions: int
    targets: tuple[Target, ...]
    scheme: Scheme


class Write(NamedTuple):
    """One value for one file."""

    path: str
    value: str


def render(kdamond: Kdamond) -> Iterator[Write]:
    """The writes for a fresh slot, in an order in which each directory exists before it is used."""
    context = "contexts/0"
    yield Write("contexts/nr_contexts", "1")
    yield Write(f"{context}/operations", "fvaddr")
    attributes = f"{context}/monitoring_attrs"
    yield Write(f"{attributes}/intervals/sample_us", _micros(kdamond.intervals.sample_seconds))
    yield Write(f"{attributes}/intervals/aggr_us", _micros(kdamond.intervals.aggregation_seconds))
    yield Write(f"{attributes}/nr_regions/max", str(kdamond.max_regions))
    yield Write(f"{attributes}/nr_regions/min", str(kdamond.min_regions))
    yield Write(f"{context}/targets/nr_targets", str(len(kdamond.targets)))
    for index, target in enumerate(kdamond.targets):
        yield from _render_target(f"{context}/targets/{index}", target)
    yield Write(f"{context}/schemes/nr_schemes", "1")
    yield from _render_scheme(f"{context}/schemes/0", kdamond.scheme)


def _render_target(path: str, target: Target) -> Iterator[Write]:
    yield Write(f"{path}/pid_target", str(target.pid))
    yield Write(f"{path}/regions/nr_regions", str(len(target.ranges)))
    for index, (start, end) in enumerate(target.ranges):
        yield Write(f"{path}/regions/{index}/start", str(start))
        yield Write(f"{path}/regions/{index}/end", str(end))


def _render_scheme(path: str, scheme: Scheme) -> Iterator[Write]:
    # The defaults of every bound are 0, which matches almost nothing: all of them are written.
    yield Write(f"{path}/action", scheme.action)
    yield Write(f"{path}/apply_interval_us", _micros(scheme.apply_seconds))
    yield Write(f"{path}/access_pattern/sz/min", str(PAGE_SIZE))
    yield Write(f"{path}/access_pattern/sz/max", str(_ULONG_MAX))
    yield Write(f"{path}/access_pattern/nr_accesses/min", "0")
    yield Write(f"{path}/access_pattern/nr_accesses/max", str(scheme.max_accesses))
    yield Write(f"{path}/access_pattern/age/min", str(scheme.min_age))
    yield Write(f"{path}/access_pattern/age/max", str(_U32_MAX))
    yield Write(f"{path}/quotas/bytes", str(scheme.quota_bytes))
    yield Write(f"{path}/quotas/reset_interval_ms", str(round(scheme.quota_seconds * 1000)))
    if scheme.max_snapshots is not None:
        yield Write(f"{path}/stats/max_nr_snapshots", str(scheme.max_snapshots))


def _micros(seconds: float) -> str:
    return str(round(seconds * 1_000_000))


def parse_regions(files: Mapping[str, str]) -> tuple[AccessRegion, ...]:
    """The regions under ``schemes/0/tried_regions``, from file contents keyed ``<index>/<field>``.

    Sorted by address. An index whose fields are incomplete is left out: the kernel replaced it meanwhile.
    """
    indices = {path.partition("/")[0] for path in files}
    regions = []
    for index in indices:
        fields = [files.get(f"{index}/{name}") for name in REGION_FIELDS]
        if all(fields):
            regions.append(AccessRegion(*(int(field or 0) for field in fields)))
    return tuple(sorted(regions))
