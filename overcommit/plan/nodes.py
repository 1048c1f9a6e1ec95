"""Memory nodes that a domain's memory is bound to: their free memory, and what the domain wants there.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from overcommit.model.facts import Definition, DomainFacts, HostFacts
from overcommit.model.nodes import MemoryNode

Nodes = frozenset[int] | None
"""The nodes that memory may lie on; None: any."""


class WithNodes(Protocol):
    """A host, or only its memory nodes."""

    @property
    def nodes(self) -> tuple[MemoryNode, ...]:
        """The nodes that have memory."""
        ...


def free_on_nodes(host: HostFacts) -> dict[int, int]:
    """Bytes by node that guests can get there: free, or dropped by the kernel on demand.

    Their sum is at most MemAvailable, which excludes what the kernel keeps for itself. ZFS's cache is not
    included, because its nodes are not known.
    """
    found = {node.nid: node.free_bytes + node.droppable_bytes for node in host.nodes}
    total = sum(found.values())
    if total > host.mem_available_bytes:
        found = {nid: size * host.mem_available_bytes // total for nid, size in found.items()}
    return found


def nodes_of(domain: DomainFacts, host: WithNodes) -> Nodes:
    """The nodes that the domain's memory may lie on; None: not bound, or bound to all."""
    parts = [nodes for nodes, _ in _parts(domain.definition, domain.allowed_nodes, host)]
    if any(nodes is None for nodes in parts):
        return None
    return _unless_all(frozenset(node for nodes in parts for node in nodes or ()), host)


def shares_on_nodes(
    domain: DomainFacts, host: HostFacts, wanted: int
) -> Iterator[tuple[Nodes, int, Mapping[int, int]]]:
    """The parts of a domain with their own nodes.

    Each is the nodes, the bytes of ``wanted``, and the present bytes by node. Memory on a node counts for the
    part with the fewest nodes.
    """
    lying = dict(domain.placement or {})
    parts = _narrowest_first(_parts(domain.definition, domain.allowed_nodes, host))
    for index, (nodes, size) in enumerate(parts):
        held = draw(lying, tuple(lying) if nodes is None else nodes, size)
        last = index == len(parts) - 1
        want = wanted if last else min(wanted, max(0, size - sum(held.values())))
        wanted -= want
        yield nodes, want, held


def lacking_on_nodes(wanted: Iterable[tuple[Nodes, int]], left: dict[int, int]) -> tuple[int, frozenset[int]]:
    """The bytes that have no room on the nodes that they are bound to, and those nodes.

    What has room is taken off ``left``, by node.
    """
    lacking, full = 0, set[int]()
    for nodes, size in wanted:
        if nodes is not None:
            missing = size - sum(draw(left, nodes, size).values())
            if missing:
                lacking += missing
                full |= nodes
    return lacking, frozenset(full)


def defined_on_nodes(definition: Definition, host: WithNodes, wanted: int) -> Iterator[tuple[Nodes, int]]:
    """The parts of ``wanted`` bytes of a domain that does not run, by the nodes that each may lie on.

    The parts with the fewest nodes are filled first, because in the end the domain wants all of its memory.
    """
    parts = _narrowest_first(_parts(definition, None, host))
    for index, (nodes, size) in enumerate(parts):
        want = wanted if index == len(parts) - 1 else min(wanted, size)
        wanted -= want
        yield nodes, want


def _narrowest_first(parts: Iterable[tuple[Nodes, int]]) -> list[tuple[Nodes, int]]:
    return sorted(parts, key=lambda part: (part[0] is None, len(part[0] or ())))


def nodes_text(nodes: Iterable[int]) -> str:
    """Nodes, for people."""
    several = sorted(nodes)
    return f"memory node{'s' if len(several) > 1 else ''} {', '.join(map(str, several))}"


def _parts(definition: Definition, allowed: Nodes, host: WithNodes) -> Iterator[tuple[Nodes, int]]:
    """The bound parts with their sizes. The process's cpuset bounds all of them."""
    left = definition.maximum_bytes
    for binding in definition.bindings:
        if binding.size_bytes is not None:
            size = min(left, binding.size_bytes)
            left -= size
            yield _effective(binding.nodes, allowed, host), size
    rest = next((b.nodes for b in definition.bindings if b.size_bytes is None), None)
    if left or all(binding.size_bytes is None for binding in definition.bindings):
        yield _effective(rest, allowed, host), left


def _effective(nodes: Nodes, allowed: Nodes, host: WithNodes) -> Nodes:
    if nodes is not None and allowed is not None:
        nodes = nodes & allowed or nodes
    return _unless_all(allowed if nodes is None else nodes, host)


def _unless_all(nodes: Nodes, host: WithNodes) -> Nodes:
    present = {node.nid for node in host.nodes}
    return None if nodes is None or nodes >= present else nodes


def draw(left: dict[int, int], nodes: Iterable[int], size: int) -> dict[int, int]:
    """Take up to ``size`` bytes from the nodes, from the one with most left first.

    Returns the bytes by node.
    """
    taken = {}
    for node in sorted(nodes, key=lambda node: (-left.get(node, 0), node)):
        part = min(size, left.get(node, 0))
        if part > 0:
            left[node] -= part
            taken[node] = part
            size -= part
    return taken
