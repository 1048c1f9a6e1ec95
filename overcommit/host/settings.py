"""Settings of the kernel and services that affect memory, for ``doctor``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from overcommit.errors import Unreadable
from overcommit.host.cgroup import ROOT as CGROUPS
from overcommit.host.figures import read_number
from overcommit.host.kernel import Kernel
from overcommit.model.facts import Gap
from overcommit.model.settings import Hierarchy, HostSettings
from overcommit.units import KIB

SYSCTL = "/proc/sys/vm"
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"
SERVICES = (
    *("systemd-oomd.service", "earlyoom.service", "nohang.service", "nohang-desktop.service"),
    *("numad.service", "tuned.service"),
)
"""Services that kill processes when memory is short, that move memory between nodes, or that set profiles of
memory settings.
"""
_TUNED = "/etc/tuned/active_profile"
_BOOT_TOOLS = (
    *("/usr/sbin/proxmox-boot-tool", "/usr/sbin/update-grub", "/usr/sbin/grubby", "/sbin/grubby"),
    *("/usr/sbin/grub2-mkconfig", "/usr/bin/rpm-ostree"),
)
_WATERMARK_UNIT = 10_000
_T = TypeVar("_T")


def read_settings(kernel: Kernel) -> tuple[HostSettings, tuple[Gap, ...]]:
    """All settings, and a gap for each that exists and cannot be read.

    Documentation/admin-guide/sysctl/vm.rst and Documentation/admin-guide/mm/transhuge.rst. Systemd gives a
    service a cgroup while it is active.
    """
    gaps: list[Gap] = []

    def number(path: str) -> int | None:
        return _attempt(gaps, path, lambda: read_number(kernel, path))

    def text(path: str) -> str | None:
        return _attempt(gaps, path, lambda: kernel.read(path).strip())

    free, distance = number(f"{SYSCTL}/min_free_kbytes"), number(f"{SYSCTL}/watermark_scale_factor")
    chosen = re.search(r"\[(\w+)\]", text(f"{HUGE_PAGES}/enabled") or "")
    controllers = text(f"{CGROUPS}/cgroup.controllers")
    settings = HostSettings(
        zone_reclaim_mode=number(f"{SYSCTL}/zone_reclaim_mode"),
        swappiness=number(f"{SYSCTL}/swappiness"),
        overcommit_memory=number(f"{SYSCTL}/overcommit_memory"),
        min_free_bytes=None if free is None else free * KIB,
        watermark_share=None if distance is None else distance / _WATERMARK_UNIT,
        huge_pages=chosen[1] if chosen else None,
        khugepaged_fills=number(f"{HUGE_PAGES}/khugepaged/max_ptes_none"),
        hierarchy=_hierarchy(kernel),
        memory_controller=None if controllers is None else "memory" in controllers.split(),
        services=frozenset(name for name in SERVICES if kernel.exists(f"{CGROUPS}/system.slice/{name}")),
        tuned_profile=text(_TUNED) or None,
        boot_tool=next((path for path in _BOOT_TOOLS if kernel.exists(path)), None),
    )
    return settings, tuple(gaps)


def _hierarchy(kernel: Kernel) -> Hierarchy | None:
    if kernel.exists(f"{CGROUPS}/cgroup.controllers"):
        return Hierarchy.UNIFIED
    if kernel.exists(f"{CGROUPS}/unified/cgroup.controllers"):
        return Hierarchy.HYBRID
    return Hierarchy.LEGACY if kernel.exists(f"{CGROUPS}/memory") else None


def _attempt(gaps: list[Gap], path: str, call: Callable[[], _T]) -> _T | None:
    """The result of the call.

    None where there is no such file, and None with a gap where it cannot be read.
    """
    try:
        return call()
    except FileNotFoundError:
        return None
    except (OSError, Unreadable) as error:
        gaps.append(Gap(what=path, why=str(error)))
        return None
