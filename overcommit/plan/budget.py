"""The account of the host's memory, and the worst case. No figure is negative."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from overcommit.model.accounts import CgroupLimit, kept_share
from overcommit.model.budget import HostBudget, WorstCase
from overcommit.model.facts import DomainFacts, HostFacts, Snapshot
from overcommit.model.policy import Policy
from overcommit.model.swap import SwapKind
from overcommit.plan.worst_case import Sink, worst_case
from overcommit.units import format_size

OVERHEAD = "overhead"
"""The beginning of the sentence that names domains whose overhead is not known."""
_FEW = 3
"""The most domains that one sentence names."""


def make_budget(snapshot: Snapshot, policy: Policy) -> HostBudget:
    """The account of all memory of a host. ``rests_on`` names assumptions.

    The figures were not read at one instant. If their sum exceeds the total, free memory and guests' memory
    are taken as read.
    """
    host, domains = snapshot.host, snapshot.domains
    huge = min(host.huge_pages.total_bytes if host.huge_pages else 0, host.total_bytes)
    ordinary = host.total_bytes - huge
    room = room_of(host, domains)
    free = room.free_bytes
    guests = min(sum(d.held_bytes for d in domains) - _saved(host, domains), ordinary - free)
    overhead = min(sum(d.overhead_bytes or 0 for d in domains), ordinary - free - guests)
    worst = worst_case(
        snapshot,
        policy,
        available=room.available_bytes,
        saved=_saved(host, domains),
        sinks=_sinks(host, policy, sum(d.residency.swapped_bytes for d in domains if d.residency)),
    )
    unknown = tuple(_unknown(host, domains))
    return HostBudget(
        total_bytes=host.total_bytes,
        huge_pages_bytes=huge,
        guests_bytes=guests,
        overhead_bytes=overhead,
        others_bytes=ordinary - free - guests - overhead,
        free_bytes=free,
        arc_bytes=room.arc_bytes,
        available_bytes=room.available_bytes,
        free_now_bytes=room.free_now_bytes,
        limit=room.limit,
        promised_bytes=sum(d.promised_bytes for d in domains) + overhead,
        worst_case=dataclasses.replace(worst, rests_on=(*_behind(worst, room, host), *unknown)),
        rests_on=(*_compression(host), *unknown),
    )


class Room(NamedTuple):
    """The host's memory that is free, or can be freed without taking any from a guest.

    ``arc_bytes`` of ``free_bytes`` are in ZFS's cache. Guests can get ``available_bytes``, because ``limit``
    allows no more, and ``free_now_bytes`` of that without waiting for ZFS.
    """

    free_bytes: int
    arc_bytes: int
    available_bytes: int
    free_now_bytes: int
    limit: str | None


def room_of(host: HostFacts, domains: Iterable[DomainFacts]) -> Room:
    """The host's free and available memory. No other function computes it."""
    huge = min(host.huge_pages.total_bytes if host.huge_pages else 0, host.total_bytes)
    now = min(host.mem_available_bytes, host.total_bytes - huge)
    arc = min(host.arc.reclaimable_bytes if host.arc else 0, host.total_bytes - huge - now)
    limit = shared_limit(domains)
    binding = limit if limit and limit.room_bytes < now + arc else None
    most = binding.room_bytes if binding else now + arc
    return Room(
        free_bytes=now + arc,
        arc_bytes=arc,
        available_bytes=most,
        free_now_bytes=min(now, most),
        limit=f"{binding.path} ({binding.file} {format_size(binding.limit_bytes)})" if binding else None,
    )


def budget_notes(budget: HostBudget, host: HostFacts, policy: Policy) -> Iterator[str]:
    """Sentences for the operator to read before anything is done."""
    if budget.promised_bytes > policy.max_overcommit * budget.ordinary_bytes:
        yield (
            f"promised {format_size(budget.promised_bytes)} is more than max_overcommit allows: "
            f"{policy.max_overcommit:g} x {format_size(budget.ordinary_bytes)}"
        )
    worst = budget.worst_case
    if worst.nowhere_bytes:
        where = "no room" if worst.bounds else "no room in memory or in the swap that the policy allows"
        yield (
            f"if every guest wanted all its memory now, {format_size(worst.nowhere_bytes)} would find "
            + "; ".join((where, *worst.bounds))
        )
    exposed = [area.path for area in host.swap if area.exposed]
    if exposed:
        yield f"what is paged out to {', '.join(exposed)} is readable on the disk: the disk is not encrypted"


def zfs_text(budget: HostBudget) -> str:
    """A text to append wherever available memory is shown; empty where all of it is free now."""
    later = budget.available_bytes - budget.free_now_bytes
    return f" (ZFS must give back {format_size(later)})" if later else ""


def shared_limit(domains: Iterable[DomainFacts]) -> CgroupLimit | None:
    """The limit with the least room among slices that hold all domains; None: there is no such limit."""
    of_each = [
        {limit.path: limit for limit in domain.limits if not limit.own}
        for domain in domains
        if domain.limits is not None
    ]
    if not of_each:
        return None
    common = [limit for path, limit in of_each[0].items() if all(path in limits for limits in of_each)]
    return min(common, key=lambda limit: limit.room_bytes, default=None)


def _saved(host: HostFacts, domains: Iterable[DomainFacts]) -> int:
    """The bytes that KSM saves in guests' memory. A guest that writes to a merged page gets a copy."""
    return min(host.ksm.sharing_bytes, sum(d.held_bytes for d in domains)) if host.ksm else 0


def _sinks(host: HostFacts, policy: Policy, swapped: int) -> Iterator[Sink]:
    """The room in swap that the policy allows, most expensive first.

    What guests have in swap makes room when it comes back, without cost. After that comes zram, or a disk
    with zswap before it, by priority. A disk takes no memory.
    """
    allowed = round(policy.swap.max_used * host.swap_total_bytes)
    swapped = min(swapped, host.swap_used_bytes)
    room = max(0, allowed - host.swap_used_bytes + swapped)
    exchanged = min(room, swapped)
    yield Sink(exchanged, 0.0)
    room -= exchanged
    zram = min(room, sum(a.size_bytes - a.used_bytes for a in host.swap if a.kind is SwapKind.ZRAM))
    yield Sink(zram, kept_share(host.zram))
    disk = room - zram
    if host.zswap is not None and host.zswap.enabled:
        pool = max(0, round(host.zswap.most * host.total_bytes) - host.zswap.pool.used_bytes)
        kept = kept_share(host.zswap.pool)
        compressed = min(disk, int(pool / kept))
        yield Sink(compressed, kept)
        disk -= compressed
    yield Sink(disk, 0.0)


def _behind(worst: WorstCase, room: Room, host: HostFacts) -> Iterator[str]:
    """Sentences on assumptions: ZFS frees memory only when the kernel asks, and a compression ratio."""
    if worst.memory_bytes > room.free_now_bytes:
        yield f"ZFS must give back {format_size(worst.memory_bytes - room.free_now_bytes)}"
    if worst.wanted_bytes > worst.memory_bytes:
        yield from _compression(host)


def _unknown(host: HostFacts, domains: Sequence[DomainFacts]) -> Iterator[str]:
    if host.huge_pages is None:
        yield "huge pages unknown"
    unknown = {
        "memory": [d for d in domains if d.residency is None],
        OVERHEAD: [d for d in domains if d.overhead_bytes is None],
        "cgroup limits": [d for d in domains if d.limits is None],
    }
    for what, of in unknown.items():
        if of:
            whose = sorted(d.name for d in of) if len(of) <= _FEW else [f"{len(of)} domains"]
            yield f"{what} of {', '.join(whose)} unknown"


def _compression(host: HostFacts) -> Iterator[str]:
    compressed = [("zram", host.zram)] if any(a.kind is SwapKind.ZRAM for a in host.swap) else []
    if host.zswap is not None and host.zswap.enabled:
        compressed.append(("zswap", host.zswap.pool))
    for name, pool in compressed:
        how = "measured" if pool is not None and pool.tells else "assumed"
        yield f"{name} at {1 / kept_share(pool):.1f}:1, {how}"
