"""Memory promised to somebody who has not taken it yet, and what can be promised at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from overcommit.errors import Refused
from overcommit.model.facts import DomainFacts, HostFacts
from overcommit.model.past import Reservation
from overcommit.model.plan import HostPlan
from overcommit.plan.limits import Rooms, memory_place
from overcommit.plan.nodes import free_on_nodes
from overcommit.units import format_size


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
