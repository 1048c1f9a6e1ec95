"""Reads what a domain's memory consists of: first from the kernel, then from the definition."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from overcommit.host.block import DEVICES
from overcommit.host.guest_ram import (
    NOTHING_FOUND,
    FileSystemOf,
    Found,
    IsBlockDevice,
    find_blocks,
    locked_bytes,
    process_memory,
)
from overcommit.host.holders import read_companions, read_open, read_pinned
from overcommit.host.kernel import Kernel
from overcommit.host.mounts import read_file_systems
from overcommit.host.residency import residency_of
from overcommit.host.smaps import Mapping, parse_smaps
from overcommit.model.blocks import MemoryFacts, Part, Use, storage_bytes
from overcommit.model.facts import CgroupMemory, Definition, Gap, Residency
from overcommit.model.ranges import Range
from overcommit.observe.attempts import attempt_or_gap


def locate_ram(kernel: Kernel, pid: int, definition: Definition, listed_bytes: int) -> tuple[Range, ...]:
    """The addresses of guest RAM in a QEMU process that has ``listed_bytes`` now; empty: not known.

    Which memory was plugged or unplugged since ``definition`` was read is inferred: see `_parts_now`.

    Raises:
        OSError: the process has exited.
        Unreadable: a block's backing is not known.
    """
    now = dataclasses.replace(definition, parts=_parts_now(definition.parts, listed_bytes))
    return MemoryFacts(blocks=_find(kernel, pid, _mappings(kernel, pid), now).blocks).ram


def _parts_now(parts: tuple[Part, ...], listed_bytes: int) -> tuple[Part, ...]:
    """The defined parts without those unplugged since, and with those plugged since, which are alike.

    Where no part has the missing size, RAM is one part of the remaining size.
    """
    ram = [part for part in parts if part.use is Use.RAM]
    others = [part for part in parts if part.use is not Use.RAM]
    now = listed_bytes - storage_bytes(parts)
    kinds = {part.backing for part in ram}
    backing = kinds.pop() if len(kinds) == 1 else None
    plugged = now - sum(part.size_bytes for part in ram)
    if plugged > 0 and ram:
        return (*ram, Part(size_bytes=plugged, backing=backing), *others)
    gone = next((part for part in reversed(ram) if part.size_bytes == -plugged), None)
    if gone is not None:
        ram.remove(gone)
        return (*ram, *others)
    return (*ram, *others) if ram and not plugged else (Part(size_bytes=now, backing=backing), *others)


def read_memory(
    kernel: Kernel, pid: int, definition: Definition, cgroup: CgroupMemory | None, gaps: list[Gap]
) -> tuple[MemoryFacts, Residency | None]:
    """The blocks of a domain's memory, and its residency. smaps is read once for both."""
    mappings = attempt_or_gap(gaps, "guest RAM", lambda: _mappings(kernel, pid))
    found: Found | None = None
    process: tuple[Range, ...] = ()
    pinned = None
    if mappings is not None:
        found = attempt_or_gap(gaps, "guest RAM", lambda: _find(kernel, pid, mappings, definition))
        pinned = attempt_or_gap(
            gaps, "locked memory", lambda: read_pinned(kernel, pid, locked_bytes(mappings))
        )
        if found == NOTHING_FOUND:
            gaps.append(Gap(what="guest RAM", why="it cannot be told apart from the rest of QEMU's memory"))
        if found is None or found == NOTHING_FOUND:
            mounts, devices = _file_systems(kernel, pid), _block_devices(kernel)
            process = (
                attempt_or_gap(gaps, "QEMU's memory", lambda: process_memory(mappings, mounts, devices)) or ()
            )
    found = found or NOTHING_FOUND
    if found.unknown_flags:
        flags = ", ".join(sorted(found.unknown_flags))
        gaps.append(Gap(what="memory flags", why=f"the kernel marks guest RAM with unknown flags: {flags}"))
    opened = attempt_or_gap(gaps, "open files", lambda: read_open(kernel, pid))
    others = cgroup.others if cgroup is not None else ()
    facts = MemoryFacts(
        blocks=found.blocks,
        process=process,
        holders=(*(opened or ()), *(pinned or ())),
        companions=tuple(read_companions(kernel, others)),
    )
    if not facts.blocks and not facts.process:
        return facts, None
    if facts.process:
        return facts, attempt_or_gap(gaps, "residency", lambda: kernel.residency(pid, facts.process))
    return facts, attempt_or_gap(
        gaps, "residency", lambda: residency_of(kernel, pid, facts.blocks, mappings or ())
    )


def _mappings(kernel: Kernel, pid: int) -> tuple[Mapping, ...]:
    return tuple(parse_smaps(kernel.read(f"/proc/{pid}/smaps")))


def _find(kernel: Kernel, pid: int, mappings: Sequence[Mapping], definition: Definition) -> Found:
    parts = definition.parts or (Part(size_bytes=definition.maximum_bytes),)
    return find_blocks(mappings, parts, _file_systems(kernel, pid), _block_devices(kernel))


def _block_devices(kernel: Kernel) -> IsBlockDevice:
    """Whether a path is a block device, by the names in sysfs, where a slash is an exclamation mark."""

    def known(path: str) -> bool:
        return kernel.exists(f"{DEVICES}/{path.removeprefix('/dev/').replace('/', '!')}")

    return known


def _file_systems(kernel: Kernel, pid: int) -> FileSystemOf:
    """The file systems that a process sees, read at the first call."""
    mounts = functools.cache(functools.partial(read_file_systems, kernel, pid))
    return lambda device: mounts().get(device)
