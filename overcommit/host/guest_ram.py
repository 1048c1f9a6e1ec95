"""Finds the guest's memory in QEMU's address space, and the backing of each block.

QEMU marks every RAM block MADV_DONTFORK under KVM (``dc`` in VmFlags), and its other memory never. It marks
video RAM, ROMs and mapped device memory too. The kernel distinguishes device memory and shows the backing of
each mapping. Which of the rest is guest RAM follows from sizes and names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from overcommit.errors import Unreadable
from overcommit.host.mounts import FileSystem
from overcommit.host.smaps import KNOWN_FLAGS, Mapping
from overcommit.model.blocks import Backing, Block, Part, Use
from overcommit.model.ranges import Range, normalise
from overcommit.units import MIB

_SHMEM_FILES = ("/memfd:", "/dev/zero", "/SYSV")
"""Names of files on the kernel's internal tmpfs: memfd_create, shared anonymous memory, System V."""
_SHMEM = frozenset({"tmpfs", "devtmpfs"})
_DAX_DEVICE = "/dev/dax"

_DEVICES = "/dev/"

FileSystemOf = Callable[[str], FileSystem | None]
"""Maps a device number of smaps to its file system."""
IsBlockDevice = Callable[[str], bool]
"""Whether a file with that name is a block device."""


def no_block_device(_path: str) -> bool:
    """The `IsBlockDevice` of a caller without block devices."""
    return False


class Region(NamedTuple):
    """Adjacent mappings of one kind. madvise splits a block into several mappings.

    ``backing`` is None for a file on a file system (``device``) that is not known.
    """

    span: Range
    backing: Backing | None
    device: str
    path: str
    shared: bool
    flags: frozenset[str]
    mergeable: bool
    cached_bytes: int


class Found(NamedTuple):
    """The guest's blocks, and the flags of guest RAM that are not known."""

    blocks: tuple[Block, ...]
    unknown_flags: frozenset[str]


NOTHING_FOUND = Found((), frozenset())


def find_blocks(
    mappings: Iterable[Mapping],
    parts: Sequence[Part],
    file_system: FileSystemOf,
    is_block_device: IsBlockDevice = no_block_device,
) -> Found:
    """The guest's memory; empty where its RAM cannot be identified.

    Raises:
        Unreadable: the backing of a block is not known, or smaps is malformed.
        OSError: the mounts cannot be read.
    """
    regions = [r for r in _regions(mappings, file_system, is_block_device) if r.span.size >= MIB]
    storage: list[tuple[Region, Part]] = []
    for part in (part for part in parts if part.use in {Use.STORAGE, Use.EXCHANGE}):
        if (found := _kept_in(part, regions)) is not None:
            regions.remove(found)
            storage.append((found, part))
    ram = _ram(regions, [part for part in parts if part.use is Use.RAM])
    if not ram:
        return NOTHING_FOUND
    for region, _ in ram:
        if region.backing is None:
            raise Unreadable(f"{region.path} is on an unknown file system (device {region.device})")
    unknown = frozenset[str]().union(*(region.flags for region, _ in ram)) - KNOWN_FLAGS
    return Found(
        blocks=tuple(sorted((_block(*pair) for pair in (*ram, *storage)), key=lambda block: block.span)),
        unknown_flags=unknown,
    )


def process_memory(
    mappings: Iterable[Mapping],
    file_system: FileSystemOf,
    is_block_device: IsBlockDevice = no_block_device,
) -> tuple[Range, ...]:
    """All larger writable memory of a process, which includes guest RAM. Page cache of files is left out.

    Raises:
        OSError: the mounts cannot be read.
    """
    larger = (m for m in mappings if "wr" in m.flags and m.span.size >= MIB and not m.of_device)
    return normalise(
        mapping.span
        for mapping in larger
        if "sh" not in mapping.flags
        or _backing(mapping, file_system, is_block_device) not in {Backing.FILE, Backing.DAX}
    )


def locked_bytes(mappings: Iterable[Mapping]) -> int:
    """Bytes locked by mlock. The kernel counts them in VmLck, together with what a device has pinned."""
    return sum(mapping.span.size for mapping in mappings if "lo" in mapping.flags)


def _regions(
    mappings: Iterable[Mapping], file_system: FileSystemOf, is_block_device: IsBlockDevice
) -> Iterator[Region]:
    last: Region | None = None
    for mapping in mappings:
        if "dc" not in mapping.flags or mapping.of_device:
            continue
        region = _region(mapping, file_system, is_block_device)
        if last is not None and last.span.end == region.span.start and last[1:5] == region[1:5]:
            region = Region(
                span=Range(last.span.start, region.span.end),
                backing=last.backing,
                device=last.device,
                path=last.path,
                shared=last.shared,
                flags=last.flags | region.flags,
                mergeable=last.mergeable and region.mergeable,
                cached_bytes=last.cached_bytes + region.cached_bytes,
            )
        elif last is not None:
            yield last
        last = region
    if last is not None:
        yield last


def _region(mapping: Mapping, file_system: FileSystemOf, is_block_device: IsBlockDevice) -> Region:
    backing, shared = _backing(mapping, file_system, is_block_device), "sh" in mapping.flags
    cached = 0
    if backing is Backing.FILE and shared:
        cached = mapping.figure("Rss")
    elif not shared and backing in {Backing.FILE, Backing.SHMEM, Backing.RAMFS, Backing.NOSWAP}:
        cached = mapping.figure("Rss") - mapping.figure("Anonymous")
    return Region(
        span=mapping.span,
        backing=backing,
        device=mapping.device,
        path=mapping.file if backing is not Backing.ANONYMOUS else "",
        shared=shared,
        flags=mapping.flags,
        mergeable="mg" in mapping.flags,
        cached_bytes=max(0, cached),
    )


def _backing(mapping: Mapping, file_system: FileSystemOf, is_block_device: IsBlockDevice) -> Backing | None:
    path = mapping.file
    if "ht" in mapping.flags:
        return Backing.HUGETLB
    if not path or path.startswith("["):
        return Backing.ANONYMOUS
    if path.startswith(_SHMEM_FILES):
        return Backing.SHMEM
    if path.startswith(_DAX_DEVICE):
        return Backing.DAX
    found = file_system(mapping.device) if mapping.span.size >= MIB else None
    if found is None:
        return None
    if found.kind in _SHMEM:
        # Of a block device smaps names the file system that its node lies on; what is mapped is the device's
        # page cache. Since Linux 4.7 no block device is mapped past that, whatever it is made of.
        if path.startswith(_DEVICES) and is_block_device(path):
            return Backing.FILE
        return Backing.NOSWAP if found.noswap else Backing.SHMEM
    if found.kind == "ramfs":
        return Backing.RAMFS
    return Backing.DAX if found.dax or "sf" in mapping.flags else Backing.FILE


def _kept_in(part: Part, regions: Sequence[Region]) -> Region | None:
    """The region of a part that is not RAM: found by its file, otherwise by its size among files."""
    by_path = (region for region in regions if part.path and region.path == part.path)
    files = (region for region in regions if region.path and region.span.size == part.size_bytes)
    return next(by_path, None) or next(files, None)


def _ram(regions: Sequence[Region], parts: Sequence[Part]) -> list[tuple[Region, Part]]:
    """The regions of guest RAM: each part's region by its size, the rest by the largest if that is enough.

    Of several regions of one size it is the one with the part's name, otherwise one with the part's defined
    backing. The rest has that backing too, where there is enough of it.
    """
    left, missing = list(regions), list(parts)
    found: list[tuple[Region, Part]] = []
    for fits in (_called, _lies_in, _any):
        for part in missing[:]:
            of_size = (r for r in left if r.span.size == part.size_bytes)
            region = next((r for r in of_size if fits(r, part)), None)
            if region is not None:
                missing.remove(part)
                left.remove(region)
                found.append((region, part))
    wanted = sum(part.size_bytes for part in missing)
    kinds = {part.backing for part in missing}
    any_of_them = Part(size_bytes=wanted, backing=kinds.pop() if len(kinds) == 1 else None)
    alike = [region for region in left if _lies_in(region, any_of_them)]
    if sum(region.span.size for region in alike) >= wanted:
        left = alike
    for region in sorted(left, key=lambda region: region.span.size, reverse=True):
        if wanted <= 0:
            break
        wanted -= region.span.size
        found.append((region, any_of_them))
    return found if wanted <= 0 else []


def _any(region: Region, part: Part) -> bool:
    return region.span.size == part.size_bytes


def _lies_in(region: Region, part: Part) -> bool:
    """Whether the region's backing is the one that the part is defined with.

    A file may be on tmpfs or on a disk.
    """
    if part.backing is Backing.FILE:
        return region.backing not in {Backing.ANONYMOUS, Backing.HUGETLB}
    return region.backing is part.backing


def _called(region: Region, part: Part) -> bool:
    """Whether its file has the part's name: ``/memfd:ram-node0``, ``…_objects_ram-node0.4H``."""
    return any(re.search(rf"{re.escape(name)}(?![0-9])", region.path) for name in part.names)


def _block(region: Region, part: Part) -> Block:
    return Block(
        span=region.span,
        backing=region.backing or Backing.FILE,
        use=part.use,
        shared=region.shared,
        locked="lo" in region.flags,
        mergeable=region.mergeable,
        source=region.path,
        alias=part.alias,
        named=_called(region, part),
        cached_bytes=region.cached_bytes,
    )
