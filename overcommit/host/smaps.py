"""The mappings of a process, from ``/proc/PID/smaps`` (Documentation/filesystems/proc.rst).

For that file the kernel walks all page tables of the process, so it is read only once per snapshot. QEMU has
hundreds of mappings, of which few are large or marked. Figures are parsed for those only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from overcommit.errors import Unreadable
from overcommit.host.figures import excerpt
from overcommit.model.ranges import Range
from overcommit.units import KIB

_HEADER = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16}) \S+ \S+ (\S+) \d+\s*(.*)")
_FIGURE = re.compile(r"[ \t]*([0-9]{1,17}) kB")
_FLAGS = "\nVmFlags:"
_ADDRESS = re.compile(r"[0-9a-fA-F]{5,}")
DELETED = " (deleted)"

_KNOWN = """rd wr ex sh mr mw me ms gd gu pf dw lo lf io sr rr dc de ac nr ht sf nl ar wf dd dp bt sd mm hg nh
mg um uw ui mt ss sl mp"""
KNOWN_FLAGS = frozenset(_KNOWN.split())
"""The flags that the kernel writes in VmFlags (fs/proc/task_mmu.c, show_smap_vma_flags)."""


class Mapping(NamedTuple):
    """One mapping.

    ``device`` is the number of its file system, 00:00 for none. ``path`` is the file's name.
    """

    span: Range
    device: str
    path: str
    flags: frozenset[str]
    figures: str

    def figure(self, name: str) -> int:
        """One of its figures in bytes; 0 where the kernel has no such line.

        Raises:
            Unreadable: the figure is not a number.
        """
        _, found, rest = self.figures.partition(f"\n{name}:")
        if not found:
            return 0
        match = _FIGURE.match(rest)
        if match is None:
            raise Unreadable(f"smaps has no figure behind {name}: {excerpt(rest)}")
        return int(match[1]) * KIB

    @property
    def of_device(self) -> bool:
        """Whether it is memory of a device, such as a mapped BAR, and not RAM.

        The kernel marks mappings without pages of their own (VM_IO, VM_PFNMAP). QEMU marks mapped device
        memory MADV_DONTFORK, as it does guest RAM (system/physmem.c, ram_block_add).
        """
        return not self.flags.isdisjoint({"io", "pf"}) or self.path.startswith("anon_inode:")

    @property
    def file(self) -> str:
        """The file's name without the kernel's mark of a removed file."""
        return self.path.removesuffix(DELETED)


def parse_smaps(text: str) -> Iterator[Mapping]:
    """The mappings, by address.

    Raises:
        Unreadable: the first line of a mapping is malformed.
    """
    first, *others = text.split(_FLAGS)
    if not others and first.strip():
        raise Unreadable("smaps has no VmFlags")
    mapping = first
    for part in others:  # the flags of one mapping, and then the next one up to its flags
        flags, _, following = part.partition("\n")
        header, _, figures = mapping.partition("\n")
        match = _HEADER.match(header)
        if match is None:
            # A gap's reason is public, and QEMU's addresses must not be.
            shown = excerpt(_ADDRESS.sub("?", header))
            raise Unreadable(f"a mapping in smaps begins with {shown}")
        yield Mapping(
            span=Range(int(match[1], 16), int(match[2], 16)),
            device=match[3],
            path=match[4],
            flags=frozenset(flags.split()),
            figures=f"\n{figures}",
        )
        mapping = following
