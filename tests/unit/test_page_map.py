"""What of a process lies in memory and what in swap, as its page map has it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from array import array
from collections.abc import Callable, Iterator

import pytest

from overcommit.host.kernel import Advice, LocalKernel
from overcommit.model.facts import Residency
from overcommit.model.ranges import Range
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeKernel
from overcommit.units import MIB, PAGE_SIZE

START = 0x7F00_0000_0000
RAM = (Range(START, START + 8 * PAGE_SIZE),)
PRESENT, SWAPPED, ZERO = 1 << 3, 1 << 4, 1 << 5
KINDS = [PRESENT, SWAPPED, SWAPPED, 0, PRESENT, PRESENT, SWAPPED, 0]
"""Of eight pages."""


def pages(first: int, count: int) -> Range:
    return Range(START + first * PAGE_SIZE, START + (first + count) * PAGE_SIZE)


def scan(_descriptor: int, _request: int, argument: bytearray) -> int:
    """What PAGEMAP_SCAN finds, page by page; it goes no further than the first six at once."""
    fields = list(struct.unpack("=12Q", argument))
    low, vector, wanted = fields[2], fields[5], fields[10]
    found = [
        (START + page * PAGE_SIZE, START + (page + 1) * PAGE_SIZE, kinds)
        for page, kinds in list(enumerate(KINDS))[(low - START) // PAGE_SIZE :][:6]
        if kinds & wanted
    ]
    data = b"".join(struct.pack("=3Q", *region) for region in found)
    ctypes.memmove(vector, data, len(data))
    fields[4] = min(low + 6 * PAGE_SIZE, RAM[0].end)
    argument[:] = struct.pack("=12Q", *fields)
    return len(found)


def no_scan(*_: object) -> int:
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


def entries(_descriptor: int, size: int, offset: int) -> bytes:
    words = {PRESENT: 1 << 63 | 77, SWAPPED: 1 << 62 | 5, 0: 0}
    first = offset // 8 - START // PAGE_SIZE
    return array("Q", [words[kinds] for kinds in KINDS[first : first + size // 8]]).tobytes()


@pytest.mark.parametrize("ioctl", [scan, no_scan], ids=["scanned", "page by page"])
def test_it_tells_memory_from_swap_and_where_each_is(
    monkeypatch: pytest.MonkeyPatch, ioctl: Callable[..., int]
) -> None:
    monkeypatch.setattr("overcommit.host.kernel.fcntl.ioctl", ioctl)
    monkeypatch.setattr("overcommit.host.kernel.os.pread", entries)
    kernel = LocalKernel()
    assert kernel.residency(os.getpid(), RAM) == Residency(
        resident=(pages(0, 1), pages(4, 2)), swapped_bytes=3 * PAGE_SIZE
    )
    assert kernel.swapped(os.getpid(), RAM) == (pages(1, 2), pages(6, 1))
    assert kernel.swapped(os.getpid(), ()) == ()


def test_the_page_of_zeroes_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "KINDS", [PRESENT | ZERO, PRESENT])
    monkeypatch.setattr("overcommit.host.kernel.fcntl.ioctl", scan)
    assert LocalKernel().residency(os.getpid(), RAM).resident == (pages(1, 1),)


@pytest.fixture
def memory() -> Iterator[tuple[mmap.mmap, Range]]:
    """Eight pages of this process, of which none was touched."""
    area = mmap.mmap(-1, 8 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    anchor = ctypes.c_char.from_buffer(area)
    start = ctypes.addressof(anchor)
    yield area, Range(start, start + 8 * PAGE_SIZE)
    del anchor
    area.close()


def test_this_process_has_in_memory_what_it_touched(memory: tuple[mmap.mmap, Range]) -> None:
    area, ram = memory
    kernel = LocalKernel()
    assert kernel.residency(os.getpid(), (ram,)).resident == ()
    area[2 * PAGE_SIZE] = area[3 * PAGE_SIZE] = 1
    touched = Range(ram.start + 2 * PAGE_SIZE, ram.start + 4 * PAGE_SIZE)
    assert kernel.residency(os.getpid(), (ram,)) == Residency(resident=(touched,), swapped_bytes=0)
    assert kernel.swapped(os.getpid(), (ram,)) == ()


def test_what_is_read_ahead_takes_memory_and_is_not_waited_for() -> None:
    """Of the fake: to the page map it is in swap until the guest touches it."""
    guest = FakeGuest(name="web", uuid="u", pid=7, memory_bytes=8 * MIB, resident={0}, swapped={1, 2, 3})
    host = FakeHost([guest], swap_device="vdb")
    kernel, available = FakeKernel(host), host.available_bytes
    swapped = (Range(guest.base + MIB, guest.base + 4 * MIB),)
    assert kernel.swapped(7, (guest.ram,)) == swapped
    kernel.advise(7, guest.start_time, (Range(guest.base, guest.base + 3 * MIB),), Advice.WILLNEED)
    assert kernel.swapped(7, (guest.ram,)) == swapped
    assert available - host.available_bytes == 2 * MIB
    assert guest.promoted_pages == 2 * MIB // PAGE_SIZE
    guest.hot = {1, 2, 3}
    FakeClock(host).wait(1.0)
    assert kernel.swapped(7, (guest.ram,)) == ()
    assert (guest.major_faults, guest.promoted_pages) == (1, 3 * MIB // PAGE_SIZE)
    assert (available - host.available_bytes, guest.read_ahead) == (3 * MIB, set())
