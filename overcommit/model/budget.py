"""Where a host's memory is, and what happens if every guest wants all that it was promised. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """Every guest wants all its promised memory now.

    ``wanted_bytes`` are not in memory, or merged with what others hold; they are the sum of three parts: what
    memory has, what paging others out makes room for, and what finds room nowhere. For the second,
    ``pushed_bytes`` go to swap, more than they make room for where swap is compressed memory; at the policy's
    ``max_write_bytes_per_second`` that takes ``seconds``. What the host itself may want is not foreseen.
    ``rests_on`` says what these figures rest on without its being measured, or being there yet; ``bounds``
    what keeps which guests from room that the host has.
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
    """Who has the host's memory.

    ``total_bytes`` are the sum of ``huge_pages_bytes``, of what guests hold (those on huge pages aside), of
    QEMU's ``overhead_bytes``, of ``others_bytes`` (other processes and the kernel) and of ``free_bytes``,
    which are free, or to be had for the asking: ``arc_bytes`` of them ZFS would have to give back first.
    Guests can get ``available_bytes`` of those; ``limit`` names the slice that gives them no more, if any.
    ``free_now_bytes`` of that are free at this moment, and only those can be promised to anybody.
    ``promised_bytes`` has what guests on ordinary memory may hold, and QEMU's overhead. ``rests_on`` names
    what was not measured, whatever rests on it.
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
        """All memory but huge pages."""
        return self.total_bytes - self.huge_pages_bytes

    @property
    def overcommit_ratio(self) -> float | None:
        """Promised to ordinary memory; None where huge pages take everything."""
        return self.promised_bytes / self.ordinary_bytes if self.ordinary_bytes else None
