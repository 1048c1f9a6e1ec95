"""Limits on a domain below the host's: cgroups, its own and those above, and memory nodes.

Memory below a limit is shared by all domains below it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from overcommit.display import command, display_name
from overcommit.model.accounts import CgroupLimit
from overcommit.model.facts import DomainFacts, HostFacts, Incarnation
from overcommit.plan.case import guest_bytes
from overcommit.plan.nodes import Nodes, draw, free_on_nodes, nodes_of, nodes_text
from overcommit.units import format_size

_SETTINGS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.swap.max": "MemorySwapMax",
    "memory.swap.high": "MemorySwapHigh",
}
_MEMTUNE = {
    "memory.max": "--hard-limit",
    "memory.high": "--soft-limit",
    "memory.swap.max": "--swap-hard-limit",
}
"""Libvirt's names of limits on cgroup v2 (src/util/vircgroupv2.c). It does not have the others."""
_OF_LIBVIRT = ("/libvirt", ".libvirt-qemu")
"""Cgroups that libvirt makes below a domain's scope, or without systemd-machined (src/util/vircgroup.c)."""
_CGROUPS = "/sys/fs/cgroup"
_POD = "/kubepods"
"""Below this path kubelet sets the limits again (pkg/kubelet/cm)."""
_UNITS = (".slice", ".scope", ".service")


class Bound(NamedTuple):
    """The room below a limit, with the limit."""

    room_bytes: int
    limit: CgroupLimit


def tightest(limits: Sequence[CgroupLimit] | None) -> Bound | None:
    """The limit with the least room; None: there is none, or it is not known."""
    rooms = (Bound(limit.room_bytes, limit) for limit in limits or ())
    return min(rooms, key=lambda bound: bound.room_bytes, default=None)


class Place(NamedTuple):
    """The limits of cgroups and the memory nodes that bound one domain."""

    limits: Sequence[CgroupLimit] = ()
    nodes: Nodes = None


class Room(NamedTuple):
    """Bytes that are left, and the reason in words why no more."""

    size_bytes: int
    why: str


class Rooms:
    """The room below each limit and on each memory node, while it is given out."""

    def __init__(self, places: Iterable[Place], free_on_nodes: Mapping[int, int] | None = None) -> None:
        self._left: dict[str, int] = {}
        self._nodes = dict(free_on_nodes or {})
        for place in places:
            for limit in place.limits:
                left = self._left.get(limit.path, limit.room_bytes)
                self._left[limit.path] = min(left, limit.room_bytes)

    def room(self, place: Place, waiting: Sequence[Place] = ()) -> Room | None:
        """The room of a place; None: nothing bounds it.

        It is an equal part where others are ``waiting`` for the same.
        """
        rooms = [
            Room(max(0, self._left[limit.path]) // (1 + _below(limit, waiting)), limit_text(limit))
            for limit in place.limits
        ]
        if place.nodes is not None:
            others = sum(other.nodes is not None and bool(other.nodes & place.nodes) for other in waiting)
            free = sum(self._nodes.get(node, 0) for node in place.nodes)
            rooms.append(Room(free // (1 + others), f"it must lie on {nodes_text(place.nodes)}"))
        return min(rooms, key=lambda room: room.size_bytes, default=None)

    def take(self, place: Place, size: int) -> None:
        """Take ``size`` bytes from all that bounds the place.

        A negative size returns them below the limits.
        """
        for limit in place.limits:
            self._left[limit.path] -= size
        if place.nodes is not None:
            draw(self._nodes, place.nodes, size)


def _below(limit: CgroupLimit, places: Iterable[Place]) -> int:
    """The number of places below a limit."""
    return sum(any(limit.path == other.path for other in place.limits) for place in places)


def memory_place(domain: DomainFacts, host: HostFacts) -> Place:
    """The place of a domain's memory."""
    return Place(domain.limits or (), nodes_of(domain, host))


def swap_place(domain: DomainFacts) -> Place:
    """The place of what is paged out of a domain."""
    return Place(domain.swap_limits or ())


def memory_rooms(domains: Iterable[DomainFacts], host: HostFacts) -> Rooms:
    """The room for giving memory to domains. What a guest already has is charged first."""
    domains = tuple(domains)
    rooms = Rooms((memory_place(domain, host) for domain in domains), free_on_nodes(host))
    for domain in domains:
        if domain.balloon is not None and domain.residency is not None:
            unheld = guest_bytes(domain.definition, domain.balloon) - domain.residency.resident_bytes
            rooms.take(own_place(domain.limits or ()), max(0, unheld))
    return rooms


def own_place(limits: Sequence[CgroupLimit]) -> Place:
    """The limits that bound no other domain."""
    return Place([limit for limit in limits if limit.own])


def limit_text(limit: CgroupLimit) -> str:
    """A limit with the file that sets it, for people."""
    size = format_size(limit.limit_bytes) if limit.limit_bytes else "0"
    text = f"{limit.file} {size} of {'its own cgroup' if limit.own else unit_of(limit.path)}"
    if limit.off_disk is None:
        return text
    return f"{text}, with memory.zswap.writeback 0 of {unit_of(limit.off_disk)}"


def unit_of(path: str) -> str:
    """The systemd unit of a cgroup, or its path where it is no unit."""
    name = path.rpartition("/")[2]
    return name if name.endswith(_UNITS) else path


def no_swap(limit: CgroupLimit) -> str:
    """Why no more of a domain can be paged out, to follow "its cgroup may"."""
    if not limit.limit_bytes:
        return f"not swap ({limit_text(limit)})"
    return f"swap no more ({limit_text(limit)}, {format_size(limit.current_bytes)} of it in use)"


def raise_text(limit: CgroupLimit, domain: Incarnation | None = None) -> str:
    """A command that raises the limit. ``domain`` is the domain whose own cgroup it may be."""
    if limit.off_disk is not None:
        unit = unit_of(limit.off_disk)
        if unit.endswith(_UNITS):
            return command("systemctl", "set-property", unit, "MemoryZSwapWriteback=yes")
        return f"echo 1 > {command(f'{_CGROUPS}{limit.off_disk}/memory.zswap.writeback')}"
    options = _MEMTUNE.get(limit.file)
    if limit.own and domain is not None and options and limit.path.endswith(_OF_LIBVIRT):
        return command("virsh", "memtune", display_name(domain), options, "-1")
    if _POD in limit.path:
        return f"raise the memory limit of its pod ({limit.file} of {limit.path})"
    unit = unit_of(limit.path.removesuffix("/libvirt"))
    if not unit.endswith(_UNITS):
        return f"raise {limit.file} of {limit.path}"
    return command("systemctl", "set-property", unit, f"{_SETTINGS[limit.file]}=infinity")


def swap_rooms(domains: Iterable[DomainFacts], granted: Mapping[str, int]) -> Rooms:
    """The room of domains in swap, less what is ``granted`` by UUID to page-outs under way."""
    domains = tuple(domains)
    rooms = Rooms(map(swap_place, domains))
    for domain in domains:
        rooms.take(swap_place(domain), granted.get(domain.incarnation.uuid, 0))
    return rooms
