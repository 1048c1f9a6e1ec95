"""Where a host's memory is, and what happens if every guest wants all that it was promised. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """What happens if every guest wants all its promised memory now.

    ``wanted_bytes`` are neither in memory nor exclusive to the guest (merged pages). They are the sum of
    three parts: ``memory_bytes`` fit into memory, ``swap_bytes`` fit after others are paged out,
    ``nowhere_bytes`` have no place. For the second part ``pushed_bytes`` go to swap; where swap is compressed
    memory, that is more than the room it makes. At the policy's ``max_write_bytes_per_second`` this takes
    ``seconds``. Growth of the host's own memory is not counted. ``rests_on`` names assumptions behind the
    figures that are not measured. ``bounds`` names limits that keep guests from room that the host has.
    """

    wanted_bytes: int
    memory_bytes: int
    swap_bytes: int
    nowhere_bytes: int
    pushed_bytes: int
    max_write_bytes_per_second: int
    seconds: float
    rests_on: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBudget:
    """Who has the host's memory. All figures are bytes.

    ``total_bytes`` is the sum of ``huge_pages_bytes``, ``guests_bytes`` (guests on huge pages aside), QEMU's
    ``overhead_bytes``, ``others_bytes`` (other processes and the kernel) and ``free_bytes`` (free, or freed
    on demand; ``arc_bytes`` of it has to be freed by ZFS first). Guests can get ``available_bytes`` of the
    free memory; ``limit`` names the slice that restricts it, if any. ``free_now_bytes`` of that are free now,
    and only those can be reserved. ``promised_bytes`` is what guests on ordinary memory may hold, plus QEMU's
    overhead. ``rests_on`` names assumptions that are not measured.
    """

    total_bytes: int
    huge_pages_bytes: int
    guests_bytes: int
    overhead_bytes: int
    others_bytes: int
    free_bytes: int
    available_bytes: int
    limit: str | None
    promised_bytes: int
    worst_case: WorstCase
    rests_on: tuple[str, ...]
    arc_bytes: int = 0
    free_now_bytes: int = 0

    @property
    def ordinary_bytes(self) -> int:
        """All memory except huge pages."""
        return self.total_bytes - self.huge_pages_bytes

    @property
    def overcommit_ratio(self) -> float | None:
        """Promised memory divided by ordinary memory; None where huge pages take all memory."""
        return self.promised_bytes / self.ordinary_bytes if self.ordinary_bytes else None
