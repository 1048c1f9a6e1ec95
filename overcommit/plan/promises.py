"""Reservations: memory promised to somebody who has not taken it yet, and how much can be promised. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from overcommit.errors import Refused
from overcommit.model.facts import Definition, DomainFacts, Snapshot
from overcommit.model.moments import Wall
from overcommit.model.past import Past, Reservation
from overcommit.model.plan import HostPlan
from overcommit.model.policy import Policy, ReclaimMode
from overcommit.plan.case import worthwhile
from overcommit.plan.limits import Place, Rooms
from overcommit.plan.nodes import (
    Nodes,
    defined_on_nodes,
    free_on_nodes,
    lacking_on_nodes,
    nodes_text,
    shares_on_nodes,
)
from overcommit.units import format_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A requested reservation. ``purpose`` names the domain that it is for."""

    size_bytes: int
    purpose: str | None = None


class Standing(NamedTuple):
    """What is missing for a reservation now. ``wanted`` is the part that is not taken already.

    ``refusal`` is why it cannot be met, whatever is freed; None: it can.
    """

    missing_bytes: int
    wanted: Reservation
    refusal: Refused | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What affects a reservation besides the host: other reservations, and definitions of domains by name."""

    reservations: tuple[Reservation, ...] = ()
    defined: Mapping[str, Definition] = field(default_factory=dict)

    @classmethod
    def names(cls, wish: Wish, reservations: Iterable[Reservation]) -> frozenset[str]:
        """The domains whose definitions are needed for a request."""
        purposes = (wish.purpose, *(reservation.purpose for reservation in reservations))
        return frozenset(purpose for purpose in purposes if purpose)


NOTHING_BESIDE = Beside()


class Denied(NamedTuple):
    """The bytes that limits and nodes deny to a domain, the reason, and a hint."""

    size_bytes: int
    why: str
    hint: str


def standing(wish: Wish, host: HostPlan, snapshot: Snapshot, beside: Beside = NOTHING_BESIDE) -> Standing:
    """Whether a request can be met on a host whose ``reserved_bytes`` are reserved for others."""
    held = [d.residency.resident_bytes for d in snapshot.domains if d.name == wish.purpose and d.residency]
    size = max(0, wish.size_bytes - sum(held))
    wanted = Reservation(id=0, purpose=None, size_bytes=size, expires_at=Wall(math.inf))
    denied = _denied(wish, size, snapshot, beside)
    refusal = None
    try:
        require_below(wish, denied)
        require_possible(wish.size_bytes, lacking_bytes=size, host=host, others_bytes=host.reserved_bytes)
    except Refused as refused:
        refusal = refused
    short = dataclasses.replace(host, reserved_bytes=host.reserved_bytes + size).short_bytes
    return Standing(max(short, denied.size_bytes), wanted, refusal)


def more_than(missing_bytes: int) -> int:
    """The bytes to free for ``missing_bytes``.

    It is more, because compressed swap keeps a part, and cold memory comes in pieces.
    """
    return max(missing_bytes // 2, worthwhile(0)) if missing_bytes else 0


def aimed(policy: Policy, past: Past, wanted: Reservation | None) -> tuple[Policy, Past]:
    """Policy and past for a plan that frees memory for a request, as if it were reserved."""
    if wanted is None or policy.reclaim is ReclaimMode.OFF:
        return policy, past
    past = dataclasses.replace(past, reservations=(*past.reservations, wanted))
    return dataclasses.replace(policy, reclaim=ReclaimMode.ON_PRESSURE), past


def require_allowed(policy: Policy) -> None:
    """Check that the policy allows to free memory for a reservation.

    Raises:
        Refused: it says reclaim: off.
    """
    if policy.reclaim is ReclaimMode.OFF:
        raise Refused(
            f"the policy {policy.source} says reclaim: off, so nothing can be reserved",
            hint="set reclaim: on_pressure, which frees memory only when it is missing",
        )


def promised(reservations: Iterable[Reservation], domains: Iterable[DomainFacts], *, now: Wall) -> int:
    """Bytes that are reserved at ``now`` (seconds since the epoch), and not taken yet."""
    held = {d.name: d.residency.resident_bytes for d in domains if d.residency}
    return sum(
        max(0, reservation.size_bytes - held.get(reservation.purpose or "", 0))
        for reservation in reservations
        if reservation.expires_at > now
    )


def _denied(wish: Wish, lacking_bytes: int, snapshot: Snapshot, beside: Beside) -> Denied:
    """How much of ``lacking_bytes`` limits of cgroups and memory nodes deny to the domain.

    A domain that does not run is bounded by the nodes of its definition; its cgroups are not known.
    Reservations of others on a node are taken off.
    """
    left = free_on_nodes(snapshot.host)
    for promise in beside.reservations:
        if promise.expires_at > snapshot.taken_at:
            lacking_on_nodes(_wanted_on_nodes(promise.purpose, promise.size_bytes, snapshot, beside), left)
    wanted = _wanted_on_nodes(wish.purpose, wish.size_bytes, snapshot, beside)
    lacking, full = lacking_on_nodes(wanted, left)
    denied = Denied(
        lacking, f"it must lie on {nodes_text(full)}", "numastat -m shows the free memory of each node"
    )
    limits = next((domain.limits for domain in snapshot.domains if domain.name == wish.purpose), None) or ()
    place = Place(limits)
    room = Rooms([place]).room(place)
    if room is not None and lacking_bytes - room.size_bytes > denied.size_bytes:
        hint = "to see the limits, and how to raise them: overcommitctl doctor"
        denied = Denied(lacking_bytes - room.size_bytes, room.why, hint)
    return denied


def _wanted_on_nodes(
    name: str | None, size_bytes: int, snapshot: Snapshot, beside: Beside
) -> Iterator[tuple[Nodes, int]]:
    """The nodes of the reserved memory that the domain does not hold already."""
    running = next((domain for domain in snapshot.domains if domain.name == name), None)
    if running is not None:
        held = running.residency.resident_bytes if running.residency else 0
        for nodes, want, _ in shares_on_nodes(running, snapshot.host, max(0, size_bytes - held)):
            yield nodes, want
    elif name is not None and name in beside.defined:
        yield from defined_on_nodes(beside.defined[name], snapshot.host, size_bytes)


def require_possible(size_bytes: int, *, lacking_bytes: int, host: HostPlan, others_bytes: int) -> None:
    """Check that the host could hold the reservation if no guest had any memory.

    ``lacking_bytes`` of ``size_bytes`` are not held by the domain yet; ``others_bytes`` are reserved for
    others.

    Raises:
        Refused: the host does not have so much.
    """
    most = host.total_bytes - host.reserve_bytes - others_bytes
    if lacking_bytes > most:
        raise Refused(
            f"{format_size(size_bytes)} cannot be reserved: besides its reserve and other reservations, "
            f"the host has {format_size(max(0, most))}",
            hint="overcommitctl reserve --list",
        )


def require_below(wish: Wish, denied: Denied) -> None:
    """Check that limits of cgroups and memory nodes leave the domain enough.

    Raises:
        Refused: they leave it too little.
    """
    if denied.size_bytes:
        raise Refused(
            f"{format_size(wish.size_bytes)} cannot be reserved: {wish.purpose} has a limit ({denied.why}) "
            f"that is {format_size(denied.size_bytes)} too low",
            hint=denied.hint,
        )
