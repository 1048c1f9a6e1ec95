"""What swap is made of: whether it rests readable on a disk, and what stays in memory compressed (zswap)."""

from __future__ import annotations

import dataclasses
import re

from overcommit.errors import HostError
from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_meminfo
from overcommit.model.accounts import Compressed, Zswap
from overcommit.model.facts import Gap, SwapArea, SwapKind

DEVICES = "/sys/class/block"
ZSWAP = "/sys/module/zswap/parameters"
_MOUNTS = "/proc/self/mountinfo"


def read_encryption(
    kernel: Kernel, areas: tuple[SwapArea, ...]
) -> tuple[tuple[SwapArea, ...], tuple[Gap, ...]]:
    """The same areas with what can be told of their encryption, and which cannot be told about."""
    known, gaps = [], []
    for area in areas:
        encrypted = None
        if area.kind is not SwapKind.ZRAM:
            try:
                encrypted = _on_dm_crypt(kernel, _device_of(kernel, area))
            except (HostError, OSError) as error:
                gaps.append(Gap(what=f"encryption of swap on {area.path}", why=str(error)))
        known.append(dataclasses.replace(area, encrypted=encrypted))
    return tuple(known), tuple(gaps)


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


def _device_of(kernel: Kernel, area: SwapArea) -> str:
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
