"""Bytes, seconds and ratios: parsing what operators write and formatting what they read.

The core computes in bytes, seconds and ratios 0..1 only. Libvirt's KiB and DAMON's microseconds are
converted in the module that talks to them.
"""

from __future__ import annotations

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGE_SIZE = 4096

_SIZE_UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1 << 40}
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = r"(\d+(?:\.\d+)?)"


def parse_size(text: str) -> int:
    """Bytes from ``2GiB``, ``512 MiB``, ``1.5GiB`` or a bare number of bytes.

    Raises:
        ValueError: not a size; decimal units (``GB``) are refused because they are ambiguous.
    """
    match = re.fullmatch(_NUMBER + r"\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in _SIZE_UNITS:
        message = f"not a size: {text!r} (write it like 512MiB or 2GiB)"
        raise ValueError(message)
    return round(float(match[1]) * _SIZE_UNITS[match[2]])


def parse_duration(text: str) -> float:
    """Seconds from ``90s``, ``5min``, ``1.5h``, ``200ms``.

    Raises:
        ValueError: not a duration; the unit is mandatory.
    """
    match = re.fullmatch(_NUMBER + r"\s*([a-z]+)", text.strip())
    if match is None or match[2] not in _TIME_UNITS:
        message = f"not a duration: {text!r} (write it like 90s or 5min)"
        raise ValueError(message)
    return float(match[1]) * _TIME_UNITS[match[2]]


def parse_percentage(text: str) -> float:
    """A ratio from ``8%`` or ``0.05%``; not bounded, the caller knows what is sensible.

    Raises:
        ValueError: not a percentage.
    """
    match = re.fullmatch(_NUMBER + r"\s*%", text.strip())
    if match is None:
        message = f"not a percentage: {text!r} (write it like 8%)"
        raise ValueError(message)
    return float(match[1]) / 100


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


def format_ratio(ratio: float) -> str:
    """A ratio as a percentage with as many decimals as it needs."""
    return f"{ratio * 100:.3g}%"
