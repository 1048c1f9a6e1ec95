"""What became of a plan, as read from the host's own counters (rule S5)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from overcommit.model.action import Action
from overcommit.units import MIB


class Controller(enum.Enum):
    """Who keeps a page-out within what its domain may feel (overcommit.apply.pace)."""

    OWN = "own"
    """We do: we ask for less, or stop the kdamond for a while."""
    DAMON_GOAL = "damon-goal"
    """We tell DAMON the domain's pain, and its goal tuner lets the kdamond work or not (Linux 7.1)."""


class Status(enum.Enum):
    """How an action ended."""

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    UNDONE = "undone"

    @classmethod
    def of(cls, got_bytes: int, *, enough: bool, failure: str | None) -> Status:
        """What an action's end is called; a failure that came after something was got makes it partial."""
        if failure is not None and got_bytes < MIB:
            return cls.FAILED
        return cls.DONE if enough and failure is None else cls.PARTIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One action's end.

    ``freed_bytes`` is the drop of the domain's resident guest RAM; ``promoted_pages`` counts what came back
    from swap meanwhile: the price. ``moved_bytes`` went to another memory node and free nothing.
    ``controller`` is None where nothing sets a pace.
    """

    action: Action
    status: Status
    freed_bytes: int
    promoted_pages: int
    seconds: float
    detail: str
    moved_bytes: int = 0
    controller: Controller | None = None


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
