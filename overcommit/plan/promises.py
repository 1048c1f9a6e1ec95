"""Memory promised to somebody who has not taken it yet, and what can be promised at all. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.errors import Refused
from overcommit.model.facts import DomainFacts, HostFacts, Snapshot
from overcommit.model.past import Past, Reservation
from overcommit.model.plan import HostPlan
from overcommit.model.policy import Policy, ReclaimMode
from overcommit.plan.case import worthwhile
from overcommit.plan.limits import Rooms, memory_place
from overcommit.plan.nodes import free_on_nodes
from overcommit.units import format_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to be promised; ``purpose`` names the domain that it is for."""

    size_bytes: int
    purpose: str | None = None


class Standing(NamedTuple):
    """What is missing for a promise now; ``wanted`` is the part of it that is not taken already.

    ``refusal``: why it could not be kept whatever is freed.
    """

    missing_bytes: int
    wanted: Reservation
    refusal: Refused | None


def standing(wish: Wish, host: HostPlan, snapshot: Snapshot) -> Standing:
    """How a wish stands on a host; its ``reserved_bytes`` are what others were promised."""
    target = next((domain for domain in snapshot.domains if domain.name == wish.purpose), None)
    held = [d.residency.resident_bytes for d in snapshot.domains if d.name == wish.purpose and d.residency]
    size = max(0, wish.size_bytes - sum(held))
    wanted = Reservation(id=0, purpose=None, size_bytes=size, expires_at=math.inf)
    refusal = None
    try:
        require_below(wish.size_bytes, target, snapshot.host, size)
        require_possible(wish.size_bytes, lacking_bytes=size, host=host, others_bytes=host.reserved_bytes)
    except Refused as refused:
        refusal = refused
    denied, _ = missing_below(target, snapshot.host, size)
    short = dataclasses.replace(host, reserved_bytes=host.reserved_bytes + size).short_bytes
    return Standing(max(short, denied), wanted, refusal)


def more_than(missing_bytes: int) -> int:
    """What to aim at beyond what is missing.

    Compressed swap keeps a part of what is paged out, and what is cold comes in pieces.
    """
    return max(missing_bytes // 2, worthwhile(0)) if missing_bytes else 0


def aimed(policy: Policy, past: Past, wanted: Reservation | None) -> tuple[Policy, Past]:
    """Policy and past of a plan that is to free what somebody waits for: as if it were promised."""
    if wanted is None or policy.reclaim is ReclaimMode.OFF:
        return policy, past
    past = dataclasses.replace(past, reservations=(*past.reservations, wanted))
    return dataclasses.replace(policy, reclaim=ReclaimMode.ON_PRESSURE), past


def require_allowed(policy: Policy) -> None:
    """Return where the policy lets memory be freed for a promise.

    Raises:
        Refused: it says reclaim: off.
    """
    if policy.reclaim is ReclaimMode.OFF:
        raise Refused(
            f"the policy {policy.source} says reclaim: off, and nothing is reserved under that",
            hint="reclaim: on_pressure frees memory only when it is missing",
        )


def promised(reservations: Iterable[Reservation], domains: Iterable[DomainFacts], *, now: float) -> int:
    """Bytes that are promised at ``now`` (seconds since the epoch), and not taken yet."""
    held = {d.name: d.residency.resident_bytes for d in domains if d.residency}
    return sum(
        max(0, reservation.size_bytes - held.get(reservation.purpose or "", 0))
        for reservation in reservations
        if reservation.expires_at > now
    )


def missing_below(domain: DomainFacts | None, host: HostFacts, lacking_bytes: int) -> tuple[int, str]:
    """How much of ``lacking_bytes`` limits of cgroups and memory nodes deny to a domain that runs, and why.

    Nothing is known of one that does not run yet: it is bounded by what the host as a whole has.
    """
    if domain is None:
        return 0, ""
    place = memory_place(domain, host)
    room = Rooms([place], free_on_nodes(host)).room(place)
    if room is None or room.size_bytes >= lacking_bytes:
        return 0, ""
    return lacking_bytes - room.size_bytes, f"{domain.name} may hold no more ({room.why})"


def require_possible(size_bytes: int, *, lacking_bytes: int, host: HostPlan, others_bytes: int) -> None:
    """Refuse what would not be there if no guest had anything.

    ``lacking_bytes`` of ``size_bytes`` are not held by whom it is for; ``others_bytes`` are promised.

    Raises:
        Refused: the host does not have so much.
    """
    most = host.total_bytes - host.reserve_bytes - others_bytes
    if lacking_bytes > most:
        raise Refused(
            f"{format_size(size_bytes)} cannot be reserved: without its reserve and what is promised "
            f"already, the host has {format_size(max(0, most))}",
            hint="overcommitctl reserve --list shows what is promised",
        )


def require_below(size_bytes: int, domain: DomainFacts | None, host: HostFacts, lacking_bytes: int) -> None:
    """Refuse what limits of its cgroups or its memory nodes would keep from the domain that it is for.

    Raises:
        Refused: they leave it less than ``lacking_bytes``, which it does not hold yet.
    """
    denied, why = missing_below(domain, host, lacking_bytes)
    if denied:
        raise Refused(
            f"{format_size(size_bytes)} cannot be reserved: {why}, {format_size(denied)} too little",
            hint="overcommitctl doctor names the limits, with what raises them",
        )
