"""Who holds the host's memory, and what can be freed: huge pages, caches, compressed swap, cgroups."""

from __future__ import annotations

from dataclasses import dataclass

from overcommit.units import MIB

ASSUMED_RATIO = 3.0
"""The compression ratio of swap that is assumed while none is measured."""
_TELLING_BYTES = 64 * MIB
"""Below this amount the ratio is not a measurement: the allocator's pools are mostly unfilled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a cgroup is charged for, in bytes by kind (``memory.stat``).

    ``shmem_bytes`` is shared memory, which includes guest RAM in a memfd. It has no file to be written back
    to: it goes to swap or stays. ``cache_bytes`` is file cache, which can be dropped. ``kernel_bytes`` are
    page tables (KVM's too) and similar. ``hidden_bytes`` are file pages that are on no LRU list, so that
    reclaim cannot drop them. See Documentation/admin-guide/cgroup-v2.rst.
    """

    anon_bytes: int
    shmem_bytes: int
    cache_bytes: int
    kernel_bytes: int
    hidden_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that cannot be dropped."""
        return self.anon_bytes + self.shmem_bytes + self.kernel_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimit:
    """A cgroup's limit of memory or of swap. ``file`` is the file that sets it.

    ``own``: the cgroup is one domain's. Otherwise it is a slice, and the limit holds for everything below it
    together. ``cache_bytes`` of what is charged can be dropped to make room; for swap it is 0.

    A limit of zswap bounds page-out only where zswap may not write back to a swap device. ``off_disk`` is the
    cgroup that forbids the writeback. ``share`` is the part of the paged-out bytes that is charged there
    after compression.
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
        """Bytes that can still be charged, with the file cache that would be dropped for them."""
        room = max(0, min(self.limit_bytes, self.limit_bytes - self.current_bytes + self.cache_bytes))
        return self._uncompressed(room)

    @property
    def most_bytes(self) -> int:
        """Bytes that could be charged if nothing were charged now."""
        return self._uncompressed(self.limit_bytes)

    def _uncompressed(self, size: int) -> int:
        return size if self.share == 1.0 else int(size / self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class HugePages:
    """Memory that is set aside as huge pages (hugetlbfs), all sizes together. It has no other use."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arc:
    """ZFS's cache (ARC). MemAvailable counts it as used; ZFS shrinks it to ``minimum_bytes`` on demand."""

    size_bytes: int
    minimum_bytes: int

    @property
    def reclaimable_bytes(self) -> int:
        """Bytes that ZFS gives up on demand."""
        return max(0, self.size_bytes - self.minimum_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A pool of compressed swap that is in memory: zram, or zswap in front of a swap device.

    ``stored_bytes`` were swapped out, and occupy ``used_bytes``. In zram, pages filled with one repeated word
    occupy nothing and are not counted in either figure.
    """

    stored_bytes: int
    used_bytes: int

    @property
    def tells(self) -> bool:
        """Whether the pool holds enough to measure a compression ratio."""
        return self.stored_bytes >= _TELLING_BYTES and self.used_bytes > 0


def kept_share(pool: Compressed | None) -> float:
    """The share (0..1) of swapped-out memory that stays in memory: measured, or assumed."""
    if pool is None or not pool.tells:
        return 1 / ASSUMED_RATIO
    return min(1.0, pool.used_bytes / pool.stored_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zswap:
    """The kernel's compressed cache in front of swap.

    It occupies at most the share ``most`` (0..1) of memory.
    """

    enabled: bool
    most: float
    pool: Compressed
