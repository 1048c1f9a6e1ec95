"""What a record of the undo journal may contain: closed sets, known paths, plausible sizes. Pure.

Root writes its values to the kernel and to guests. So a record is checked before it is written to disk, so
that it can be read back, and again when it is read, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from overcommit.model.action import KSM_SETTINGS

MODULES = ("damon_stat", "damon_reclaim", "damon_lru_sort")
"""The kernel's modules that run DAMON themselves."""
_MOST = (1 << 63) - 1
_GUEST_SETTINGS = ("enabled", "min_age", "wmarks_high", "wmarks_mid", "wmarks_low")
"""The parameters of DAMON_RECLAIM that are ever set in a guest."""

_Check = Callable[[Any], bool]


def _number(least: int, most: int) -> _Check:
    return lambda value: type(value) is int and least <= value <= most


def _text(pattern: str) -> _Check:
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _mapping(key: _Check, value: _Check, *, most: int) -> _Check:
    return lambda found: (
        isinstance(found, Mapping)
        and len(found) <= most
        and all(key(name) and value(each) for name, each in found.items())
    )


def _one_of(*words: str) -> _Check:
    return lambda value: isinstance(value, str) and value in words


def _domain(value: Any) -> bool:
    checks = {"uuid": _SHORT, "name": _SHORT, "pid": _number(1, 1 << 31), "start_time": _SIZE}
    return isinstance(value, Mapping) and value.keys() == checks.keys() and _all(checks, value)


def _all(checks: Mapping[str, _Check], values: Mapping[str, Any]) -> bool:
    return all(checks[name](value) for name, value in values.items())


def _range_list(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= 1024
        and all(isinstance(r, list | tuple) and len(r) == 2 and all(map(_SIZE, r)) for r in value)
    )


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


_SIZE = _number(0, _MOST)
_SHORT = _text(r".{1,1024}")
_LONG = _text(r".{0,4096}")
_CONTENT = _text(r".{0,16384}")
_DEFINITION = _text(r"<.{1,262144}")
_KSM_VALUE = _text(r"[0-9]{1,20}|[a-z]+(?:-[a-z]+)*")
_FILE = _text(r"(?:[a-z0-9_]{1,64}/){0,16}[a-z0-9_]{1,64}")
"""A path below a directory of sysfs: no dots, so that it leads nowhere else."""

_CHECKS: Mapping[str, Mapping[str, _Check]] = {
    "ModuleTakenOver": {"module": _one_of(*MODULES), "before": _one_of("Y", "N")},
    "PoolClaimed": {
        "size": _number(0, 1 << 20),
        "before": _mapping(_FILE, _CONTENT, most=1 << 20),
        "mark": _SIZE,
    },
    "KdamondStarted": {"slot": _number(0, 1 << 20), "what": _SHORT, "fingerprint": _text(r"[0-9a-f]{16}")},
    "TraceOpened": {"path": _text(r"/sys/kernel/tracing/instances/[a-z_-]{1,64}")},
    "BalloonMoved": {"domain": _domain, "before_bytes": _SIZE, "after_bytes": _SIZE},
    "MemoryDeviceResized": {
        "domain": _domain,
        "device": _text(r"[A-Za-z0-9._:-]{1,256}"),
        "before_bytes": _SIZE,
        "after_bytes": _SIZE,
    },
    "KsmStarted": {
        "before": _mapping(_one_of(*KSM_SETTINGS), _KSM_VALUE, most=8),
        "after": _mapping(_one_of(*KSM_SETTINGS), _KSM_VALUE, most=8),
    },
    "GuestReclaimSet": {
        "domain": _domain,
        "before": _mapping(_one_of(*_GUEST_SETTINGS), _text(r"[A-Za-z0-9]{0,64}"), most=8),
        "after": _mapping(_one_of(*_GUEST_SETTINGS), _text(r"[A-Za-z0-9]{0,64}"), most=8),
    },
    "ActionBegun": {
        "domain": _or_none(_domain),
        "what": _SHORT,
        "because": _LONG,
        "expected_bytes": _SIZE,
        "resident_bytes": _or_none(_SIZE),
        "ram": _range_list,
    },
    "DefinitionChanged": {"uuid": _SHORT, "name": _SHORT, "before": _DEFINITION, "after": _DEFINITION},
}
_MAY_LACK = {"mark"}
"""Fields that records of earlier versions do not have."""


def require_right(kind: Any, values: Mapping[str, Any]) -> None:
    """Check the values of a record.

    Raises:
        ValueError: a record of that kind cannot have them; says why.
    """
    checks = _CHECKS.get(kind) if isinstance(kind, str) else None
    if checks is None:
        message = "it is a record of an unknown kind"
        raise ValueError(message)
    if values.keys() - checks.keys() or checks.keys() - values.keys() - _MAY_LACK:
        message = f"its {kind} has missing or unknown fields"
        raise ValueError(message)
    for name, value in values.items():
        if not checks[name](value):
            message = f"its {kind} has an impossible {name}"
            raise ValueError(message)
    if kind in {"KsmStarted", "GuestReclaimSet"} and values["before"].keys() != values["after"].keys():
        message = f"its {kind} does not say what was there before"
        raise ValueError(message)
