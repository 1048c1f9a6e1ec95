"""DAMON's sysfs tree and its kdamonds over a `FakeHost`.

What it imitates: children wiped and made anew by ``nr_*``, refusals with the kernel's errno, modules against
sysfs, kdamonds that end when their targets are gone, quotas and leases. What it does not: commit,
filters, goals, and DAMON's inaccuracy (a region is accessed exactly when it holds hot memory).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from overcommit.damon.owners import MODULES
from overcommit.damon.sysfs import ROOT
from overcommit.model.ranges import Range
from overcommit.testing.fake_host import FakeHost

Node = dict[str, Any]
_ACTIONS = frozenset({"stat", "pageout", "cold", "willneed", "hugepage", "nohugepage"})
_UNITS_PER_SECOND = 1_000_000


def _bounds(low: str = "0", high: str = "0") -> Node:
    return {"min": low, "max": high}


def _slot() -> Node:
    return {"state": "", "pid": "", "contexts": {"nr_contexts": "0"}}


def _context() -> Node:
    return {
        "avail_operations": "vaddr\nfvaddr\npaddr",
        "operations": "vaddr",
        "monitoring_attrs": {
            "intervals": {"sample_us": "5000", "aggr_us": "100000", "update_us": "60000000"},
            "nr_regions": _bounds("10", "1000"),
        },
        "targets": {"nr_targets": "0"},
        "schemes": {"nr_schemes": "0"},
    }


def _target() -> Node:
    return {"pid_target": "0", "regions": {"nr_regions": "0"}}


def _scheme() -> Node:
    return {
        "action": "stat",
        "apply_interval_us": "0",
        "access_pattern": {"sz": _bounds(), "nr_accesses": _bounds(), "age": _bounds()},
        "quotas": {"ms": "0", "bytes": "0", "reset_interval_ms": "0"},
        "stats": {"nr_tried": "0"},
        "tried_regions": {"total_bytes": "0"},
    }


_CHILDREN: dict[str, Callable[[], Node]] = {
    "nr_kdamonds": _slot,
    "nr_contexts": _context,
    "nr_targets": _target,
    "nr_regions": lambda: {"start": "0", "end": "0"},
    "nr_schemes": _scheme,
}


@dataclass
class _Kdamond:
    """What runs; the tree may be rewritten below it without effect, as in the kernel."""

    targets: list[tuple[int, list[Range]]]
    action: str
    aggregation: float
    min_age: int
    quota_bytes: int
    quota_seconds: float
    lease: float | None
    age: float = 0.0
    window: float = 0.0
    used: int = 0
    pid: int = 0


@dataclass
class FakeDamon:
    """The tree of one host. ``snapshot_limit``: Linux 7.0's ``max_nr_snapshots``; ``modules`` that are on."""

    host: FakeHost
    snapshot_limit: bool = True
    modules: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(MODULES, False))
    tree: Node = field(default_factory=lambda: {"nr_kdamonds": "0"})
    running: dict[int, _Kdamond] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)
    extra_pids: set[int] = field(default_factory=lambda: {os.getpid()})

    def __post_init__(self) -> None:
        """Kdamonds live in the host's time."""
        self.host.workers.append(self._work)

    # --- files

    def read(self, path: str) -> str:
        """A file's content with its newline."""
        if path.startswith("/sys/module/"):
            return "Y\n" if self.modules[self._module(path)] else "N\n"
        node = self._node(path)
        if isinstance(node, dict):
            raise _refusal(errno.EISDIR, path)
        return f"{node}\n"

    def exists(self, path: str) -> bool:
        """Whether a file or directory is there."""
        try:
            return (
                self._module(path) in self.modules
                if path.startswith("/sys/module/")
                else bool(self._node(path))
            )
        except OSError:
            return False

    def list(self, path: str) -> tuple[str, ...]:
        """The names in a directory."""
        node = self._node(path)
        if not isinstance(node, dict):
            raise _refusal(errno.ENOTDIR, path)
        return tuple(sorted(node))

    def write(self, path: str, value: str) -> None:
        """A write with its effects."""
        if path.startswith("/sys/module/"):
            self._switch_module(path, value)
            return
        parent, _, name = path.rpartition("/")
        node = self._node(parent)
        if name not in node or isinstance(node[name], dict):
            raise _refusal(errno.ENOENT, path)
        if name in _CHILDREN and parent.rpartition("/")[2] != "monitoring_attrs":
            self._make_children(node, name, path, value)
        elif name == "state":
            self._command(int(parent.rpartition("/")[2]), value, path)
        else:
            node[name] = _accepted(name, value, path)

    def _node(self, path: str) -> Any:
        node: Any = self.tree
        parts = [part for part in path.removeprefix(ROOT).split("/") if part]
        for part in parts:
            if not isinstance(node, dict) or part not in node:
                raise _refusal(errno.ENOENT, path)
            node = node[part]
        if len(parts) == 2 and parts[1] == "state":
            return "on" if int(parts[0]) in self.running else "off"
        if len(parts) == 2 and parts[1] == "pid":
            runs = self.running.get(int(parts[0]))
            return str(runs.pid if runs else -1)
        return node

    def _make_children(self, node: Node, name: str, path: str, value: str) -> None:
        count = _number(value, path)
        if count < 0 or (name == "nr_contexts" and count > 1):
            raise _refusal(errno.EINVAL, path)
        if name == "nr_kdamonds" and self.running:
            raise _refusal(errno.EBUSY, path)
        if name == "nr_kdamonds":
            self.started.clear()
        for child in [key for key in node if key.isdecimal()]:
            del node[child]
        node[name] = str(count)
        for index in range(count):
            node[str(index)] = _CHILDREN[name]()
            if name == "nr_schemes" and self.snapshot_limit:
                node[str(index)]["stats"]["max_nr_snapshots"] = "0"

    # --- modules

    def _module(self, path: str) -> str:
        return path.split("/")[3]

    def _switch_module(self, path: str, value: str) -> None:
        on = value.strip() in {"Y", "y", "1", "on"}
        if on and (self.running or any(self.modules.values())):
            raise _refusal(errno.EBUSY, path)
        self.modules[self._module(path)] = on

    # --- kdamonds

    def _command(self, slot: int, keyword: str, path: str) -> None:
        if keyword == "on":
            self._start(slot, path)
        elif keyword == "off":
            if slot not in self.running:
                raise _refusal(errno.EPERM if slot in self.started else errno.EINVAL, path)
            del self.running[slot]
        elif keyword == "update_schemes_tried_regions":
            if slot not in self.running:
                raise _refusal(errno.EINVAL, path)
            self._snapshot(slot)
        else:
            raise _refusal(errno.EINVAL, path)

    def _start(self, slot: int, path: str) -> None:
        if slot in self.running or any(self.modules.values()):
            raise _refusal(errno.EBUSY, path)
        contexts = self.tree[str(slot)]["contexts"]
        if contexts["nr_contexts"] != "1":
            raise _refusal(errno.EINVAL, path)
        context = contexts["0"]
        intervals = context["monitoring_attrs"]["intervals"]
        limits = context["monitoring_attrs"]["nr_regions"]
        sample, aggregation = int(intervals["sample_us"], 0), int(intervals["aggr_us"], 0)
        low, high = int(limits["min"], 0), int(limits["max"], 0)
        targets = [_read_target(t, path) for key, t in context["targets"].items() if key.isdecimal()]
        known = all(self._alive(pid) for pid, _ in targets)
        if aggregation < sample or low < 3 or low > high or not known:
            raise _refusal(errno.EINVAL, path)
        schemes = context["schemes"]
        scheme = schemes["0"] if schemes["nr_schemes"] != "0" else _scheme()
        self.started.add(slot)
        limit = int(scheme["stats"].get("max_nr_snapshots", "0"), 0)
        self.running[slot] = _Kdamond(
            targets=targets,
            action=scheme["action"],
            aggregation=aggregation / _UNITS_PER_SECOND,
            min_age=int(scheme["access_pattern"]["age"]["min"], 0),
            quota_bytes=int(scheme["quotas"]["bytes"], 0),
            quota_seconds=int(scheme["quotas"]["reset_interval_ms"], 0) / 1000,
            lease=limit * aggregation / _UNITS_PER_SECOND if limit else None,
            pid=9000 + slot,
        )

    def _alive(self, pid: int) -> bool:
        return pid in self.extra_pids or self.host.guest(pid) is not None

    def _snapshot(self, slot: int) -> None:
        scheme = self.tree[str(slot)]["contexts"]["0"]["schemes"]["0"]
        tried: Node = {"total_bytes": "0"}
        for pid, ranges in self.running[slot].targets:
            guest = self.host.guest(pid)
            for start, end in ranges:
                hit = guest is not None and any(c in guest.hot for c in guest.chunks_in(Range(start, end)))
                tried[str(len(tried) - 1)] = {
                    "start": str(start),
                    "end": str(end),
                    "nr_accesses": "8" if hit else "0",
                    "age": "1",
                }
        scheme["tried_regions"] = tried

    def _work(self, seconds: float) -> None:
        for slot, kdamond in list(self.running.items()):
            if not any(self._alive(pid) for pid, _ in kdamond.targets):
                del self.running[slot]
                continue
            kdamond.age += seconds
            kdamond.window += seconds
            if kdamond.window >= kdamond.quota_seconds:
                kdamond.window, kdamond.used = 0.0, 0
            leased = kdamond.lease is None or kdamond.age <= kdamond.lease
            if (
                kdamond.action == "pageout"
                and leased
                and kdamond.age >= kdamond.min_age * kdamond.aggregation
            ):
                self._page_out(kdamond)

    def _page_out(self, kdamond: _Kdamond) -> None:
        for pid, ranges in kdamond.targets:
            guest = self.host.guest(pid)
            for span in ranges if guest else ():
                assert guest is not None
                if any(chunk in guest.hot for chunk in guest.chunks_in(span)):
                    continue
                most = kdamond.quota_bytes - kdamond.used if kdamond.quota_bytes else guest.memory_bytes
                kdamond.used += self.host.page_out(guest, guest.chunks_in(span), most)


def _read_target(target: Node, path: str) -> tuple[int, list[Range]]:
    regions = target["regions"]
    spans = [
        Range(int(regions[key]["start"], 0), int(regions[key]["end"], 0))
        for key in sorted((k for k in regions if k.isdecimal()), key=int)
    ]
    ends = [0, *(span.end for span in spans)]
    if any(span.start >= span.end or span.start < end for span, end in zip(spans, ends, strict=False)):
        raise _refusal(errno.EINVAL, path)
    return int(target["pid_target"], 0), spans


def _accepted(name: str, value: str, path: str) -> str:
    """What the file reads after a write: keywords as they are, numbers in decimal."""
    known = {"operations": {"vaddr", "fvaddr", "paddr"}, "action": _ACTIONS}.get(name)
    if known is None:
        return str(_number(value, path))
    if value not in known:
        raise _refusal(errno.EINVAL, path)
    return value


def _number(value: str, path: str) -> int:
    digits = value.strip()
    octal = len(digits) > 1 and digits.startswith("0") and digits.isdecimal()
    try:
        return int(digits, 8 if octal else 0)
    except ValueError:
        raise _refusal(errno.EINVAL, path) from None


def _refusal(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
