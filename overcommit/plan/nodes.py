"""Memory nodes that a domain's memory is bound to: what is free there, and what it wants there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from overcommit.model.facts import Definition, DomainFacts, HostFacts
from overcommit.model.nodes import MemoryNode

Nodes = frozenset[int] | None
"""Where memory may lie; None: anywhere."""


class WithNodes(Protocol):
    """A host, or what was read of its nodes alone."""

    @property
    def nodes(self) -> tuple[MemoryNode, ...]:
        """Those that have memory."""
        ...


def free_on_nodes(host: HostFacts) -> dict[int, int]:
    """Bytes by node that guests can get there: free, and what the kernel would drop for them.

    Together they are no more than MemAvailable, which knows what the kernel keeps for itself. ZFS's cache is
    not in it: nobody knows on which nodes that lies.
    """
    found = {node.nid: node.free_bytes + node.droppable_bytes for node in host.nodes}
    total = sum(found.values())
    if total > host.mem_available_bytes:
        found = {nid: size * host.mem_available_bytes // total for nid, size in found.items()}
    return found


def nodes_of(domain: DomainFacts, host: WithNodes) -> Nodes:
    """The nodes that any of its memory may lie on; None where it is not bound, or to all that there are."""
    parts = [nodes for nodes, _ in _parts(domain.definition, domain.allowed_nodes, host)]
    if any(nodes is None for nodes in parts):
        return None
    return _unless_all(frozenset(node for nodes in parts for node in nodes or ()), host)


def shares_on_nodes(
    domain: DomainFacts, host: HostFacts, wanted: int
) -> Iterator[tuple[Nodes, int, Mapping[int, int]]]:
    """The parts of a domain that are bound to other nodes each: where, what of ``wanted`` it wants, and has.

    What lies on a node is taken for the part that is bound most narrowly.
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
    """What of parts of memory finds no room on the nodes that they are bound to, and which nodes those are.

    What finds room is taken off what is ``left`` by node.
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
    """The parts of ``wanted`` memory of a domain that does not run, by the nodes that each may lie on.

    Its memory is filled from what is bound most narrowly: in the end it wants all of it.
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
    """What is bound, and how much it is; the kernel's word (its cpuset) bounds all of it."""
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
    """Take so much from the nodes, as far as it is left there, from where most is; what came from each."""
    taken = {}
    for node in sorted(nodes, key=lambda node: (-left.get(node, 0), node)):
        part = min(size, left.get(node, 0))
        if part > 0:
            left[node] -= part
            taken[node] = part
            size -= part
    return taken
