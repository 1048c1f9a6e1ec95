"""The blocks that guest memory consists of, and what may be done with each.

A block is one memory region that QEMU gave the guest, as the kernel shows it. Decisions that depend on a
block's kind of memory are made here only.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from overcommit.model.ranges import Range, total_size


class Backing(enum.Enum):
    """The kind of memory behind a block."""

    ANONYMOUS = "anonymous memory"
    SHMEM = "shared memory"
    """A memfd, a file on tmpfs, or shared anonymous memory. It goes to swap."""
    RAMFS = "a file on ramfs"
    NOSWAP = "a file on tmpfs mounted noswap"
    FILE = "a file"
    """A file on a disk. Its page cache is written back to the file, never to swap."""
    HUGETLB = "hugetlb pages"
    DAX = "persistent memory"
    """Mapped without page cache. It occupies no memory of the host."""


class Use(enum.Enum):
    """What the guest uses a block for."""

    RAM = "RAM"
    STORAGE = "storage"
    """An NVDIMM or virtio-pmem: a disk of the guest, not RAM."""
    EXCHANGE = "exchange"
    """Memory shared with other guests (ivshmem), beside the guest's own RAM."""
    ENCLAVE = "enclave"
    """SGX: memory of the processor."""


class Home(enum.Enum):
    """Where the kernel can move a block's content."""

    SWAP = "swap"
    ITS_FILE = "its file"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One memory region of a guest.

    ``source`` is the file's name in ``/proc/PID/smaps``. ``alias`` is that of the virtio-mem device that the
    block belongs to. ``named``: the file's name proves the device; otherwise another device of the same size
    and backing may be meant. ``mergeable``: QEMU offered the block to KSM. Of the resident memory,
    ``cached_bytes`` are pages of the file itself, which the guest has not copied yet.
    """

    span: Range
    backing: Backing = Backing.ANONYMOUS
    use: Use = Use.RAM
    shared: bool = False
    locked: bool = False
    mergeable: bool = True
    source: str = ""
    alias: str | None = None
    named: bool = False
    cached_bytes: int = 0

    @property
    def home(self) -> Home:
        """Where its content goes when the host reclaims the memory.

        A private mapping of a file goes to swap, because pages that the guest wrote are private copies.
        """
        if self.locked or self.backing in {Backing.HUGETLB, Backing.DAX, Backing.RAMFS, Backing.NOSWAP}:
            return Home.NOWHERE
        return Home.ITS_FILE if self.backing is Backing.FILE and self.shared else Home.SWAP

    @property
    def in_memory(self) -> bool:
        """Whether it occupies memory of the host.

        Page cache that MemAvailable counts as available does not.
        """
        return self.backing is not Backing.DAX and (self.backing is not Backing.FILE or not self.shared)

    @property
    def huge(self) -> bool:
        """Whether it lies in huge pages that were set aside before the guest started."""
        return self.backing is Backing.HUGETLB

    @property
    def may_be_merged(self) -> bool:
        """Whether KSM may merge it: anonymous pages that were offered to it (Documentation/mm/ksm.rst)."""
        return self.mergeable and not self.shared and self.home is not Home.NOWHERE

    @property
    def size_bytes(self) -> int:
        """Its size in the guest."""
        return self.span.size

    def describe(self) -> str:
        """Its backing, in words."""
        if self.backing is Backing.FILE:
            return f"the page cache of {self.source}"
        return f"{self.backing.value} ({self.source})" if self.source else self.backing.value


class HolderKind(enum.Enum):
    """Kinds of things that keep guest memory from being taken, whatever its backing."""

    DEVICE = "device"
    """VFIO or vDPA: the device reads and writes guest memory itself, so its pages must stay in place."""
    PINNED = "pinned"
    GUEST_MEMFD = "guest_memfd"
    ENCRYPTION = "encryption"
    """AMD SEV: KVM keeps the pages in place, and counts them neither in VmLck nor in VmPin
    (sev_pin_memory, arch/x86/kvm/svm/sev.c).
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One thing that holds guest memory in place. ``what`` describes it for people, with how it was found."""

    kind: HolderKind
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """Another process in a domain's cgroup.

    ``helper``: libvirt started it for the domain. ``name`` and ``anonymous_bytes`` are None where they cannot
    be read.
    """

    pid: int
    name: str | None = None
    helper: bool = False
    anonymous_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.name or 'another process'} (pid {self.pid})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One memory cell or memory device in a domain's definition.

    ``names`` are the names that QEMU may give its file, ``path`` is the file on disk that holds it.
    ``backing`` is the defined kind of memory, used to tell parts of one size apart; None: not known.
    """

    size_bytes: int
    use: Use = Use.RAM
    names: tuple[str, ...] = ()
    alias: str | None = None
    path: str | None = None
    backing: Backing | None = None


def storage_bytes(parts: tuple[Part, ...]) -> int:
    """Bytes of the parts that are storage, not RAM."""
    return sum(part.size_bytes for part in parts if part.use is not Use.RAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFacts:
    """What a domain's memory consists of, and what else uses it.

    Where guest RAM cannot be told from the rest of QEMU, there are no ``blocks``, a gap says so, and
    ``process`` has all larger mappings of QEMU, for monitoring only. ``companions`` are charged to the
    domain's cgroup too.
    """

    blocks: tuple[Block, ...] = ()
    process: tuple[Range, ...] = ()
    holders: tuple[Holder, ...] = ()
    companions: tuple[Companion, ...] = ()

    @property
    def guest_ram(self) -> tuple[Block, ...]:
        """The blocks that are RAM of the guest."""
        return tuple(block for block in self.blocks if block.use is Use.RAM)

    @property
    def ram(self) -> tuple[Range, ...]:
        """Guest RAM that occupies memory of the host, as QEMU's addresses. Page cache is left out."""
        return tuple(block.span for block in self.guest_ram if block.in_memory)

    @property
    def memory(self) -> tuple[Range, ...]:
        """The address ranges to monitor."""
        return self.ram or self.process

    @property
    def pageable(self) -> tuple[Range, ...]:
        """Guest RAM that can go to swap."""
        return tuple(block.span for block in self.guest_ram if block.home is Home.SWAP)

    @property
    def pageable_bytes(self) -> int:
        """The size of pageable guest RAM; 0 where something holds it in place."""
        return 0 if self.holders else total_size(self.pageable)

    @property
    def mergeable(self) -> tuple[Range, ...]:
        """Guest RAM that KSM may merge."""
        return tuple(block.span for block in self.guest_ram if block.may_be_merged)

    @property
    def in_guest_memfd(self) -> bool:
        """Whether the guest has memory that no process maps (guest_memfd)."""
        return any(holder.kind is HolderKind.GUEST_MEMFD for holder in self.holders)

    @property
    def only_helpers(self) -> bool:
        """Whether the other processes in its cgroup are all its own helpers."""
        return bool(self.companions) and all(companion.helper for companion in self.companions)

    @property
    def elsewhere_bytes(self) -> int:
        """The size of guest RAM that occupies no memory of the host: its content goes back to a file."""
        return sum(block.size_bytes for block in self.guest_ram if not block.in_memory)

    @property
    def huge_bytes(self) -> int:
        """The size of guest RAM in huge pages that were set aside."""
        return total_size([block.span for block in self.guest_ram if block.huge])


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtioMemDevice:
    """A virtio-mem device: memory of a guest that is plugged and unplugged in blocks.

    The guest has ``current_bytes`` of ``size_bytes``; ``requested_bytes`` is what it should have. Each is a
    multiple of ``block_bytes``. ``node`` is the guest's memory node that the device belongs to.
    """

    alias: str
    size_bytes: int
    block_bytes: int
    requested_bytes: int
    current_bytes: int
    node: int | None = None

    @property
    def resized(self) -> bool:
        """Whether the guest has reached the requested size."""
        return self.current_bytes == self.requested_bytes
