"""Settings of the host, made by an operator or a distribution, that affect its memory."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Hierarchy(enum.Enum):
    """How control groups are mounted."""

    UNIFIED = "v2"
    HYBRID = "v1 and v2"
    LEGACY = "v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """Kernel settings and services. None: this kernel does not have it, or it cannot be read.

    ``min_free_bytes`` is what the kernel keeps free, and ``watermark_share`` (of memory) is how far above
    that it starts to reclaim. ``huge_pages`` is the mode of transparent huge pages, and ``khugepaged_fills``
    is ``max_ptes_none``: how many unused pages khugepaged fills to make one. ``memory_controller``: control
    groups account for memory. ``services`` are the active ones of those that were asked for.
    ``tuned_profile`` is the profile that tuned applies. ``boot_tool`` is the path of the program that changes
    the kernel's command line.
    """

    zone_reclaim_mode: int | None = None
    swappiness: int | None = None
    overcommit_memory: int | None = None
    min_free_bytes: int | None = None
    watermark_share: float | None = None
    huge_pages: str | None = None
    khugepaged_fills: int | None = None
    hierarchy: Hierarchy | None = None
    memory_controller: bool | None = None
    services: frozenset[str] = frozenset()
    tuned_profile: str | None = None
    boot_tool: str | None = None
