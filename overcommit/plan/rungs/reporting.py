"""Free page reporting: memory that is free in the guest, but still resident.

Needs help inside of the guest.
"""

from __future__ import annotations

from collections.abc import Iterator

from overcommit.model.action import GuestReclaimAction, ReportingAction
from overcommit.model.facts import BalloonStats, DomainFacts
from overcommit.plan.case import Case, free_bytes, guest_bytes, worthwhile
from overcommit.units import MIB, format_duration, format_size

_TAINT = "libvirt marks the domain as tainted (custom-ga-command)"


def held_free(domain: DomainFacts) -> int:
    """Free memory of the guest that is resident, a lower bound: resident memory beyond the guest's use."""
    if domain.balloon is None or domain.residency is None:
        return 0
    definition, stats = domain.definition, domain.balloon
    used = guest_bytes(definition, stats) - free_bytes(definition, stats)
    return max(0, domain.residency.resident_bytes - used)


def left_in_pieces(ceiling_bytes: int) -> int:
    """Free memory that stays resident after a compaction: a sixteenth of the guest, at least 32 MiB.

    The guest kernel's own pages cannot be moved, and free memory around them stays in pieces too small to
    report.
    """
    return max(32 * MIB, ceiling_bytes // 16)


def compact(case: Case, stats: BalloonStats, resident: int) -> ReportingAction | None:
    """The action that compacts the guest's free memory; None: the host would gain too little.

    Free page reporting reports whole blocks (2 MiB on x86) only. Memory that is free and still resident lies
    in smaller pieces, unless it became free in the last seconds.
    """
    held, bounds = held_free(case.domain), case.bounds
    free = free_bytes(case.domain.definition, stats)
    expected = min(held - left_in_pieces(bounds.ceiling_bytes), resident - bounds.floor_bytes)
    if expected < worthwhile(bounds.ceiling_bytes):
        return None
    return ReportingAction(
        id="",
        domain=case.domain.incarnation,
        before_bytes=resident,
        after_bytes=resident - expected,
        expected_bytes=expected,
        reason="free_in_pieces",
        because=f"{format_size(free)} is free in the guest; at least {format_size(held)} of that is "
        "still resident, in pieces too small for free page reporting; compaction joins all but about "
        f"{format_size(left_in_pieces(bounds.ceiling_bytes))}",
        risk="the guest's kernel moves memory, which costs CPU and briefly memory of the host; the floor "
        f"does not apply, because no memory in use is taken; {_TAINT}",
    )


def reclaim_inside(case: Case, resident: int) -> Iterator[GuestReclaimAction]:
    """Turn the guest's own DAMON_RECLAIM on, unless it is on."""
    agent, age = case.domain.agent, case.domain_class.cold_after_seconds
    if agent is None or agent.reclaims is not False:
        return
    yield GuestReclaimAction(
        id="",
        domain=case.domain.incarnation,
        before_bytes=resident,
        after_bytes=resident,
        expected_bytes=0,
        min_age_seconds=age,
        reason="owner_agreed",
        because=f"its class allows the guest's kernel to reclaim memory that is idle for "
        f"{format_duration(age)}; free page reporting gives it to the host",
        risk="the guest must read back what it reclaims and needs again; without swap it drops only cache; "
        f"{_TAINT}",
    )
