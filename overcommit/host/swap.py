"""Swap: the devices under it and their counters, encryption, zswap, and the traffic so far."""

from __future__ import annotations

import dataclasses

from overcommit.errors import HostError, Unreadable
from overcommit.host.block import DEVICES, directory_of_mount, read_device, read_mount, read_physical_devices
from overcommit.host.figures import numbers, read_number, row, rows
from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_meminfo, parse_zram
from overcommit.model.accounts import Compressed, Zswap
from overcommit.model.facts import Gap
from overcommit.model.swap import SwapArea, SwapKind, SwapTraffic
from overcommit.units import KIB, PAGE_SIZE

ZSWAP = "/sys/module/zswap/parameters"
_VMSTAT = "/proc/vmstat"
_WRITTEN_BACK_UNIT = 4 * KIB
"""``bd_stat`` counts units of 4 KiB, whatever the page size is (zram.rst)."""


def read_areas(kernel: Kernel, areas: tuple[SwapArea, ...]) -> tuple[tuple[SwapArea, ...], tuple[Gap, ...]]:
    """The same areas with their devices, and a gap for each device that cannot be read."""
    known, gaps = [], []
    for area in areas:
        try:
            if area.kind is SwapKind.FILE:
                area = dataclasses.replace(area, filesystem=read_mount(kernel, area.file).filesystem)
            directory = _directory_of(kernel, area)
        except (HostError, OSError) as error:
            gaps.append(Gap(what=f"device of swap on {area.path}", why=str(error)))
            known.append(area)
            continue
        more = _with_pool if area.kind is SwapKind.ZRAM else _with_physical_devices
        for look in (_with_device, more):
            try:
                area = look(kernel, area, directory)
            except (OSError, HostError) as error:
                gaps.append(Gap(what=f"{_ABOUT[look]} of swap on {area.path}", why=str(error)))
        known.append(area)
    return tuple(known), tuple(gaps)


def read_traffic(kernel: Kernel) -> SwapTraffic | None:
    """Bytes that went to swap since boot; None on a kernel without CONFIG_VM_EVENT_COUNTERS.

    ``pswpout`` of ``/proc/vmstat`` counts pages written to any area. A page that zswap keeps is counted in
    ``zswpout`` instead, and in ``pswpout`` too when zswap writes it back (``zswpwb``, since Linux 6.8).

    Raises:
        OSError: it cannot be read.
        Unreadable: a counter is not a number.
    """
    counts = rows(kernel.read(_VMSTAT))
    if "pswpout" not in counts:
        return None
    written, kept, put_out = (
        row(counts, name, _VMSTAT) if name in counts else 0 for name in ("pswpout", "zswpout", "zswpwb")
    )
    return SwapTraffic(
        paged_out_bytes=max(0, written + kept - put_out) * PAGE_SIZE, written_bytes=written * PAGE_SIZE
    )


def read_zswap(kernel: Kernel) -> Zswap | None:
    """The compressed cache in front of swap; None on a kernel without CONFIG_ZSWAP.

    ``Zswap`` and ``Zswapped`` of ``/proc/meminfo`` are the memory that it occupies and the memory that was
    put in (since Linux 5.19; Documentation/admin-guide/mm/zswap.rst).

    Raises:
        OSError: its settings exist, but cannot be read.
        Unreadable: the kernel does not say how much memory it occupies.
    """
    if not kernel.exists(f"{ZSWAP}/enabled"):
        return None
    meminfo = parse_meminfo(kernel.read("/proc/meminfo"))
    if not {"Zswap", "Zswapped"} <= meminfo.keys():
        raise Unreadable("no Zswap and Zswapped in /proc/meminfo")
    return Zswap(
        enabled=kernel.read(f"{ZSWAP}/enabled").strip() == "Y",
        most=read_number(kernel, f"{ZSWAP}/max_pool_percent") / 100,
        pool=Compressed(stored_bytes=meminfo["Zswapped"], used_bytes=meminfo["Zswap"]),
    )


def _with_device(kernel: Kernel, area: SwapArea, directory: str) -> SwapArea:
    return dataclasses.replace(area, device=read_device(kernel, directory))


def _with_pool(kernel: Kernel, area: SwapArea, directory: str) -> SwapArea:
    """The area with the content of its zram device, and the device for writeback (CONFIG_ZRAM_WRITEBACK)."""
    pool, limit = parse_zram(kernel.read(f"{directory}/mm_stat"))
    area = dataclasses.replace(area, pool=pool, pool_limit_bytes=limit)
    backing = (
        kernel.read(f"{directory}/backing_dev").strip() if _has(kernel, directory, "backing_dev") else "none"
    )
    if backing == "none":
        return area
    path = f"{directory}/bd_stat"
    held, _, written, *_ = numbers(kernel.read(path), path, at_least=3) if kernel.exists(path) else (0, 0, 0)
    area = dataclasses.replace(
        area,
        backing=backing,
        backing_held_bytes=held * _WRITTEN_BACK_UNIT,
        backing_written_bytes=written * _WRITTEN_BACK_UNIT,
    )
    return _with_physical_devices(kernel, area, f"{DEVICES}/{backing.rpartition('/')[2]}")


def _with_physical_devices(kernel: Kernel, area: SwapArea, directory: str) -> SwapArea:
    bottom = read_physical_devices(kernel, directory)
    return dataclasses.replace(area, encrypted=bottom.encrypted, devices=bottom.devices, remote=bottom.remote)


_ABOUT = {_with_device: "counters", _with_pool: "use", _with_physical_devices: "encryption"}


def _has(kernel: Kernel, directory: str, name: str) -> bool:
    return kernel.exists(f"{directory}/{name}")


def _directory_of(kernel: Kernel, area: SwapArea) -> str:
    """The sysfs directory of the block device that an area lies on.

    Raises:
        HostError: there is none to be found, as on a network file system.
    """
    if area.kind is SwapKind.FILE:
        return directory_of_mount(kernel, read_mount(kernel, area.file))
    directory = f"{DEVICES}/{area.path.rpartition('/')[2]}"
    if not kernel.exists(directory):
        raise HostError(f"no {directory}")
    return directory
