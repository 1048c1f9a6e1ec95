"""What guest memory is made of: blocks, each with what it lies in, and so what may be done with it.

A block is one region that QEMU gave the guest, as the kernel shows it. Nothing that follows from what memory
is made of is decided anywhere else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from overcommit.model.ranges import Range, total_size


class Backing(enum.Enum):
    """What a block lies in."""

    ANONYMOUS = "anonymous memory"
    SHMEM = "shared memory"
    """A memfd, a file on tmpfs, or anonymous memory that is shared; it goes to swap."""
    RAMFS = "a file on ramfs"
    FILE = "a file"
    """On a disk, or from elsewhere: its page cache, which goes back to the file, and never to swap."""
    HUGETLB = "hugetlb pages"
    DAX = "persistent memory"
    """Mapped without page cache: what it holds is no memory of the host's at all."""


class Use(enum.Enum):
    """What the guest has a block for."""

    RAM = "RAM"
    STORAGE = "storage"
    """An NVDIMM, or virtio-pmem: the guest's disk, not its memory."""
    EXCHANGE = "exchange"
    """Shared with other guests (ivshmem), beside the guest's own memory."""
    ENCLAVE = "enclave"
    """SGX: the processor's own memory."""


class Home(enum.Enum):
    """Where the kernel can put what a block holds."""

    SWAP = "swap"
    ITS_FILE = "its file"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One region of a guest.

    ``source`` is the file's name, as the kernel has it. ``alias`` is of the virtio-mem device it belongs to.
    ``named``: its file's name says so; else it may be another device's, of the same size and in the same.
    ``mergeable``: QEMU offered it to KSM. Of what is resident, ``cached_bytes`` are pages of the file itself,
    of which the guest has no copy of its own yet.
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
        """Where it goes when the host needs its memory.

        A private mapping of a file goes to swap: what the guest wrote is a copy of its own.
        """
        if self.locked or self.backing in {Backing.HUGETLB, Backing.DAX, Backing.RAMFS}:
            return Home.NOWHERE
        return Home.ITS_FILE if self.backing is Backing.FILE and self.shared else Home.SWAP

    @property
    def in_memory(self) -> bool:
        """Whether what it holds is memory of the host; page cache MemAvailable counts as to be had."""
        return self.backing is not Backing.DAX and (self.backing is not Backing.FILE or not self.shared)

    @property
    def huge(self) -> bool:
        """Whether it is of the memory that was set aside as huge pages before the guest began."""
        return self.backing is Backing.HUGETLB

    @property
    def may_be_merged(self) -> bool:
        """Whether KSM may: anonymous pages only, which were offered to it (Documentation/mm/ksm.rst)."""
        return self.mergeable and not self.shared and self.home is not Home.NOWHERE

    @property
    def size_bytes(self) -> int:
        """As large as the guest has it."""
        return self.span.size

    def describe(self) -> str:
        """What it lies in, for people."""
        if self.backing is Backing.FILE:
            return f"the page cache of {self.source}"
        return f"{self.backing.value} ({self.source})" if self.source else self.backing.value


class HolderKind(enum.Enum):
    """What keeps guest memory from being taken, whatever it lies in."""

    DEVICE = "device"
    """VFIO or vDPA: it reads and writes guest memory itself, so that pages must stay where they are."""
    PINNED = "pinned"
    GUEST_MEMFD = "guest_memfd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One thing that holds guest memory in place; ``what`` says it for people, with how it was seen."""

    kind: HolderKind
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """Another process in a domain's cgroup.

    ``helper``: one of those that libvirt starts for a domain and puts there itself. ``name`` is None, and so
    is ``anonymous_bytes``, where they cannot be read.
    """

    pid: int
    name: str | None = None
    helper: bool = False
    anonymous_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.name or 'another process'} (pid {self.pid})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What the definition says that a guest has: one memory cell, or one memory device.

    ``names`` are what QEMU may call it in the name of its file, ``path`` is the file that it is kept in.
    ``backing`` is what it is defined to lie in, to tell it from what else has its size; None: not known.
    """

    size_bytes: int
    use: Use = Use.RAM
    names: tuple[str, ...] = ()
    alias: str | None = None
    path: str | None = None
    backing: Backing | None = None


def storage_bytes(parts: tuple[Part, ...]) -> int:
    """What of those is no RAM."""
    return sum(part.size_bytes for part in parts if part.use is not Use.RAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFacts:
    """What a domain's memory is made of, and who else has to do with it.

    Where guest RAM cannot be told from the rest there are no ``blocks``, a gap says so, and ``process`` is
    all of QEMU's larger memory, to look at only. ``companions`` are charged to its cgroup too.
    """

    blocks: tuple[Block, ...] = ()
    process: tuple[Range, ...] = ()
    holders: tuple[Holder, ...] = ()
    companions: tuple[Companion, ...] = ()

    @property
    def guest_ram(self) -> tuple[Block, ...]:
        """The blocks that the guest has as RAM."""
        return tuple(block for block in self.blocks if block.use is Use.RAM)

    @property
    def ram(self) -> tuple[Range, ...]:
        """Guest RAM that is memory of the host, in QEMU's address space; what is page cache is not."""
        return tuple(block.span for block in self.guest_ram if block.in_memory)

    @property
    def memory(self) -> tuple[Range, ...]:
        """What there is to look at."""
        return self.ram or self.process

    @property
    def pageable(self) -> tuple[Range, ...]:
        """What of guest RAM can go to swap."""
        return tuple(block.span for block in self.guest_ram if block.home is Home.SWAP)

    @property
    def pageable_bytes(self) -> int:
        """How much that is, by its size; what somebody holds in place is none."""
        return 0 if self.holders else total_size(self.pageable)

    @property
    def mergeable(self) -> tuple[Range, ...]:
        """What of guest RAM KSM may merge."""
        return tuple(block.span for block in self.guest_ram if block.may_be_merged)

    @property
    def in_guest_memfd(self) -> bool:
        """Whether the guest has memory that no process maps."""
        return any(holder.kind is HolderKind.GUEST_MEMFD for holder in self.holders)

    @property
    def only_helpers(self) -> bool:
        """Whether all that its cgroup is shared with are its own helpers."""
        return bool(self.companions) and all(companion.helper for companion in self.companions)

    @property
    def elsewhere_bytes(self) -> int:
        """Guest RAM, by its size, that is no memory of the host: what it holds goes back to a file."""
        return sum(block.size_bytes for block in self.guest_ram if not block.in_memory)

    @property
    def huge_bytes(self) -> int:
        """Guest RAM, by its size, in pages that were set aside."""
        return total_size([block.span for block in self.guest_ram if block.huge])


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtioMemDevice:
    """Memory of a guest that goes and comes in blocks.

    Of its ``size_bytes`` the guest has ``current_bytes``, and shall have ``requested_bytes``; each a multiple
    of ``block_bytes``. ``node`` is the guest's memory node that it belongs to.
    """

    alias: str
    size_bytes: int
    block_bytes: int
    requested_bytes: int
    current_bytes: int
    node: int | None = None

    @property
    def resized(self) -> bool:
        """Whether the guest has done what was asked of it."""
        return self.current_bytes == self.requested_bytes
