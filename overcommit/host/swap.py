"""What swap is made of: the devices under it and what they did, encryption, zswap, what went out so far."""

from __future__ import annotations

import dataclasses
import re

from overcommit.errors import HostError
from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_meminfo, parse_zram
from overcommit.model.accounts import Compressed, Zswap
from overcommit.model.facts import Gap
from overcommit.model.swap import BlockDevice, SwapArea, SwapKind, SwapTraffic
from overcommit.units import PAGE_SIZE

DEVICES = "/sys/class/block"
ZSWAP = "/sys/module/zswap/parameters"
_MOUNTS = "/proc/self/mountinfo"
_VMSTAT = "/proc/vmstat"
_SECTOR = 512


def read_areas(kernel: Kernel, areas: tuple[SwapArea, ...]) -> tuple[tuple[SwapArea, ...], tuple[Gap, ...]]:
    """The same areas with what can be told of their devices, and what cannot be told."""
    known, gaps = [], []
    for area in areas:
        try:
            directory = _directory_of(kernel, area)
        except (HostError, OSError) as error:
            gaps.append(Gap(what=f"device of swap on {area.path}", why=str(error)))
            known.append(area)
            continue
        more = _with_pool if area.kind is SwapKind.ZRAM else _with_cipher
        for look in (_with_device, more):
            try:
                area = look(kernel, area, directory)
            except (OSError, ValueError) as error:
                gaps.append(Gap(what=f"{_ABOUT[look]} of swap on {area.path}", why=str(error)))
        known.append(area)
    return tuple(known), tuple(gaps)


def read_traffic(kernel: Kernel) -> SwapTraffic | None:
    """What went to swap since boot, None on a kernel without it (CONFIG_VM_EVENT_COUNTERS).

    ``pswpout`` of ``/proc/vmstat`` counts pages written to any area. A page that zswap keeps is a ``zswpout``
    instead, and becomes a ``pswpout`` too when zswap puts it out (``zswpwb``, since Linux 6.8).
    """
    counts = dict(re.findall(r"^(pswpout|zswpout|zswpwb) (\d+)$", kernel.read(_VMSTAT), re.MULTILINE))
    if "pswpout" not in counts:
        return None
    written, kept, put_out = (int(counts.get(name, 0)) for name in ("pswpout", "zswpout", "zswpwb"))
    return SwapTraffic(
        paged_out_bytes=(written + kept - put_out) * PAGE_SIZE, written_bytes=written * PAGE_SIZE
    )


def read_zswap(kernel: Kernel) -> Zswap | None:
    """The compressed cache in front of swap, None on a kernel without it (CONFIG_ZSWAP).

    ``Zswap`` and ``Zswapped`` of ``/proc/meminfo``: what it takes and what was put in (since Linux 5.19);
    Documentation/admin-guide/mm/zswap.rst.

    Raises:
        OSError: it is there, but cannot be read.
        ValueError: the kernel does not say what it takes.
    """
    if not kernel.exists(f"{ZSWAP}/enabled"):
        return None
    meminfo = parse_meminfo(kernel.read("/proc/meminfo"))
    if "Zswap" not in meminfo:
        message = "no Zswap in /proc/meminfo"
        raise ValueError(message)
    return Zswap(
        enabled=kernel.read(f"{ZSWAP}/enabled").strip() == "Y",
        most=int(kernel.read(f"{ZSWAP}/max_pool_percent")) / 100,
        pool=Compressed(stored_bytes=meminfo["Zswapped"], used_bytes=meminfo["Zswap"]),
    )


def _with_device(kernel: Kernel, area: SwapArea, directory: str) -> SwapArea:
    """Documentation/block/stat.rst: requests, merged, sectors of 512 bytes and milliseconds, twice."""
    fields = [int(field) for field in kernel.read(f"{directory}/stat").split()]
    reads, _, sectors_read, read_ms, writes, _, sectors_written, write_ms, *_ = fields
    queue = f"{directory}/queue"
    if not kernel.exists(f"{queue}/rotational"):
        queue = f"{directory}/../queue"  # a partition is below its disk
    device = BlockDevice(
        name=_name_of(kernel, area, directory),
        rotational=kernel.read(f"{queue}/rotational").strip() == "1",
        reads=reads,
        read_bytes=sectors_read * _SECTOR,
        read_seconds=read_ms / 1000,
        writes=writes,
        written_bytes=sectors_written * _SECTOR,
        write_seconds=write_ms / 1000,
    )
    return dataclasses.replace(area, device=device)


def _name_of(kernel: Kernel, area: SwapArea, directory: str) -> str:
    """The kernel's name of the device; a file system's is found by number, and its uevent has the name."""
    if area.kind is not SwapKind.FILE:
        return directory.rpartition("/")[2]
    match = re.search(r"^DEVNAME=(\S+)$", kernel.read(f"{directory}/uevent"), re.MULTILINE)
    if match is None:
        message = f"no DEVNAME in {directory}/uevent"
        raise ValueError(message)
    return match[1]


def _with_pool(kernel: Kernel, area: SwapArea, directory: str) -> SwapArea:
    pool, limit = parse_zram(kernel.read(f"{directory}/mm_stat"))
    return dataclasses.replace(area, pool=pool, pool_limit_bytes=limit)


def _with_cipher(kernel: Kernel, area: SwapArea, directory: str) -> SwapArea:
    return dataclasses.replace(area, encrypted=_on_dm_crypt(kernel, directory))


_ABOUT = {_with_device: "counters", _with_pool: "use", _with_cipher: "encryption"}


def _directory_of(kernel: Kernel, area: SwapArea) -> str:
    """The sysfs directory of the block device that an area lies on.

    Raises:
        HostError: it cannot be told, as on a file system over several devices.
    """
    directory = f"{DEVICES}/{area.path.rpartition('/')[2]}"
    if area.kind is SwapKind.FILE:
        directory = f"/sys/dev/block/{_mounted_from(kernel, area.path)}"
    if not kernel.exists(directory):
        raise HostError(f"no {directory}")
    return directory


def _mounted_from(kernel: Kernel, path: str) -> str:
    """Major and minor number of the file system that holds a file (proc_pid_mountinfo(5), fields 3 and 5)."""
    mounts: list[tuple[str, str]] = re.findall(
        r"^\d+ \d+ (\d+:\d+) \S+ (\S+) ", kernel.read(_MOUNTS), re.MULTILINE
    )
    over = [
        (len(point), number) for number, point in mounts if f"{path}/".startswith(f"{point.rstrip('/')}/")
    ]
    if not over:
        raise HostError(f"no mount holds {path}")
    return max(reversed(over), key=lambda mount: mount[0])[1]  # of mounts over each other the last


def _on_dm_crypt(kernel: Kernel, directory: str) -> bool:
    """Whether a device, or all that it is made of, is dm-crypt's: cryptsetup's UUIDs begin with CRYPT-."""
    uuid = f"{directory}/dm/uuid"
    if kernel.exists(uuid) and kernel.read(uuid).startswith("CRYPT-"):
        return True
    below = f"{directory}/slaves"
    parts = kernel.list(below) if kernel.exists(below) else ()
    return bool(parts) and all(_on_dm_crypt(kernel, f"{DEVICES}/{part}") for part in parts)
