"""A running kdamond over a `FakeHost`, and its configuration from the tree."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from overcommit.model.ranges import Range
from overcommit.testing.fake_damon_files import Node
from overcommit.testing.fake_host import FakeGuest


class Target(NamedTuple):
    """A process as the kernel holds it: by identity, so that a reused pid is another process."""

    pid: int
    guest: FakeGuest | None


@dataclass
class Region:
    """Addresses of a target, accessed exactly when they hold hot memory, now or lately (``hit``)."""

    target: Target
    span: Range
    idle_seconds: float = 0.0
    hit: bool = False
    where: str = field(init=False)
    _layout: tuple[int, ...] = ()
    _chunks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """As the tracepoint has its addresses."""
        self.where = f"{self.span.start}-{self.span.end}"

    def accessed(self) -> bool:
        """Whether something in it is in use."""
        guest = self.target.guest
        if guest is None:
            return False
        layout = guest.pid, guest.memory_bytes, guest.device_bytes
        if layout != self._layout:
            self._layout, self._chunks = layout, guest.chunks_in(self.span)
        return not guest.in_use.isdisjoint(self._chunks)

    def accesses(self, samples: int) -> int:
        """All samples of a window hit, or none."""
        return samples if self.accessed() else 0


@dataclass
class RunningKdamond:
    """A running kdamond. Changes of the tree have no effect on it, as in the kernel."""

    pid: int
    operations: str
    targets: list[Target]
    regions: list[Region]
    sample: float
    aggregation: float
    action: str = "stat"
    min_age: int = 0
    min_accesses: int = 0
    quota_bytes: int = 0
    quota_seconds: float = 0.0
    goals: list[tuple[int, int]] = field(default_factory=list)
    effective_bytes: int = 0
    snapshots: int = 0
    max_snapshots: float = float("inf")
    memcg_path: str | None = None
    target_nid: int = -1
    looked_at: set[int] = field(default_factory=set)
    resume_at: int = 0
    since_aggregation: float = 0.0
    window: float = 0.0
    windows: int = 0
    used: int = 0
    aggregations: int = 0
    _guests: list[FakeGuest] = field(init=False)
    _in_use: list[tuple[tuple[int, int, int], set[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Collect the guests of its targets."""
        guests = {id(region.target.guest): region.target.guest for region in self.regions}
        self._guests = [guest for guest in guests.values() if guest is not None]

    def poll(self, seconds: float) -> None:
        """Sample for ``seconds``."""
        in_use = [((g.pid, g.memory_bytes, g.device_bytes), g.in_use) for g in self._guests]
        if in_use != self._in_use:
            self._in_use = [(where, set(hot)) for where, hot in in_use]
            for region in self.regions:
                region.hit = region.accessed()
        for region in self.regions:
            region.idle_seconds = 0.0 if region.hit else region.idle_seconds + seconds

    @property
    def samples(self) -> int:
        """Samples per aggregation."""
        return round(self.aggregation / self.sample) if self.sample else 0

    def aggregated(self, event: str) -> list[str]:
        """The tracepoint's lines for each region when an aggregation ends."""
        samples, aggregation, lines = self.samples, self.aggregation, []
        for index, target in enumerate(self.targets):
            regions = [region for region in self.regions if region.target is target]
            said = f"{event}target_id={index} nr_regions={len(regions)} "
            lines += [
                f"{said}{r.where}: {samples if r.hit else 0} {int(r.idle_seconds / aggregation)}\n"
                for r in regions
            ]
        return lines


def give_scheme(kdamond: RunningKdamond, scheme: Node) -> None:
    """Apply a scheme of the tree from now on. Its statistics stay."""
    kdamond.action = scheme["action"]
    kdamond.target_nid = int(scheme["target_nid"])
    for layer in ("filters", "ops_filters"):
        for found in children(scheme.get(layer, {})):
            if found["type"] == "addr" and int(found["addr_end"]) < int(found["addr_start"]):
                raise refusal(errno.ENOMEM, "state")  # as every error of a scheme is called
            if found["type"] == "memcg" and found["matching"] == "N":
                kdamond.memcg_path = found["memcg_path"]
    kdamond.min_age = int(scheme["access_pattern"]["age"]["min"])
    kdamond.min_accesses = int(scheme["access_pattern"]["nr_accesses"]["min"])
    kdamond.quota_bytes = int(scheme["quotas"]["bytes"])
    kdamond.quota_seconds = int(scheme["quotas"]["reset_interval_ms"]) / 1000
    kdamond.goals = goals_of(scheme)
    kdamond.max_snapshots = int(scheme["stats"].get("max_nr_snapshots", "0")) or float("inf")


def goals_of(scheme: Node) -> list[tuple[int, int]]:
    """Target and current value of each goal. The kernel skips a target of 0."""
    goals = [g for g in children(scheme["quotas"]["goals"]) if g["target_value"] != "0"]
    if goals and scheme["quotas"].get("goal_tuner") != "temporal":
        raise NotImplementedError("only the temporal tuner is imitated")
    if any(goal["target_metric"] != "user_input" for goal in goals):
        raise NotImplementedError("only goals that are fed are imitated")
    return [(int(goal["target_value"]), int(goal["current_value"])) for goal in goals]


def children(node: Node) -> Iterator[Node]:
    """The numbered directories, in order."""
    for key in sorted((key for key in node if key.isdecimal()), key=int):
        yield node[key]


def spans_of(regions: Node, path: str) -> list[Range]:
    """The addresses of a target's regions. Regions that overlap or are not sorted are refused."""
    spans = [Range(int(region["start"]), int(region["end"])) for region in children(regions)]
    ends = [0, *(span.end for span in spans)]
    if any(span.start >= span.end or span.start < end for span, end in zip(spans, ends, strict=False)):
        raise refusal(errno.EINVAL, path)
    return spans


def refusal(number: int, path: str) -> OSError:
    """The kernel's error."""
    return OSError(number, os.strerror(number), path)
