"""What a fake guest does by itself as time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overcommit.units import MIB, PAGE_SIZE

if TYPE_CHECKING:
    from overcommit.testing.fake_host import FakeGuest


def boot(guest: FakeGuest, seconds: float) -> None:
    """Boot, with an empty balloon."""
    guest.booting_seconds -= seconds
    if guest.booting_seconds <= 0:
        guest.balloon_bytes = guest.memory_bytes - guest.device_bytes
        guest.report()


def report_free(guest: FakeGuest) -> None:
    """Report free chunks. They stay free in the guest, like chunks that it never used."""
    if not guest.free_page_reporting or guest.paused:
        return
    if guest.agent and guest.agent.compacted:
        guest.scattered.clear()
        guest.agent.compacted = False
    given = (guest.free & guest.resident) - guest.scattered
    guest.resident -= given
    guest.free -= given


def read_files(guest: FakeGuest, seconds: float) -> None:
    """Read files when it is time. They are cached in free chunks, otherwise in place of the oldest."""
    if guest.files is None or guest.paused:
        return

    def place() -> int | None:
        if guest.free:
            return guest.free.pop()
        absent = guest.plugged_chunks - guest.resident - guest.swapped
        left = len(absent) - (guest.ram.size - guest.balloon_bytes) // MIB
        return min(absent) if left > 0 else None

    def use(chunk: int) -> None:
        if chunk in guest.swapped:
            guest.swapped.discard(chunk)
            guest.major_faults += 1
            guest.promoted_pages += MIB // PAGE_SIZE
        guest.resident.add(chunk)

    guest.files.pass_time(seconds, place, use)


def touch(guest: FakeGuest) -> int:
    """Access hot chunks. Returns the bytes that came back from swap."""
    if guest.paused:
        return 0
    back = guest.hot & guest.swapped
    guest.major_faults += len(back)
    return come_back(guest, back)


def come_back(guest: FakeGuest, chunks: set[int]) -> int:
    """Read chunks back from swap. Returns their bytes."""
    guest.swapped -= chunks
    guest.resident |= chunks
    guest.promoted_pages += len(chunks) * MIB // PAGE_SIZE
    return len(chunks) * MIB
