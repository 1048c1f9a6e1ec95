"""Where guest RAM lies after memory was plugged or unplugged, while a watch goes on."""

from __future__ import annotations

import pytest

from overcommit.model.blocks import Backing, Part
from overcommit.model.facts import Definition
from overcommit.model.ranges import Range
from overcommit.observe.memory import locate_ram
from overcommit.units import GIB
from tests.unit.conftest import FileKernel
from tests.unit.test_guest_ram import GUEST_FLAGS, Vma, smaps

SHARED_FLAGS = f"{GUEST_FLAGS} sh"
MEMFD = "00000000 00:01 2070                       /memfd:pc.ram (deleted)"
HOT = "00000000 00:01 2071                       /memfd:memdimm{} (deleted)"
RAM = Vma(0x7F00_0000_0000, 4 * GIB, SHARED_FLAGS, MEMFD)
DIMMS = [Vma(0x7F40_0000_0000 + n * 8 * GIB, GIB, SHARED_FLAGS, HOT.format(n)) for n in (0, 1)]


def cells(*sizes: int, backing: Backing = Backing.SHMEM) -> tuple[Part, ...]:
    return tuple(Part(size_bytes=size, backing=backing) for size in sizes)


def dimm(number: int) -> Part:
    return Part(size_bytes=GIB, backing=Backing.SHMEM, names=(f"memdimm{number}",))


def located(listed: int, parts: tuple[Part, ...], *vmas: Vma) -> list[Vma]:
    """The mappings that were found to be guest RAM, of a guest that has ``listed`` bytes now."""
    definition = Definition(maximum_bytes=sum(p.size_bytes for p in parts), balloon_model="none", parts=parts)
    kernel = FileKernel({"/proc/7/smaps": smaps(*vmas), "/proc/7/mountinfo": ""})
    found = locate_ram(kernel, 7, definition, listed)
    by_span = {Range(vma.start, vma.start + vma.size): vma for vma in vmas}
    return [by_span[span] for span in found]


def anonymous(size: int) -> Vma:
    """Memory of some device of QEMU's, marked as guest RAM is, below it in the address space."""
    return Vma(0x7E00_0000_0000, size, GUEST_FLAGS)


@pytest.mark.parametrize("other", [4 * GIB, 5 * GIB, 6 * GIB])
def test_what_has_the_size_of_ram_or_of_all_of_it_is_not_taken_for_the_memfd(other: int) -> None:
    """A gigabyte was plugged: nothing has the size of all of RAM any more, but a device may."""
    found = located(5 * GIB, cells(4 * GIB), anonymous(other), RAM, DIMMS[0])
    assert found == [RAM, DIMMS[0]]


@pytest.mark.parametrize("left", [0, 1])
def test_of_what_was_unplugged_only_the_rest_is_left(left: int) -> None:
    parts = (*cells(4 * GIB), dimm(0), dimm(1))
    assert located(5 * GIB, parts, anonymous(5 * GIB), RAM, DIMMS[left]) == [RAM, DIMMS[left]]


def test_several_that_were_plugged_at_once_are_found() -> None:
    assert located(6 * GIB, cells(4 * GIB), anonymous(6 * GIB), RAM, *DIMMS) == [RAM, *DIMMS]


def test_what_was_unplugged_of_memory_that_nobody_knows_leaves_the_largest() -> None:
    """Half of what there was is gone: which half, the definition does not tell."""
    assert located(3 * GIB, cells(4 * GIB, GIB), RAM._replace(size=3 * GIB)) == [RAM._replace(size=3 * GIB)]


def test_what_qemu_does_not_have_yet_is_not_to_be_told() -> None:
    assert located(9 * GIB, cells(4 * GIB), RAM) == []
