"""The worst case: every guest wants all that it was promised now. Where would the memory come from?

What a guest wants beyond its own limit has no room, because no other memory below that limit could make room.
For what it wants beyond a shared limit, or on memory nodes that it is bound to, memory of others there can
make room, as far as it may go to swap. Guests with the same bounds are one group. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from overcommit.model.accounts import CgroupLimit
from overcommit.model.budget import WorstCase
from overcommit.model.facts import DomainFacts, HostFacts, Snapshot
from overcommit.model.policy import Policy
from overcommit.plan.limits import limit_text, no_swap, tightest
from overcommit.plan.nodes import Nodes, draw, free_on_nodes, nodes_text, shares_on_nodes
from overcommit.units import format_size

_FEW = 3
"""The most domains that one sentence names."""


class Sink(NamedTuple):
    """A place to page out to, in order. ``kept`` is the share that stays in memory, compressed."""

    room_bytes: int
    kept: float


@dataclass(slots=True)
class _Group:
    """Guests with the same bounds: what they want, have, and could page out.

    ``missing`` bytes they want and do not have. ``on_node`` are their bytes by node. ``pushable`` bytes may
    be paged out, ``swapped`` are in swap already. ``dry`` are their own limits that allow no more swap.
    """

    nodes: Nodes
    limits: tuple[CgroupLimit, ...]
    swap_limits: tuple[CgroupLimit, ...]
    names: list[str] = field(default_factory=list)
    missing: int = 0
    on_node: dict[int, int] = field(default_factory=dict)
    pushable: int = 0
    swapped: int = 0
    dry: list[CgroupLimit] = field(default_factory=list)


def worst_case(
    snapshot: Snapshot, policy: Policy, *, available: int, saved: int, sinks: Iterable[Sink]
) -> WorstCase:
    """What ``available`` memory covers, what ``sinks`` make room for, and what has no room.

    ``saved`` bytes are merged by KSM. A guest that writes to them gets copies, and it is not known which
    guest.
    """
    host, why = snapshot.host, list[str]()
    groups, wanted = _groups(snapshot, why)
    groups.append(_Group(None, (), (), missing=saved, pushable=saved))
    wanted += saved
    groups.sort(key=_most_bound)
    room = _Room(host, available, groups)
    memory = sum(map(room.give, groups))
    swapped = pushed = 0
    for sink in sinks:
        gained, out = room.push(groups, sink)
        swapped, pushed = swapped + gained, pushed + out
    why += room.reasons(groups)
    rate = policy.swap.max_write_bytes_per_second
    return WorstCase(
        wanted_bytes=wanted,
        memory_bytes=memory,
        swap_bytes=swapped,
        nowhere_bytes=wanted - memory - swapped,
        pushed_bytes=pushed,
        max_write_bytes_per_second=rate,
        seconds=pushed / rate,
        bounds=tuple(why),
    )


def _most_bound(group: _Group) -> tuple[bool, int, int]:
    """The sort key: groups with the fewest places to go are served first."""
    return group.nodes is None, len(group.nodes or ()), -len(group.limits)


def _groups(snapshot: Snapshot, why: list[str]) -> tuple[list[_Group], int]:
    """The guests by their bounds, with what their own limits let them want, and the total."""
    groups: dict[tuple[Nodes, tuple[str, ...], tuple[str, ...]], _Group] = {}
    all_wanted = 0
    for domain in snapshot.domains:
        wanted = max(0, domain.promised_bytes - domain.held_bytes)
        all_wanted += wanted
        limits, swap_limits = _shared(domain.limits), _shared(domain.swap_limits)
        left = _within_its_own(domain, wanted, why)
        parts = list(shares_on_nodes(domain, snapshot.host, wanted))
        for nodes, want, held in parts:
            key = nodes, tuple(limit.path for limit in limits), tuple(limit.path for limit in swap_limits)
            group = groups.setdefault(key, _Group(nodes, limits, swap_limits))
            part = min(want, left)
            left -= part
            group.missing += part
            group.names.append(domain.name)
            for node, size in held.items():
                group.on_node[node] = group.on_node.get(node, 0) + size
            _add_pushable(
                group, domain, want + sum(held.values()) if len(parts) > 1 else domain.promised_bytes
            )
        group.swapped += domain.residency.swapped_bytes if domain.residency else 0
    return list(groups.values()), all_wanted


def _within_its_own(domain: DomainFacts, wanted: int, why: list[str]) -> int:
    """The part of ``wanted`` that the domain's own limit allows."""
    bound = tightest([limit for limit in domain.limits or () if limit.own])
    if bound is None or bound.room_bytes >= wanted:
        return wanted
    why.append(
        f"{format_size(wanted - bound.room_bytes)} of {domain.name}, because of {limit_text(bound.limit)}"
    )
    return bound.room_bytes


def _add_pushable(group: _Group, domain: DomainFacts, size: int) -> None:
    """What of a domain may go to swap when it has all that it wants, including what is there already."""
    most = min(size, _pageable(domain))
    own = tightest([limit for limit in domain.swap_limits or () if limit.own])
    swapped = domain.residency.swapped_bytes if domain.residency else 0
    if own is not None and own.room_bytes + swapped < most:
        most = own.room_bytes + swapped
        group.dry.append(own.limit)
    group.pushable += most


def _pageable(domain: DomainFacts) -> int:
    """The bytes of its RAM that may go to swap; where that is not known, all that was promised."""
    definition = domain.definition
    if definition.passthrough or definition.launch_security:
        return 0
    return domain.pageable_bytes if domain.blocks else domain.promised_bytes


def _shared(limits: Sequence[CgroupLimit] | None) -> tuple[CgroupLimit, ...]:
    return tuple(limit for limit in limits or () if not limit.own)


class _Room:
    """What is left of the host's memory, of its nodes and below its slices, while it is given out."""

    def __init__(self, host: HostFacts, available: int, groups: Sequence[_Group]) -> None:
        self._available = available
        self._nodes = free_on_nodes(host)
        self._memory: dict[str, int] = {}
        self._swap: dict[str, int] = {}
        for group in groups:
            for limit in group.limits:
                self._memory[limit.path] = limit.room_bytes
            for limit in group.swap_limits:
                # Memory that comes back from swap leaves its room there to others.
                left = self._swap.get(limit.path, limit.room_bytes)
                self._swap[limit.path] = min(limit.most_bytes, left + group.swapped)
        self._unused = 0

    def give(self, group: _Group) -> int:
        """Give the group as much memory as it can have, and reduce what it lacks."""
        most = min((group.missing, self._available, *(self._memory[limit.path] for limit in group.limits)))
        if group.nodes is not None:
            most = min(most, sum(self._nodes.get(node, 0) for node in group.nodes))
            for node, size in draw(self._nodes, group.nodes, most).items():
                group.on_node[node] = group.on_node.get(node, 0) + size
        self._available -= most
        for limit in group.limits:
            self._memory[limit.path] -= most
        group.missing -= most
        return most

    def push(self, groups: Sequence[_Group], sink: Sink) -> tuple[int, int]:
        """The room that paging out to a sink makes, and the bytes that go there for it."""
        left, gained, out = sink.room_bytes, 0, 0
        share = 1 - sink.kept
        pushers = [group for group in groups if group.pushable]
        for wanting in groups:
            for pushing in (wanting, *pushers):
                if not wanting.missing or not left:
                    break
                most = min(left, self._pushable(pushing, wanting))
                gain = min(wanting.missing, math.floor(most * share), self._enters(wanting, pushing))
                if gain <= 0:
                    continue
                size = min(most, math.ceil(gain / share))
                self._pushed(pushing, wanting, size, gain)
                left, gained, out = left - size, gained + gain, out + size
        self._unused += math.floor(left * share)
        return gained, out

    def _pushable(self, pushing: _Group, wanting: _Group) -> int:
        """What of a group may go to swap, and makes room where it is wanted."""
        most = min((pushing.pushable, *(self._swap[limit.path] for limit in pushing.swap_limits)))
        if wanting.nodes is None:
            return most
        return min(most, sum(pushing.on_node.get(node, 0) for node in wanting.nodes))

    def _enters(self, wanting: _Group, pushing: _Group) -> int:
        """What may come below the limits of one group when another group outside of them makes room."""
        inside = {limit.path for limit in pushing.limits}
        entered = (self._memory[limit.path] for limit in wanting.limits if limit.path not in inside)
        return min((wanting.missing, *entered))

    def _pushed(self, pushing: _Group, wanting: _Group, size: int, gain: int) -> None:
        pushing.pushable -= size
        wanting.missing -= gain
        for limit in pushing.swap_limits:
            self._swap[limit.path] -= size
        inside = {limit.path for limit in pushing.limits}
        for limit in wanting.limits:
            if limit.path not in inside:
                self._memory[limit.path] -= gain
        if wanting.nodes is not None:
            draw(pushing.on_node, wanting.nodes, size)

    def reasons(self, groups: Sequence[_Group]) -> Iterator[str]:
        """What keeps which guests from memory or swap that the host has left."""
        dry = [limit for group in groups for limit in (*group.swap_limits, *group.dry)]
        dry = [limit for limit in dry if not self._swap.get(limit.path, 0)] if self._unused else []
        for group in groups:
            if not group.missing or not self._available + self._unused:
                continue
            names = sorted(set(group.names))
            whose = ", ".join(names) if len(names) <= _FEW else f"{len(names)} domains"
            what = f"{format_size(group.missing)} of {whose}"
            tight = [limit for limit in group.limits if not self._memory[limit.path]]
            if group.nodes is not None:
                yield f"{what}, which must lie on {nodes_text(group.nodes)}"
            elif tight:
                yield f"{what}, because of {limit_text(tight[0])}"
            elif dry:
                yield f"{what}: its cgroup may {no_swap(dry[0])}"
