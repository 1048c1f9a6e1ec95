"""Host-wide memory: ``/proc/meminfo``, swap areas, zram's own cost, pressure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from overcommit.errors import HostError
from overcommit.host.kernel import Kernel
from overcommit.model.accounts import Compressed
from overcommit.model.facts import HostFacts, Pressure
from overcommit.model.ranges import Range
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.units import KIB, PAGE_SIZE


def read_host(kernel: Kernel) -> HostFacts:
    """Read the host's account.

    Raises:
        OSError: ``/proc/meminfo`` or ``/proc/swaps`` cannot be read; without them nothing can be decided.
    """
    meminfo = parse_meminfo(kernel.read("/proc/meminfo"))
    return HostFacts(
        name=kernel.read("/proc/sys/kernel/hostname").strip(),
        kernel=kernel.read("/proc/sys/kernel/osrelease").strip(),
        boot_id=read_boot_id(kernel),
        total_bytes=meminfo["MemTotal"],
        mem_available_bytes=meminfo["MemAvailable"],
        lru_bytes=sum(meminfo[name] for name in ("Active", "Inactive", "Unevictable")),
        swap=parse_swaps(kernel.read("/proc/swaps")),
        zram=read_zram(kernel),
        pressure=read_pressure(kernel, "/proc/pressure/memory"),
        cpu_pressure=read_pressure(kernel, "/proc/pressure/cpu"),
        shmem_bytes=meminfo["Shmem"],
    )


def read_zram(kernel: Kernel) -> Compressed | None:
    """What zram devices hold and what they take for it, None without any.

    ``orig_data_size``, ``mem_used_total`` and ``same_pages`` of mm_stat
    (Documentation/admin-guide/blockdev/zram.rst).

    Raises:
        OSError: a device is there, but cannot be read.
    """
    pools = []
    for device in kernel.list("/sys/block") if kernel.exists("/sys/block") else ():
        path = f"/sys/block/{device}/mm_stat"
        if device.startswith("zram") and kernel.exists(path):
            pools.append(parse_zram(kernel.read(path))[0])
    if not pools:
        return None
    return Compressed(
        stored_bytes=sum(pool.stored_bytes for pool in pools),
        used_bytes=sum(pool.used_bytes for pool in pools),
    )


def parse_zram(text: str) -> tuple[Compressed, int | None]:
    """What a zram device's mm_stat says it holds, and the most memory that it may take: None, no limit."""
    original, _, taken, limit, _, same, *_ = (int(field) for field in text.split())
    pool = Compressed(stored_bytes=max(0, original - same * PAGE_SIZE), used_bytes=taken)
    return pool, limit or None


def read_swap_free(kernel: Kernel) -> int:
    """Bytes left on all swap areas."""
    return sum(area.free_bytes for area in parse_swaps(kernel.read("/proc/swaps")))


def read_system_ram(kernel: Kernel) -> tuple[Range, ...]:
    """Physical addresses of the host's RAM, holes left out, from ``/proc/iomem``.

    Raises:
        HostError: none is named there; only root is shown the addresses.
    """
    matches = re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", kernel.read("/proc/iomem"), re.MULTILINE)
    ram = tuple(Range(int(match[1], 16), int(match[2], 16) + 1) for match in matches)
    if not any(span.end > 1 for span in ram):
        raise HostError("/proc/iomem names no system RAM", hint="run as root")
    return ram


def read_boot_id(kernel: Kernel) -> str:
    """The random identity of this boot; records from another boot describe a state that is gone."""
    return kernel.read("/proc/sys/kernel/random/boot_id").strip()


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by field name; fields that are counts, not sizes, are left out."""
    return {
        match[1]: int(match[2]) * KIB for match in re.finditer(r"^(\S+):\s+(\d+) kB$", text, re.MULTILINE)
    }


def parse_swaps(text: str) -> tuple[SwapArea, ...]:
    """The active swap areas of ``/proc/swaps`` (sizes there are in KiB)."""
    areas = []
    for line in text.splitlines()[1:]:
        path, kind, size, used, priority = line.split()
        is_zram = PurePosixPath(path).name.startswith("zram")
        areas.append(
            SwapArea(
                path=path,
                kind=SwapKind.ZRAM if is_zram else SwapKind(kind),
                size_bytes=int(size) * KIB,
                used_bytes=int(used) * KIB,
                priority=int(priority),
            )
        )
    return tuple(areas)


def parse_pressure(text: str) -> Pressure:
    """The ``some`` line of a PSI file (percent and microseconds there)."""
    match = re.search(r"^some avg10=(\S+) avg60=(\S+) avg300=\S+ total=(\d+)$", text, re.MULTILINE)
    if match is None:
        message = f"not pressure stall information: {text[:60]!r}"
        raise ValueError(message)
    return Pressure(
        some_avg10=float(match[1]) / 100,
        some_avg60=float(match[2]) / 100,
        some_total_seconds=int(match[3]) / 1e6,
    )


def read_pressure(kernel: Kernel, path: str) -> Pressure | None:
    """PSI from a file, None where the kernel was booted without it (the file is absent or unreadable)."""
    try:
        return parse_pressure(kernel.read(path))
    except OSError:
        return None
