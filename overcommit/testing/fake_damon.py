"""DAMON's sysfs tree and its kdamonds over a `FakeHost`.

It imitates: children wiped and made anew by ``nr_*``, refusals with the kernel's errno, modules against
sysfs, kdamonds that end when their targets are gone, ages, quotas, pass limits, ``commit`` (not of other
regions), goals for the ``temporal`` tuner, a filter for one cgroup (physical memory), and moving memory that
a process does not access to node 1, and accessed memory to node 0. It does not imitate: other filters, goals
and tuners, watermarks, and DAMON's inaccuracy (a region is accessed exactly when it holds hot memory).
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from overcommit.damon.sysfs import ROOT
from overcommit.testing.fake_damon_files import (
    READ_ONLY,
    Node,
    Version,
    make_child,
    makes_children,
    modules_of,
    most_children,
    parser_of,
)
from overcommit.testing.fake_host import FakeGuest, FakeHost
from overcommit.testing.fake_kdamond import (
    Region,
    RunningKdamond,
    Target,
    children,
    give_scheme,
    goals_of,
    refusal,
    spans_of,
)
from overcommit.units import MIB, PAGE_SIZE

_UNITS_PER_SECOND = 1_000_000
_ON_A_RUNNING_ONE = frozenset(
    {"off", "update_schemes_tried_regions", "clear_schemes_tried_regions", "update_schemes_stats", "commit"}
    | {"update_schemes_tried_bytes", "update_schemes_effective_quotas", "commit_schemes_quota_goals"}
)


@dataclass
class FakeDamon:
    """The tree of one host with a kernel of ``version``. ``modules`` says which modules are on."""

    host: FakeHost
    version: Version = (7, 3)
    tree: Node = field(default_factory=lambda: {"nr_kdamonds": "0"})
    running: dict[int, RunningKdamond] = field(default_factory=dict)
    modules: dict[str, bool] = field(default_factory=dict)
    listeners: list[Callable[[RunningKdamond], None]] = field(default_factory=list)
    """Called when each aggregation ends."""
    other_pids: set[int] = field(default_factory=lambda: {os.getpid()})
    _started: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Run kdamonds in the host's time."""
        self.modules = dict.fromkeys(modules_of(self.version), False) | self.modules
        self.host.workers.append(self._work)

    # --- files

    def read(self, path: str) -> str:
        """A file's content with its newline."""
        if path.startswith("/sys/module/"):
            return "Y\n" if self.modules[self._module(path)] else "N\n"
        node = self._node(path)
        if isinstance(node, dict):
            raise refusal(errno.EISDIR, path)
        return f"{node}\n"

    def exists(self, path: str) -> bool:
        """Whether a file or directory is there."""
        try:
            if path.startswith("/sys/module/"):
                self._module(path)
            else:
                self._node(path)
        except OSError:
            return False
        return True

    def list(self, path: str) -> tuple[str, ...]:
        """The names in a directory."""
        node = self._node(path)
        if not isinstance(node, dict):
            raise refusal(errno.ENOTDIR, path)
        return tuple(sorted(node))

    def write(self, path: str, value: str) -> None:
        """A write with its effects."""
        if path.startswith("/sys/module/"):
            self._switch_module(path, value)
            return
        parent, _, name = path.rpartition("/")
        node = self._node(parent)
        if not isinstance(node, dict) or name not in node:
            raise refusal(errno.ENOENT, path)
        if isinstance(node[name], dict):
            raise refusal(errno.EISDIR, path)
        if name in READ_ONLY:
            raise refusal(errno.EACCES, path)
        if name == "state":
            self._command(int(parent.rpartition("/")[2]), value.removesuffix("\n"), path)
        elif makes_children(name):
            self._make_children(node, name, path, value)
        else:
            node[name] = self._parsed(name, value, path)

    def _node(self, path: str) -> Any:
        node: Any = self.tree
        parts = [part for part in path.removeprefix(ROOT).split("/") if part]
        for part in parts:
            if not isinstance(node, dict) or part not in node:
                raise refusal(errno.ENOENT, path)
            node = node[part]
        if len(parts) == 2 and parts[1] == "state":
            return "on" if int(parts[0]) in self.running else "off"
        if len(parts) == 2 and parts[1] == "pid":
            runs = self.running.get(int(parts[0]))
            return str(runs.pid if runs else -1)
        return node

    def _make_children(self, node: Node, name: str, path: str, value: str) -> None:
        count = int(self._parsed(name, value, path))
        if count > most_children(name):
            raise refusal(errno.EINVAL, path)
        if name == "nr_kdamonds":
            if self.running:
                raise refusal(errno.EBUSY, path)
            self._started.clear()
        for child in [key for key in node if key.isdecimal()]:
            del node[child]
        node[name] = str(count)
        counter = "nr_probe_filters" if name == "nr_filters" and "/probes/" in path else name
        for index in range(count):
            node[str(index)] = make_child(self.version, counter)

    # --- modules

    def _module(self, path: str) -> str:
        module = path.split("/")[3]
        if module not in self.modules:
            raise refusal(errno.ENOENT, path)
        return module

    def _switch_module(self, path: str, value: str) -> None:
        module = self._module(path)
        on = self._parsed("allow", value, path) == "Y"  # any boolean
        others = any(state for name, state in self.modules.items() if name != module)
        if on and not self.modules[module] and (self.running or others):
            raise refusal(errno.EBUSY, path)
        self.modules[module] = on

    def _parsed(self, name: str, value: str, path: str) -> str:
        try:
            return parser_of(self.version, name)(value)
        except ValueError:
            raise refusal(errno.EINVAL, path) from None

    # --- kdamonds

    def _command(self, slot: int, keyword: str, path: str) -> None:
        if keyword == "on":
            self._start(slot, path)
        elif keyword not in _ON_A_RUNNING_ONE:
            raise refusal(errno.EINVAL, path)
        elif slot not in self.running:
            self._command_to_nobody(slot, keyword, path)
        elif keyword == "off":
            del self.running[slot]
        elif keyword == "update_schemes_tried_regions":
            self._fill_tried_regions(slot)
        elif keyword == "clear_schemes_tried_regions":
            self._schemes(slot)["0"]["tried_regions"] = {"total_bytes": "0"}
        elif keyword == "commit":
            self._commit(slot, path)
        elif keyword == "commit_schemes_quota_goals":
            self.running[slot].goals = goals_of(self._schemes(slot)["0"])
        elif keyword == "update_schemes_effective_quotas":
            self._schemes(slot)["0"]["quotas"]["effective_bytes"] = str(self.running[slot].effective_bytes)
        elif keyword != "update_schemes_stats":
            raise NotImplementedError(f"{keyword} is not imitated")

    def _command_to_nobody(self, slot: int, keyword: str, path: str) -> None:
        """The answer of a slot that is off, because it was never started or its kdamond has ended."""
        ended = slot in self._started
        if keyword == "clear_schemes_tried_regions" and self.version >= (6, 14):
            return
        if keyword == "off" and ended:
            if self.version < (7, 3):
                raise refusal(errno.EPERM, path)
            return
        raise refusal(errno.ECANCELED if ended and self.version >= (6, 14) else errno.EINVAL, path)

    def _start(self, slot: int, path: str) -> None:
        if slot in self.running or any(self.modules.values()):
            raise refusal(errno.EBUSY, path)
        contexts = self.tree[str(slot)]["contexts"]
        if contexts["nr_contexts"] != "1":
            raise refusal(errno.EINVAL, path)
        context = contexts["0"]
        kdamond = self._configured(context, path)
        if self._schemes(slot)["nr_schemes"] != "0":
            give_scheme(kdamond, self._schemes(slot)["0"])
        known = {guest.cgroup for guest in self.host.guests}
        if kdamond.memcg_path is not None and kdamond.memcg_path not in known:
            raise refusal(errno.ENOMEM, path)  # damon_sysfs_mk_scheme makes every error of a scheme this one
        kdamond.pid = 9000 + slot
        self._started.add(slot)
        self.running[slot] = kdamond

    def _commit(self, slot: int, path: str) -> None:
        """Apply the tree by position, in place: measurements stay."""
        kdamond = self.running[slot]
        try:
            wanted = self._configured(self.tree[str(slot)]["contexts"]["0"], path)
        except OSError:
            # Up to Linux 6.14 the kdamond ends, and the write succeeds all the same.
            if self.version > (6, 14):
                raise
            del self.running[slot]
            return
        if wanted.regions and [r.span for r in wanted.regions] != [r.span for r in kdamond.regions]:
            raise NotImplementedError("a commit of other regions is not imitated")
        kdamond.targets = wanted.targets
        kdamond.sample, kdamond.aggregation = wanted.sample, wanted.aggregation
        if self.version < (6, 18):
            kdamond.since_aggregation = 0.0  # the attributes are set again, changed or not
        give_scheme(kdamond, self._schemes(slot)["0"])

    def _configured(self, context: Node, path: str) -> RunningKdamond:
        """The context as the kernel accepts it, or its refusal."""
        intervals = context["monitoring_attrs"]["intervals"]
        limits = context["monitoring_attrs"]["nr_regions"]
        sample, aggregation = int(intervals["sample_us"]), int(intervals["aggr_us"])
        low, high = int(limits["min"]), int(limits["max"])
        physical = context["operations"] == "paddr"
        targets, regions = [], []
        for node in children(context["targets"]):
            target = self._target(int(node["pid_target"]), physical=physical, path=path)
            targets.append(target)
            found_by_itself = [target.guest.ram] if context["operations"] == "vaddr" and target.guest else []
            regions += [Region(target, s) for s in found_by_itself or spans_of(node["regions"], path)]
        goal = intervals.get("intervals_goal", {"aggrs": "0"})
        untunable = goal["aggrs"] != "0" and not (
            int(goal["min_sample_us"]) <= sample <= int(goal["max_sample_us"])
        )
        if untunable or aggregation < sample or low < 3 or low > high or (physical and len(targets) > 1):
            raise refusal(errno.EINVAL, path)
        return RunningKdamond(
            pid=-1,
            operations=context["operations"],
            targets=targets,
            regions=regions,
            sample=sample / _UNITS_PER_SECOND,
            aggregation=aggregation / _UNITS_PER_SECOND,
        )

    def _target(self, pid: int, *, physical: bool, path: str) -> Target:
        target = Target(pid, None if physical else self.host.guest(pid))
        if not physical and target.guest is None and pid not in self.other_pids:
            raise refusal(errno.EINVAL, path)
        return target

    def _alive(self, target: Target) -> bool:
        if target.guest is None:
            return target.pid in self.other_pids
        return any(guest is target.guest for guest in self.host.guests)

    def _schemes(self, slot: int) -> Node:
        schemes: Node = self.tree[str(slot)]["contexts"]["0"]["schemes"]
        return schemes

    def _fill_tried_regions(self, slot: int) -> None:
        kdamond = self.running[slot]
        tried: Node = {}
        total = 0
        for region in kdamond.regions:
            # Before Linux 7.1 the memory of a dead target looks perfectly cold.
            if self.version >= (7, 1) and not self._alive(region.target):
                continue
            tried[str(len(tried))] = {
                "start": str(region.span.start),
                "end": str(region.span.end),
                "nr_accesses": str(region.accesses(kdamond.samples)),
                "age": str(int(region.idle_seconds / kdamond.aggregation)),
            } | ({"sz_filter_passed": "0"} if self.version >= (6, 14) else {})
            total += region.span.size
        self._schemes(slot)["0"]["tried_regions"] = {**tried, "total_bytes": str(total)}

    def _work(self, seconds: float) -> None:
        for slot, kdamond in list(self.running.items()):
            if kdamond.operations != "paddr" and not any(self._alive(target) for target in kdamond.targets):
                del self.running[slot]
                continue
            kdamond.poll(seconds)
            kdamond.since_aggregation += seconds
            kdamond.window += seconds
            if kdamond.since_aggregation >= kdamond.aggregation:
                kdamond.since_aggregation = 0.0
                self._apply_scheme(kdamond)
                for listener in self.listeners:
                    listener(kdamond)

    def _apply_scheme(self, kdamond: RunningKdamond) -> None:
        if kdamond.snapshots >= kdamond.max_snapshots:
            return
        if kdamond.windows == 0 or kdamond.window >= kdamond.quota_seconds:
            kdamond.window, kdamond.used = 0.0, 0
            kdamond.windows += 1
            at_goal = any(current >= target for target, current in kdamond.goals)
            kdamond.effective_bytes = 0 if at_goal else kdamond.quota_bytes
        # Before Linux 6.18 damos_adjust_quota sets no limit for the first window.
        unlimited = not kdamond.quota_bytes or (kdamond.windows <= 1 and self.version < (6, 18))
        if kdamond.operations == "paddr":
            self._page_out_physical(kdamond)
            kdamond.snapshots += kdamond.used < kdamond.effective_bytes or not kdamond.quota_bytes
            return
        act = self._action(kdamond)
        if act is None:
            kdamond.snapshots += 1
            return
        # A window goes on where the quota of the last one ended.
        resume, kdamond.resume_at = kdamond.resume_at, 0
        for index, region in enumerate(kdamond.regions[resume:], start=resume):
            guest = region.target.guest
            if guest is None or region.idle_seconds < kdamond.min_age * kdamond.aggregation:
                continue
            if region.accesses(kdamond.samples) < kdamond.min_accesses:
                continue
            most = guest.memory_bytes if unlimited else kdamond.effective_bytes - kdamond.used
            if most < PAGE_SIZE:
                kdamond.resume_at = index
                return  # a look that is cut short does not count (7.3)
            moved = act(guest, guest.chunks_in(region.span), most)
            kdamond.used += moved
            if moved < most:
                region.idle_seconds = 0.0  # every action but stat makes a region young again
        kdamond.snapshots += 1

    def _action(self, kdamond: RunningKdamond) -> Callable[[FakeGuest, Sequence[int], int], int] | None:
        """What the action does to a process's memory.

        An action that the kernel lacks is accepted, and does nothing.
        """
        if kdamond.action == "pageout":
            return self.host.page_out
        if kdamond.action == "migrate_cold" and kdamond.target_nid == 1 and self.version >= (6, 17):
            return functools.partial(self._migrate, kdamond)
        if kdamond.action == "migrate_hot" and kdamond.target_nid == 0 and self.version >= (6, 17):
            return self._recall
        return None

    def _recall(self, guest: FakeGuest, chunks: Sequence[int], most: int) -> int:
        """Before 7.2 all checked memory is charged in full, wherever it lies."""
        if self.version >= (7, 2):
            return self.host.recall(guest, chunks, most)
        self.host.recall(guest, chunks[: most // MIB], most)
        return min(len(chunks) * MIB, most)

    def _migrate(self, kdamond: RunningKdamond, guest: FakeGuest, chunks: Sequence[int], most: int) -> int:
        """The first check of a page only clears its accessed bit; before 7.2 it is charged in full."""
        first = [chunk for chunk in chunks if chunk not in kdamond.looked_at][: most // MIB]
        if not first:
            return self.host.demote(guest, chunks, most)
        kdamond.looked_at.update(first)
        return len(first) * MIB if self.version < (7, 2) else 0

    def _page_out_physical(self, kdamond: RunningKdamond) -> None:
        """Page by page. Accessed pages, and those of other cgroups, are left out."""
        kdamond.aggregations += 1
        if kdamond.action != "pageout" or kdamond.aggregations <= kdamond.min_age:
            return
        for guest in self.host.guests:
            if kdamond.memcg_path in {None, guest.cgroup}:
                kdamond.used += self.host.reclaim(guest, kdamond.effective_bytes - kdamond.used)
