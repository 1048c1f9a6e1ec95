"""Facts of who holds memory, and what of it can be had: huge pages, caches, compressed swap, cgroups."""

from __future__ import annotations

from dataclasses import dataclass

from overcommit.units import MIB

ASSUMED_RATIO = 3.0
"""How well memory is taken to compress as long as nothing was measured."""
_TELLING_BYTES = 64 * MIB
"""Less than this in compressed memory is no measurement: its pools are filled piecemeal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a cgroup is charged for, by kind.

    ``shmem_bytes`` is shared memory, a guest's that lies in a memfd too: no file to write it back to, so that
    it goes to swap or stays. ``cache_bytes`` is what can be dropped. ``kernel_bytes`` are page tables (KVM's
    too) and the like. ``hidden_bytes`` are file pages that cannot be dropped: reclaim has no list of them.
    """

    anon_bytes: int
    shmem_bytes: int
    cache_bytes: int
    kernel_bytes: int
    hidden_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """What cannot be dropped."""
        return self.anon_bytes + self.shmem_bytes + self.kernel_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimit:
    """How much a cgroup may be charged at most, of memory or of swap, by the ``file`` that says so.

    ``own``: it is one domain's. Else it is a slice, and holds for all below it together. ``cache_bytes`` of
    what is charged would be dropped to make room, which swap has none of.

    A limit of zswap bounds what is paged out where nothing may go past zswap to a swap device: ``off_disk``
    is the cgroup that says so. Of what is paged out, the ``share`` that compression leaves is charged there.
    """

    path: str
    file: str
    limit_bytes: int
    current_bytes: int
    cache_bytes: int
    own: bool
    share: float = 1.0
    off_disk: str | None = None

    @property
    def room_bytes(self) -> int:
        """What it can still take, and what it would drop for that."""
        room = max(0, min(self.limit_bytes, self.limit_bytes - self.current_bytes + self.cache_bytes))
        return self._uncompressed(room)

    @property
    def most_bytes(self) -> int:
        """What it could take if nothing were charged."""
        return self._uncompressed(self.limit_bytes)

    def _uncompressed(self, size: int) -> int:
        return size if self.share == 1.0 else int(size / self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class HugePages:
    """Memory set aside as huge pages (hugetlbfs), all sizes together; nobody can use it for anything else."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arc:
    """ZFS's cache. MemAvailable counts it as used, though it shrinks to ``minimum_bytes`` when asked."""

    size_bytes: int
    minimum_bytes: int

    @property
    def reclaimable_bytes(self) -> int:
        """What it gives up when asked."""
        return max(0, self.size_bytes - self.minimum_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """Swapped-out memory that stays in memory, compressed: in zram, or in zswap before it goes to a disk.

    ``stored_bytes`` were put in and take ``used_bytes``. In zram, pages of one repeated word take nothing and
    are not counted: how many of them there are says nothing about others.
    """

    stored_bytes: int
    used_bytes: int

    @property
    def tells(self) -> bool:
        """Whether it holds enough to say how well memory compresses."""
        return self.stored_bytes >= _TELLING_BYTES and self.used_bytes > 0


def kept_share(pool: Compressed | None) -> float:
    """The share of swapped-out memory that stays in memory: measured, or assumed."""
    if pool is None or not pool.tells:
        return 1 / ASSUMED_RATIO
    return min(1.0, pool.used_bytes / pool.stored_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zswap:
    """The kernel's compressed cache in front of swap; it takes ``most`` of memory (a ratio) at most."""

    enabled: bool
    most: float
    pool: Compressed
