"""Memory nodes (NUMA) of the host, and memory of guests that is bound to some. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNode:
    """An online memory node of the host. The kernel frees ``droppable_bytes`` on demand."""

    nid: int
    total_bytes: int
    free_bytes: int
    droppable_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBinding:
    """Guest memory that is bound to these nodes of the host.

    ``size_bytes`` None: all memory without another binding.
    """

    nodes: frozenset[int]
    size_bytes: int | None = None
