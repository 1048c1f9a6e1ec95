"""Swap of the kernel: its areas, the devices under them, and the traffic so far."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from overcommit.model.accounts import Compressed


class SwapKind(enum.Enum):
    """The kind of a swap area. It decides the cost, and whether data is stored unencrypted on a disk."""

    ZRAM = "zram"
    PARTITION = "partition"
    FILE = "file"


class SwapHazard(enum.Enum):
    """Why a swap area is in a bad place; each value continues a sentence after the path."""

    ZFS = (
        "is on ZFS, which needs memory to write: a host that is short of memory can hang (OpenZFS issue 7734)"
    )
    NETWORK = (
        "is reached over a network, which needs memory to write: a host that is short of memory can hang, "
        "and stops when the network does"
    )
    LOOP = (
        "is a file behind a loop device: its file system needs memory to write, and a host that is short "
        "can hang"
    )
    BTRFS = (
        "is a file on btrfs: its subvolume cannot be snapshotted, and balancing or removing the device fails "
        "while it is in use"
    )


_HAZARDOUS_DEVICES = (
    (SwapHazard.ZFS, re.compile(r"zd[0-9]+(p[0-9]+)?")),
    (SwapHazard.NETWORK, re.compile(r"(nbd|rbd|drbd)[0-9]+(p[0-9]+)?")),
    (SwapHazard.LOOP, re.compile(r"loop[0-9]+(p[0-9]+)?")),
)
_HAZARDOUS_FILESYSTEMS = (
    (SwapHazard.ZFS, frozenset({"zfs"})),
    (
        SwapHazard.NETWORK,
        frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "fuse.glusterfs"}),
    ),
    (SwapHazard.BTRFS, frozenset({"btrfs"})),
)
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """The block device under a swap area, with its counters since it appeared.

    ``rotational`` is the driver's statement. Under a swap file the device has other users too, and their
    reads and writes are included. The same holds for a device that consists of others.
    """

    name: str
    rotational: bool
    reads: int
    read_bytes: int
    read_seconds: float
    writes: int
    written_bytes: int
    write_seconds: float

    @property
    def seconds_per_read(self) -> float | None:
        """The mean time of a read, waiting included; None: there was no read."""
        return self.read_seconds / self.reads if self.reads else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapArea:
    """One active swap area. The kernel fills areas of the highest ``priority`` first.

    ``encrypted``: it lies on dm-crypt; None: not known, or not on a disk. ``device`` is None where it cannot
    be found. ``devices`` are the lowest devices below it, by the kernel's names. ``remote``: it is reached
    over a network. ``filesystem`` is the type of the filesystem that holds a swap file. ``pool`` is the
    content of a zram device, and ``pool_limit_bytes`` the most memory that it may take (``mem_limit``); None:
    no limit. ``backing`` is the device that zram writes back to (``backing_dev``); None: none. ``encrypted``,
    ``devices`` and ``remote`` then describe that device.
    """

    path: str
    kind: SwapKind
    size_bytes: int
    used_bytes: int
    priority: int = 0
    encrypted: bool | None = None
    device: BlockDevice | None = None
    pool: Compressed | None = None
    pool_limit_bytes: int | None = None
    devices: tuple[str, ...] = ()
    remote: bool = False
    filesystem: str | None = None
    backing: str | None = None
    backing_held_bytes: int = 0
    backing_written_bytes: int = 0

    @property
    def file(self) -> str:
        """The path of a swap file as it was opened, without the kernel's mark of a removed file."""
        return self.path.removesuffix(_DELETED)

    @property
    def free_bytes(self) -> int:
        """Free bytes."""
        return self.size_bytes - self.used_bytes

    @property
    def on_disk(self) -> bool:
        """Whether what is written there leaves memory, at once or later."""
        return self.kind is not SwapKind.ZRAM or self.backing is not None

    @property
    def into_memory_bytes(self) -> int:
        """Bytes written to it since it appeared that stayed in memory; 0 on a disk."""
        if self.kind is not SwapKind.ZRAM or self.device is None:
            return 0
        return self.device.written_bytes - self.backing_written_bytes

    @property
    def hazard(self) -> SwapHazard | None:
        """Why it is in a bad place; None: no reason."""
        names = self.devices or (self.path.rpartition("/")[2],)
        if self.kind is not SwapKind.FILE or self.devices:
            for hazard, pattern in _HAZARDOUS_DEVICES:
                if any(pattern.fullmatch(name) for name in names):
                    return hazard
        for hazard, types in _HAZARDOUS_FILESYSTEMS:
            if self.filesystem in types:
                return hazard
        return SwapHazard.NETWORK if self.remote else None

    @property
    def exposed(self) -> bool:
        """Whether swapped-out memory is stored readable on a disk (rule S7)."""
        return self.on_disk and self.encrypted is False


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapTraffic:
    """Bytes that went to swap since boot, whatever caused it.

    ``paged_out_bytes`` left processes, to areas or to zswap. ``written_bytes`` were written to areas, zram
    included: what zswap refused, and what it wrote back later.
    """

    paged_out_bytes: int
    written_bytes: int
