"""Memory promised to somebody who has not taken it yet, and what can be promised at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from overcommit.errors import Refused
from overcommit.model.facts import DomainFacts
from overcommit.model.past import Reservation
from overcommit.model.plan import HostPlan
from overcommit.units import format_size


def promised(reservations: Iterable[Reservation], domains: Iterable[DomainFacts], *, now: float) -> int:
    """Bytes that are promised at ``now`` (seconds since the epoch), and not taken yet."""
    held = {d.name: d.residency.resident_bytes for d in domains if d.residency}
    return sum(
        max(0, reservation.size_bytes - held.get(reservation.purpose or "", 0))
        for reservation in reservations
        if reservation.expires_at > now
    )


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
