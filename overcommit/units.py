"""Parses the quantities that operators write, and formats those that they read.

The core computes in bytes, seconds and ratios (0..1) only. Libvirt's KiB and DAMON's microseconds are
converted in the modules that use them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from mmap import PAGESIZE as _PAGESIZE

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGE_SIZE = _PAGESIZE
"""Bytes of a page on this host, the unit of ``/proc/vmstat``, KSM's files and page maps (sysconf(3)). It is 4
KiB; on arm64 and ppc64 also 16 or 64 KiB. A plan is made on the host that it is for. A guest's own pages may
have another size.
"""
PIECE_ALIGNMENT = 2 * MIB
"""The unit of classification and page-out: a huge page of 4 KiB pages, and whole pages of any size. With
pages of 64 KiB a huge page has 512 MiB, which is too coarse, so page-out splits it there.
"""

_SIZE_UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1 << 40}
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# What people type on a command line; in a policy it stays one spelling for each unit.
_SPOKEN_UNITS = {"m": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0}
_SPOKEN_UNITS |= {"sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0}
_SPOKEN_UNITS |= {
    "hr": 3600.0,
    "hrs": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "day": 86400.0,
    "days": 86400.0,
}
# More digits than anything here has; without a bound the product of number and unit can be infinite.
NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)"
SIZE = f"{NUMBER} *({'|'.join(_SIZE_UNITS)})"
"""The input of `parse_size` as a regular expression that editors and JSON Schema understand."""
DURATION = f"{NUMBER} *({'|'.join(_TIME_UNITS)})"
"""The input of `parse_duration`, likewise."""
LONGEST_SECONDS = 10 * 365 * 86400.0
"""The longest duration that is accepted. Dates end with the year 9999."""
NEVER = "never"
"""The text of a time that does not come."""
PERCENTAGE = f"{NUMBER} *%"
"""The input of `parse_percentage`, likewise."""


def round_up(size: float) -> int:
    """Bytes rounded up to whole MiB."""
    return -int(-size // MIB) * MIB


def parse_size(text: str) -> int:
    """Bytes from ``2GiB``, ``512 MiB``, ``1.5GiB`` or a bare number of bytes.

    Raises:
        ValueError: not a size; decimal units (``GB``) are refused because they are ambiguous.
    """
    match = re.fullmatch(SIZE, text.strip(" "))
    if match is None:
        message = f"not a size: {text!r} (write it like 512MiB or 2GiB)"
        raise ValueError(message)
    return round(float(match[1]) * _SIZE_UNITS[match[2]])


def parse_duration(text: str) -> float:
    """Seconds from ``90s``, ``5min``, ``1.5h``, ``200ms``.

    Raises:
        ValueError: not a duration; the unit is mandatory.
    """
    match = re.fullmatch(DURATION, text.strip(" "))
    if match is None:
        message = f"not a duration: {text!r} (write it like 90s or 5min)"
        raise ValueError(message)
    return float(match[1]) * _TIME_UNITS[match[2]]


def parse_spoken_duration(text: str) -> float:
    """Seconds from `parse_duration`'s input, and from ``1m``, ``2 hours``, ``1h 30m``; for command lines.

    Raises:
        ValueError: not a duration; the unit is mandatory.
    """
    units = "|".join(sorted(_TIME_UNITS | _SPOKEN_UNITS, key=len, reverse=True))
    part = f"{NUMBER} *({units})"
    if re.fullmatch(rf"{part}(?: *{part})*", text.strip(" ").lower()) is None:
        message = f"not a duration: {text!r} (write it like 90s, 5min or 2h)"
        raise ValueError(message)
    parts = re.findall(part, text.lower())
    return float(sum(float(number) * (_TIME_UNITS | _SPOKEN_UNITS)[unit] for number, unit in parts))


def parse_percentage(text: str) -> float:
    """A ratio from ``8%`` or ``0.05%``. The caller checks its bounds.

    Raises:
        ValueError: not a percentage.
    """
    match = re.fullmatch(PERCENTAGE, text.strip(" "))
    if match is None:
        message = f"not a percentage: {text!r} (write it like 8%)"
        raise ValueError(message)
    return float(match[1]) / 100


def parse_share(text: str) -> float:
    """A ratio from ``8%``, at most 100%.

    Raises:
        ValueError: not a percentage, or more than 100%.
    """
    ratio = parse_percentage(text)
    if ratio > 1:
        message = f"must be at most 100%, not {text}"
        raise ValueError(message)
    return ratio


def parse_share_per_minute(text: str) -> float:
    """A ratio per minute from ``0.2%/min``, at most 100%/min.

    Raises:
        ValueError: not a percentage per minute, or more than 100%.
    """
    return parse_share(_without("/min", text))


def parse_size_per_second(text: str) -> int:
    """Bytes per second from ``50MiB/s``.

    Raises:
        ValueError: not a size per second.
    """
    return parse_size(_without("/s", text))


def _without(suffix: str, text: str) -> str:
    text = text.strip(" ")
    if not text.endswith(suffix):
        message = f"must end in {suffix}: {text!r}"
        raise ValueError(message)
    return text.removesuffix(suffix)


def parse_age(text: str) -> float:
    """Seconds from ``4h``, ``0s`` (at once) or ``never`` (infinite).

    Raises:
        ValueError: neither a duration nor never.
    """
    if text.strip(" ") == NEVER:
        return math.inf
    try:
        return parse_duration(text)
    except ValueError as error:
        message = f"{error}, or {NEVER}"
        raise ValueError(message) from None


def above_zero(parse: Callable[[str], float]) -> Callable[[str], float]:
    """The same parser, which refuses 0."""

    def convert(text: str) -> float:
        value = parse(text)
        if value <= 0:
            message = f"must be more than 0, not {text}"
            raise ValueError(message)
        return value

    return convert


def format_size(size: float) -> str:
    """Three significant figures with a binary unit, ``-`` kept for negative values."""
    sign, value = ("-" if size < 0 else ""), abs(size)
    for unit, factor in (("TiB", 1 << 40), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value >= factor:
            scaled = value / factor
            return f"{sign}{scaled:.{1 if scaled < 100 else 0}f} {unit}"
    return f"{sign}{value:.0f} B"


def format_duration(seconds: float) -> str:
    """``45s``, ``5min``, ``2min 30s``, ``1h 5min``: the two largest units that are not zero."""
    total = round(seconds)
    if total < 1:
        return f"{seconds * 1000:.0f}ms" if seconds > 0 else "0s"
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, total = divmod(total, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def format_age(seconds: float) -> str:
    """As `format_duration`; ``never`` where it is infinite."""
    return NEVER if math.isinf(seconds) else format_duration(seconds)


def format_ratio(ratio: float) -> str:
    """A ratio as a percentage with as many decimals as it needs."""
    return f"{ratio * 100:.3g}%"


def parse_nodes(text: str) -> frozenset[int]:
    """The numbers of memory nodes in a list as the kernel and libvirt write it: ``0-1,3``, ``0-3,^2``.

    Raises:
        ValueError: it is no such list.
    """
    listed, left_out = set[int](), set[int]()
    for part in filter(None, text.strip().split(",")):
        match = _NODE_RANGE.fullmatch(part)
        low, high = (int(match[2]), int(match[3] or match[2])) if match else (1, 0)
        if match is None or low > high:
            message = f"not a list of memory nodes: {text[:60]!a}"
            raise ValueError(message)
        (left_out if match[1] else listed).update(range(low, high + 1))
    return frozenset(listed - left_out)


_NODE_RANGE = re.compile(r"(\^?)([0-9]{1,4})(?:-([0-9]{1,4}))?", re.ASCII)
"""The kernel itself has 1,024 nodes at most (CONFIG_NODES_SHIFT)."""


def counted(number: int, noun: str) -> str:
    """``1 page``, ``2 pages``, ``12,345 pages``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
