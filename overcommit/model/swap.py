"""Swap as the kernel has it: its areas, what lies under each of them, and what went there so far."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from overcommit.model.accounts import Compressed


class SwapKind(enum.Enum):
    """What stands behind a swap area; it decides cost and whether data rests unencrypted on a disk."""

    ZRAM = "zram"
    PARTITION = "partition"
    FILE = "file"


class SwapHazard(enum.Enum):
    """What makes a place a bad one for swap, as a sentence goes on after its path."""

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
    """The block device under a swap area, and what it has done since it is there.

    ``rotational`` is what its driver says. Under a swap file it serves others too, and their reads and
    writes are in the figures; so are all on a device that is made of others.
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
        """The mean time of a read, waiting included; None: there was none."""
        return self.read_seconds / self.reads if self.reads else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapArea:
    """One active swap area; the kernel fills those of the highest ``priority`` first.

    ``encrypted``: it lies on dm-crypt; None: not known, or not on a disk at all. ``device``: None where it
    cannot be told. ``devices`` are at the bottom of that, by the kernel's names, and ``remote``: over a
    network. ``filesystem`` is the type of what holds a file. ``pool`` is what a zram device holds, and
    ``pool_limit_bytes`` the most memory that it may take for that (its mem_limit), None: as much as it needs.
    ``backing`` is the device that a zram device writes to what it is told to put out, None: it has none;
    ``encrypted``, ``devices`` and ``remote`` are then of that one.
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
        """The path of a file as it was opened; the kernel says so of one that was removed since."""
        return self.path.removesuffix(_DELETED)

    @property
    def free_bytes(self) -> int:
        """Its room."""
        return self.size_bytes - self.used_bytes

    @property
    def on_disk(self) -> bool:
        """Whether what is written there leaves memory, at once or later."""
        return self.kind is not SwapKind.ZRAM or self.backing is not None

    @property
    def into_memory_bytes(self) -> int:
        """What was written to it since it is there and did not go on to a disk; on a disk nothing."""
        if self.kind is not SwapKind.ZRAM or self.device is None:
            return 0
        return self.device.written_bytes - self.backing_written_bytes

    @property
    def hazard(self) -> SwapHazard | None:
        """Why it is a bad place for swap; None: nothing speaks against it."""
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
        """Whether what is swapped out rests readable on a disk (rule S7)."""
        return self.on_disk and self.encrypted is False


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapTraffic:
    """What went to swap since boot, whoever asked for it.

    ``paged_out_bytes`` left processes, to areas or to zswap. ``written_bytes`` were written to areas, zram
    among them: all that zswap did not keep, and what it put out later.
    """

    paged_out_bytes: int
    written_bytes: int
