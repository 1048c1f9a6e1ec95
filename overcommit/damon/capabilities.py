"""What this kernel's DAMON offers, found by trying in an own slot, never from the version.

Distributions backport much of DAMON, so the version says little.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.damon.codec import Write
from overcommit.errors import Unsupported

COUNTERS = (
    "contexts/nr_contexts",
    "contexts/0/targets/nr_targets",
    "contexts/0/targets/0/regions/nr_regions",
    "contexts/0/schemes/nr_schemes",
    "contexts/0/schemes/0/filters/nr_filters",
    "contexts/0/schemes/0/core_filters/nr_filters",
    "contexts/0/schemes/0/ops_filters/nr_filters",
    "contexts/0/schemes/0/quotas/goals/nr_goals",
    "contexts/0/schemes/0/dests/nr_dests",
)
"""Files to which 1 is written to create one of everything. Files that a kernel lacks are left out."""

_SCHEME = "contexts/0/schemes/0"
KEYWORDS: Mapping[str, tuple[str, ...]] = {
    f"{_SCHEME}/action": (
        *("stat", "pageout", "willneed", "cold", "hugepage", "nohugepage", "collapse"),
        *("lru_prio", "lru_deprio", "migrate_hot", "migrate_cold"),
    ),
    f"{_SCHEME}/filters/0/type": (
        *("anon", "memcg", "addr", "target", "young", "hugepage_size", "unmapped", "active"),
    ),
    f"{_SCHEME}/quotas/goals/0/target_metric": (
        *("user_input", "some_mem_psi_us", "node_mem_used_bp", "node_mem_free_bp", "node_memcg_used_bp"),
        *("node_memcg_free_bp", "active_mem_bp", "inactive_mem_bp", "node_eligible_mem_bp"),
    ),
    f"{_SCHEME}/quotas/goal_tuner": ("consist", "temporal"),
}
"""The words to try in each file. A kernel refuses an unknown word with EINVAL."""


class Feature(NamedTuple):
    """Something that is newer than Linux 6.12: how it is detected, and the consequence of its absence."""

    name: str
    file: str
    since: str
    without: str


FEATURES = (
    Feature(
        "snapshot limit", "contexts/N/schemes/N/stats/max_nr_snapshots", "7.0",
        "if overcommit dies, a kdamond that pages out stops only at the next command",
    ),
    Feature(
        "interval tuning", "contexts/N/monitoring_attrs/intervals/intervals_goal/access_bp", "6.15",
        "the sampling interval is fixed",
    ),
    Feature(
        "filter layers", "contexts/N/schemes/N/ops_filters/nr_filters", "6.15",
        "filters of both layers share one list",
    ),
    Feature(
        "passed bytes", "contexts/N/schemes/N/stats/sz_ops_filter_passed", "6.14",
        "the kernel does not report how much memory passes a scheme's filters",
    ),
    Feature(
        "node goals", "contexts/N/schemes/N/quotas/goals/N/nid", "6.16",
        "a quota cannot follow the free memory of a node",
    ),
    Feature(
        "cgroup goals", "contexts/N/schemes/N/quotas/goals/N/path", "6.19",
        "a quota cannot follow the memory of a cgroup",
    ),
    Feature(
        "goal tuner", "contexts/N/schemes/N/quotas/goal_tuner", "7.1",
        "overcommit stops and starts a kdamond to keep its pace, instead of DAMON's goal tuner",
    ),
    Feature(
        "fail charge", "contexts/N/schemes/N/quotas/fail_charge_denom", "7.2",
        "page-out by physical address wastes quota on memory of others",
    ),
    Feature(
        "weighted destinations", "contexts/N/schemes/N/dests/nr_dests", "6.17",
        "migration cannot move the memory of a process: no demotion",
    ),
    Feature(
        "target removal", "contexts/N/targets/N/obsolete_target", "6.19",
        "a domain cannot leave a shared kdamond, so each domain has its own",
    ),
    Feature(
        "pause", "contexts/N/pause", "7.2",
        "a monitor cannot be paused; it is stopped and loses its data",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the kernel's DAMON offers.

    ``files`` are the paths below a slot, with ``N`` for each number. ``keywords`` are the words that each
    file accepted.
    """

    operations: frozenset[str]
    files: frozenset[str]
    keywords: Mapping[str, frozenset[str]]

    def offers(self, path: str) -> bool:
        """Whether a file below a slot exists on this kernel."""
        return path in self.files or template(path) in self.files

    @property
    def snapshot_limit(self) -> bool:
        """Whether a scheme can end by itself (``max_nr_snapshots``, Linux 7.0)."""
        return self.offers(f"{_SCHEME}/stats/max_nr_snapshots")

    @property
    def temporal_goals(self) -> bool:
        """Whether a quota's goal stops or starts all work at once (the tuner ``temporal``, Linux 7.1).

        The older tuner, ``consist``, needs thirty windows from one byte to a gibibyte.
        """
        return "temporal" in self.keywords.get(f"{_SCHEME}/quotas/goal_tuner", ())

    @property
    def migration(self) -> bool:
        """Whether memory of a process can be moved to another node (``migrate_cold`` for ``vaddr``).

        A kernel that cannot accepts the word and does nothing. The feature came in the same version as
        weighted destinations (Linux 6.17), which can be detected.
        """
        words = self.keywords.get(f"{_SCHEME}/action", frozenset())
        return {"migrate_cold", "migrate_hot"} <= words and self.offers(f"{_SCHEME}/dests/nr_dests")

    def missing(self) -> tuple[Feature, ...]:
        """The features that the kernel lacks."""
        return tuple(feature for feature in FEATURES if feature.file not in self.files)

    def require(self, writes: Iterator[Write]) -> Iterator[Write]:
        """The same writes, checked.

        Raises:
            Unsupported: a write needs a file that this kernel does not have.
        """
        for write in writes:
            if not self.offers(write.path):
                since = next((f.since for f in FEATURES if f.file == template(write.path)), "a later version")
                raise Unsupported(
                    f"this kernel's DAMON has no {write.path}", hint=f"it came with Linux {since}"
                )
            yield write


def template(path: str) -> str:
    """A path with ``N`` for each number."""
    return re.sub(r"(?<=/)\d+(?=/|$)", "N", path)
