"""Finding guest RAM in QEMU's address space, on shortened but otherwise real smaps."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from overcommit.errors import Unreadable
from overcommit.host.guest_ram import find_blocks
from overcommit.host.mounts import FileSystem
from overcommit.host.smaps import parse_smaps
from overcommit.model.blocks import Block, Part
from overcommit.model.ranges import Range
from overcommit.units import GIB, KIB, MIB

BASE = 0x7F5E_0000_0000
ANONYMOUS = "00000000 00:00 0"
GUEST_FLAGS = "rd wr mr mw me dc ac sd hg mg"
OWN_FLAGS = "rd wr mr mw me ac sd"


class Vma(NamedTuple):
    start: int
    size: int
    flags: str
    backing: str = ANONYMOUS


def smaps(*vmas: Vma) -> str:
    return "".join(
        f"{v.start:x}-{v.start + v.size:x} rw-p {v.backing}\n"
        f"Size: {v.size // KIB:>14} kB\nKernelPageSize:        4 kB\nRss: {v.size // KIB:>15} kB\n"
        f"THPeligible:           1\nVmFlags: {v.flags} \n"
        for v in sorted(vmas)
    )


def blocks(text: str, *sizes: int) -> tuple[Block, ...]:
    disk = FileSystem("ext4", dax=False)
    parts = [Part(size_bytes=size) for size in sizes]
    return find_blocks(parse_smaps(text), parts, {"fd:00": disk}.get).blocks


def find_guest_ram(text: str, *sizes: int) -> tuple[Range, ...]:
    return tuple(block.span for block in blocks(text, *sizes))


# What lies around guest RAM: QEMU's heap and stack, its video RAM and ROMs.
AROUND = (
    Vma(0x5581_0000_0000, 48 * MIB, OWN_FLAGS, "00000000 00:00 0                          [heap]"),
    Vma(
        0x5580_0000_0000,
        9 * MIB,
        "rd ex mr mw me sd",
        "00000000 fe:01 1835151    /usr/bin/qemu-system-x86_64",
    ),
    Vma(BASE - 64 * MIB, 16 * MIB, GUEST_FLAGS),
    Vma(BASE - 32 * MIB, 256 * KIB, GUEST_FLAGS),
    Vma(0x7FFC_0000_0000, MIB, "rd wr mr mw me gd ac", "00000000 00:00 0                          [stack]"),
)


@pytest.mark.parametrize(
    "backing",
    [
        ANONYMOUS,
        "00000000 00:00 0                          [anon:guest]",
        "00000000 00:01 2070                       /memfd:pc.ram (deleted)",
        "00000000 00:1a 31337                      /dev/hugepages/libvirt/qemu/3-web/pc.ram (deleted)",
        "00000000 fd:00 99   /var/lib/libvirt/qemu/ram/3-a b/pc.ram",
    ],
    ids=["anonymous", "named", "memfd", "hugetlbfs", "file with a space"],
)
def test_whatever_backs_it(backing: str) -> None:
    flags = f"{GUEST_FLAGS} ht" if "hugepages" in backing else GUEST_FLAGS
    text = smaps(*AROUND, Vma(BASE, 2 * GIB, flags, backing))
    assert find_guest_ram(text, 2 * GIB) == (Range(BASE, BASE + 2 * GIB),)


def test_memory_split_by_advice_is_one_range_again() -> None:
    """Madvise with another flag splits a VMA; DAMON wants as few ranges as can be."""
    parts = (
        Vma(BASE, GIB, GUEST_FLAGS),
        Vma(BASE + GIB, 512 * MIB, GUEST_FLAGS.replace("hg", "nh")),
        Vma(BASE + GIB + 512 * MIB, 512 * MIB, GUEST_FLAGS),
    )
    assert find_guest_ram(smaps(*AROUND, *parts), 2 * GIB) == (Range(BASE, BASE + 2 * GIB),)


def test_a_small_part_of_split_memory_is_not_mistaken_for_less_than_video_ram() -> None:
    """The 16 MiB of video RAM are larger than the 8 MiB part, but are not the guest's."""
    parts = (Vma(BASE, GIB - 8 * MIB, GUEST_FLAGS), Vma(BASE + GIB - 8 * MIB, 8 * MIB, GUEST_FLAGS + " um"))
    assert find_guest_ram(smaps(*AROUND, *parts), GIB) == (Range(BASE, BASE + GIB),)


def test_numa_nodes_and_dimms_are_all_found() -> None:
    nodes = (
        Vma(BASE, GIB, GUEST_FLAGS),
        Vma(BASE + 8 * GIB, GIB, GUEST_FLAGS),
        Vma(BASE + 16 * GIB, GIB, GUEST_FLAGS),
    )
    assert find_guest_ram(smaps(*AROUND, *nodes), 3 * GIB) == tuple(
        Range(n.start, n.start + GIB) for n in nodes
    )


def test_a_virtio_mem_device_is_a_block_of_its_own_at_its_full_size() -> None:
    """As QEMU maps it: without swap reserved for it, a guard page away; what is unplugged is not resident."""
    device = Vma(BASE - 514 * MIB, 512 * MIB, GUEST_FLAGS.replace("ac", "nr"))
    text = smaps(*AROUND, device, Vma(BASE, GIB, GUEST_FLAGS))
    assert find_guest_ram(text, GIB + 512 * MIB) == (
        Range(device.start, device.start + 512 * MIB),
        Range(BASE, BASE + GIB),
    )


def test_qemus_own_memory_is_never_taken_however_large() -> None:
    cache = Vma(BASE + 64 * GIB, 4 * GIB, OWN_FLAGS)
    assert find_guest_ram(smaps(*AROUND, cache, Vma(BASE, GIB, GUEST_FLAGS)), GIB) == (
        Range(BASE, BASE + GIB),
    )


@pytest.mark.parametrize(
    "text",
    ["", smaps(*AROUND), smaps(*AROUND, Vma(BASE, GIB, GUEST_FLAGS)), smaps(Vma(BASE, 2 * GIB, OWN_FLAGS))],
    ids=["empty", "no guest RAM", "too little of it", "not marked: TCG, or another program"],
)
def test_what_cannot_be_told_is_not_guessed(text: str) -> None:
    assert find_guest_ram(text, 2 * GIB) == ()


def test_a_file_of_any_name_ends_no_mapping() -> None:
    text = smaps(
        *AROUND, Vma(BASE, 2 * GIB, GUEST_FLAGS), Vma(BASE + 8 * GIB, MIB, OWN_FLAGS, "0 fd:00 9 /VmFlags: x")
    )
    assert find_guest_ram(text, 2 * GIB) == (Range(BASE, BASE + 2 * GIB),)


def test_a_mapping_of_another_shape_is_named_without_its_addresses() -> None:
    text = smaps(Vma(BASE, 2 * GIB, GUEST_FLAGS)).replace("-", "..", 1)
    with pytest.raises(Unreadable, match="a mapping in smaps begins with") as caught:
        find_guest_ram(text, 2 * GIB)
    assert f"{BASE:x}" not in str(caught.value)
    assert f"{BASE + 2 * GIB:x}" not in str(caught.value)
