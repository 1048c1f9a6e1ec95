"""The results of applying a plan, as read from the host's own counters (rule S5)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass

from overcommit.errors import OvercommitError
from overcommit.model.action import Action
from overcommit.model.facts import HostFacts
from overcommit.units import MIB


class Controller(enum.Enum):
    """What keeps a page-out within the domain's SLO (overcommit.apply.pace)."""

    OWN = "own"
    """This program: it asks for less, or stops the kdamond for a while."""
    DAMON_GOAL = "damon-goal"
    """DAMON's goal tuner: it gets the domain's SLO figures and lets the kdamond work or not (Linux 7.1)."""


class Status(enum.Enum):
    """How an action ended."""

    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    UNDONE = "undone"

    @property
    def changed(self) -> bool:
        """Whether the action changed anything."""
        return self in {Status.DONE, Status.PARTIAL}

    @classmethod
    def of(cls, got_bytes: int, *, enough: bool, failure: str | None) -> Status:
        """The status of an action. A failure after something was freed makes it partial."""
        if failure is not None and got_bytes < MIB:
            return cls.FAILED
        return cls.DONE if enough and failure is None else cls.PARTIAL


class Fault(enum.Enum):
    """What a guest did wrong while it gave memory: a reason for a quarantine (overcommit.plan.quarantine)."""

    PHANTOM = "phantom"
    """The guest gave memory, but the host got none."""
    STUCK = "stuck"
    """The balloon or the device stopped above the target."""
    SILENT = "silent"
    """The guest gave memory, but no longer sent statistics."""
    PAIN = "pain"
    """The guest was short of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one action.

    ``freed_bytes`` is the decrease of the domain's resident guest RAM. ``promoted_pages`` came back from swap
    meanwhile. ``swap_freed_bytes`` left swap and did not come back: free swap, not memory. ``moved_bytes``
    went to another memory node and free nothing. ``merged_bytes`` is the gain by KSM in the kernel's account;
    negative: a loss. ``controller`` is None where nothing sets a pace. ``left_at_bytes`` is the size at which
    the balloon or device was left; None: none was resized.
    """

    action: Action
    status: Status
    freed_bytes: int
    promoted_pages: int
    seconds: float
    detail: str
    moved_bytes: int = 0
    swap_freed_bytes: int = 0
    merged_bytes: int = 0
    controller: Controller | None = None
    fault: Fault | None = None
    left_at_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBalance:
    """The host's memory and swap before and after, and what compressed swap took."""

    available_before_bytes: int
    available_after_bytes: int
    swap_used_before_bytes: int
    swap_used_after_bytes: int
    zram_before_bytes: int
    zram_after_bytes: int

    @classmethod
    def between(cls, before: HostFacts, after: HostFacts) -> HostBalance:
        """The difference of two readings of the host."""
        return cls(
            available_before_bytes=before.mem_available_bytes,
            available_after_bytes=after.mem_available_bytes,
            swap_used_before_bytes=before.swap_used_bytes,
            swap_used_after_bytes=after.swap_used_bytes,
            zram_before_bytes=before.zram_used_bytes,
            zram_after_bytes=after.zram_used_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of one apply.

    ``failure`` is what ended it early, after something was done; None: nothing.
    """

    generation: int
    outcomes: tuple[Outcome, ...]
    balance: HostBalance
    failure: OvercommitError | KeyboardInterrupt | None = None

    @classmethod
    def of_rounds(cls, rounds: Sequence[Report]) -> Report:
        """One report for several rounds of one generation."""
        first, last = rounds[0].balance, rounds[-1].balance
        return cls(
            generation=rounds[0].generation,
            outcomes=tuple(outcome for report in rounds for outcome in report.outcomes),
            balance=dataclasses.replace(
                last,
                available_before_bytes=first.available_before_bytes,
                swap_used_before_bytes=first.swap_used_before_bytes,
                zram_before_bytes=first.zram_before_bytes,
            ),
            failure=rounds[-1].failure,
        )

    @property
    def freed_bytes(self) -> int:
        """Guest RAM that is no longer resident, all outcomes together."""
        return sum(o.freed_bytes for o in self.outcomes)

    @property
    def moved_bytes(self) -> int:
        """Guest RAM that is on another memory node now."""
        return sum(o.moved_bytes for o in self.outcomes)

    @property
    def gained_bytes(self) -> int:
        """Bytes freed or moved."""
        return self.freed_bytes + self.moved_bytes

    @property
    def complete(self) -> bool:
        """Whether every action did what the plan said."""
        return all(o.status is Status.DONE for o in self.outcomes)

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return any(o.status.changed for o in self.outcomes)
