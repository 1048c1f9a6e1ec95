"""Memory nodes (NUMA) of the host, and memory of guests that is bound to some. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNode:
    """One memory node of the host, online; ``droppable_bytes`` the kernel would make free when needed."""

    nid: int
    total_bytes: int
    free_bytes: int
    droppable_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBinding:
    """Memory of a guest that may lie on these nodes of the host only; all that has no other, or a size."""

    nodes: frozenset[int]
    size_bytes: int | None = None
