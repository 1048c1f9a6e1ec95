"""What became of a plan, as read from the host's own counters (rule S5)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from overcommit.model.plan import Action


class Status(enum.Enum):
    """How an action ended."""

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One action's end.

    ``freed_bytes`` is the drop of the domain's resident guest RAM; ``promoted_pages`` counts the major faults
    of the domain's cgroup meanwhile: the price. ``moved_bytes`` went to another memory node and free nothing.
    """

    action: Action
    status: Status
    freed_bytes: int
    promoted_pages: int
    seconds: float
    detail: str
    moved_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBalance:
    """The host before and after: what really came back, and what compressed swap took of it."""

    available_before_bytes: int
    available_after_bytes: int
    swap_used_before_bytes: int
    swap_used_after_bytes: int
    zram_before_bytes: int
    zram_after_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole apply."""

    generation: int
    outcomes: tuple[Outcome, ...]
    balance: HostBalance

    @property
    def freed_bytes(self) -> int:
        """Guest RAM that is no longer resident."""
        return sum(o.freed_bytes for o in self.outcomes)

    @property
    def moved_bytes(self) -> int:
        """Guest RAM that is on another memory node now."""
        return sum(o.moved_bytes for o in self.outcomes)

    @property
    def complete(self) -> bool:
        """Whether every action did what the plan said."""
        return all(o.status is Status.DONE for o in self.outcomes)
