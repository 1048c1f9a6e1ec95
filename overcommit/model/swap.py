"""Swap as the kernel has it: its areas, what lies under each of them, and what went there so far."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from overcommit.model.accounts import Compressed


class SwapKind(enum.Enum):
    """What stands behind a swap area; it decides cost and whether data rests unencrypted on a disk."""

    ZRAM = "zram"
    PARTITION = "partition"
    FILE = "file"


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
    cannot be told. ``pool`` is what a zram device holds, and ``pool_limit_bytes`` the most memory that it may
    take for that (its mem_limit), None: as much as it needs.
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

    @property
    def free_bytes(self) -> int:
        """Its room."""
        return self.size_bytes - self.used_bytes

    @property
    def on_disk(self) -> bool:
        """Whether what is written there leaves memory."""
        return self.kind is not SwapKind.ZRAM

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
