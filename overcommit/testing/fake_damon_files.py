"""The files of DAMON's sysfs tree, with the kernel's defaults and the version that added them.

From the sources of Linux 6.12 and 7.3. The contract tests compare both with the real tree, by name and value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from overcommit.damon.owners import MODULES

Node = dict[str, Any]
Version = tuple[int, int]
_Files = Mapping[Version, Mapping[str, str]]
_ALWAYS = (6, 12)

READ_ONLY = frozenset(
    {"avail_operations", "effective_bytes", "pid", "nr_tried", "sz_tried", "nr_applied", "sz_applied"}
    | {"qt_exceeds", "sz_ops_filter_passed", "nr_snapshots", "total_bytes"}
)
BOOLEANS = frozenset({"matching", "allow", "pause", "obsolete_target"})
TEXTS = frozenset({"memcg_path", "path"})
SIGNED = frozenset({"target_nid", "pid_target", "nid"})
_KEYWORDS: Mapping[str, Mapping[Version, frozenset[str]]] = {
    "operations": {_ALWAYS: frozenset({"vaddr", "fvaddr", "paddr"})},
    "action": {
        _ALWAYS: frozenset(
            {"willneed", "cold", "pageout", "hugepage", "nohugepage", "lru_prio", "lru_deprio"}
            | {"migrate_hot", "migrate_cold", "stat"}
        ),
        (7, 2): frozenset({"collapse"}),
    },
    "type": {
        _ALWAYS: frozenset({"anon", "memcg", "young", "addr", "target"}),
        (6, 15): frozenset({"hugepage_size", "unmapped", "active"}),
    },
    "metric": {_ALWAYS: frozenset({"none", "free_mem_rate"})},
    "target_metric": {
        _ALWAYS: frozenset({"user_input", "some_mem_psi_us"}),
        (6, 16): frozenset({"node_mem_used_bp", "node_mem_free_bp"}),
        (6, 19): frozenset({"node_memcg_used_bp", "node_memcg_free_bp"}),
        (7, 0): frozenset({"active_mem_bp", "inactive_mem_bp"}),
        (7, 2): frozenset({"node_eligible_mem_bp"}),
    },
    "goal_tuner": {(7, 1): frozenset({"consist", "temporal"})},
}


def keywords(version: Version, name: str) -> frozenset[str]:
    """The words that a file with this name accepts; none when it accepts something else."""
    words = (words for since, words in _KEYWORDS.get(name, {}).items() if since <= version)
    return frozenset().union(*words)


def _numbers(*paths: str) -> dict[str, str]:
    return dict.fromkeys(paths, "0")


_FILTER: _Files = {
    _ALWAYS: {
        **_numbers("addr_start", "addr_end", "damon_target_idx"),
        "type": "anon",
        "matching": "N",
        "memcg_path": "",
    },
    (6, 14): {"allow": "N"},
    (6, 15): _numbers("min", "max"),
}
_SCHEME: _Files = {
    _ALWAYS: {
        "action": "stat",
        "apply_interval_us": "0",
        "target_nid": "-1",
        **{f"access_pattern/{what}/{bound}": "0" for what in ("sz", "nr_accesses", "age")
           for bound in ("min", "max")},
        **_numbers("quotas/ms", "quotas/bytes", "quotas/reset_interval_ms", "quotas/effective_bytes"),
        **_numbers(*(f"quotas/weights/{what}_permil" for what in ("sz", "nr_accesses", "age"))),
        "quotas/goals/nr_goals": "0",
        "watermarks/metric": "none",
        **_numbers(*(f"watermarks/{what}" for what in ("interval_us", "high", "mid", "low"))),
        "filters/nr_filters": "0",
        **_numbers(*(f"stats/{what}" for what in ("nr_tried", "sz_tried", "nr_applied", "sz_applied"))),
        "stats/qt_exceeds": "0",
        "tried_regions/total_bytes": "0",
    },
    (6, 14): {"stats/sz_ops_filter_passed": "0"},
    (6, 15): _numbers("core_filters/nr_filters", "ops_filters/nr_filters"),
    (6, 17): {"dests/nr_dests": "0"},
    (7, 0): _numbers("stats/nr_snapshots", "stats/max_nr_snapshots"),
    (7, 1): {"quotas/goal_tuner": "consist"},
    (7, 2): _numbers("quotas/fail_charge_num", "quotas/fail_charge_denom"),
}  # fmt: skip
_CONTEXT: _Files = {
    _ALWAYS: {
        "avail_operations": "vaddr\nfvaddr\npaddr",
        "operations": "vaddr",
        "monitoring_attrs/intervals/sample_us": "5000",
        "monitoring_attrs/intervals/aggr_us": "100000",
        "monitoring_attrs/intervals/update_us": "60000000",
        "monitoring_attrs/nr_regions/min": "10",
        "monitoring_attrs/nr_regions/max": "1000",
        "targets/nr_targets": "0",
        "schemes/nr_schemes": "0",
    },
    (6, 15): _numbers(
        *(f"monitoring_attrs/intervals/intervals_goal/{what}"
          for what in ("access_bp", "aggrs", "min_sample_us", "max_sample_us"))
    ),
    (6, 18): {"addr_unit": "1"},
    (7, 2): {"pause": "N", "monitoring_attrs/probes/nr_probes": "0"},
}  # fmt: skip
_CHILDREN: Mapping[str, _Files] = {
    "nr_kdamonds": {
        _ALWAYS: {"state": "", "pid": "", "contexts/nr_contexts": "0"},
        (6, 17): {"refresh_ms": "0"},
    },
    "nr_contexts": _CONTEXT,
    "nr_targets": {
        _ALWAYS: {"pid_target": "0", "regions/nr_regions": "0"},
        (6, 19): {"obsolete_target": "N"},
    },
    "nr_regions": {_ALWAYS: _numbers("start", "end")},
    "nr_schemes": _SCHEME,
    "nr_filters": _FILTER,
    "nr_goals": {
        _ALWAYS: {**_numbers("target_value", "current_value"), "target_metric": "user_input"},
        (6, 16): {"nid": "0"},
        (6, 19): {"path": ""},
    },
    "nr_dests": {_ALWAYS: _numbers("id", "weight")},
    "nr_probes": {(7, 2): {"filters/nr_filters": "0"}, (7, 3): {"weight": "0"}},
    "nr_probe_filters": {_ALWAYS: {"type": "anon", "matching": "N", "allow": "N", "path": ""}},
}
_MOST = {"nr_contexts": 1, "nr_probes": 4}


def modules_of(version: Version) -> tuple[str, ...]:
    """The kernel modules that can run DAMON themselves."""
    return tuple(module for module in MODULES if module != "damon_stat" or version >= (6, 17))


def makes_children(name: str) -> bool:
    """Whether writing a file with this name makes directories beside it."""
    return name in _CHILDREN


def most_children(name: str) -> int:
    """The largest count that the kernel accepts."""
    return _MOST.get(name, (1 << 31) - 1)


def make_child(version: Version, counter: str) -> Node:
    """A directory as the kernel makes it. ``counter`` is the file whose write made it."""
    node: Node = {}
    for since, files in _CHILDREN[counter].items():
        for path, default in files.items() if since <= version else ():
            *directories, name = path.split("/")
            inside = node
            for directory in directories:
                inside = inside.setdefault(directory, {})
            inside[name] = default
    return node


def parser_of(version: Version, name: str) -> Callable[[str], str]:
    """A function that gives the text that a file reads after a value is written to it.

    It raises ValueError for a value that the kernel refuses.
    """
    if name in TEXTS:
        return str.rstrip
    if name in BOOLEANS:
        return _boolean
    if name in _KEYWORDS:
        return lambda text: _keyword(text, keywords(version, name))
    return lambda text: str(number(text, signed=name in SIGNED))


def number(text: str, *, signed: bool) -> int:
    """A number as kstrtol and kstrtoul read it with base 0: 010 is eight."""
    digits = text.strip()
    octal = len(digits) > 1 and digits.startswith("0") and digits.isdecimal()
    value = int(digits, 8 if octal else 0)
    if value < 0 and not signed:
        raise ValueError(text)
    return value


def _boolean(text: str) -> str:
    if not text or text[0] not in "YyTt1NnFf0":
        raise ValueError(text)
    return "Y" if text[0] in "YyTt1" else "N"


def _keyword(text: str, known: frozenset[str]) -> str:
    word = text.removesuffix("\n")
    if word not in known:
        raise ValueError(text)
    return word
