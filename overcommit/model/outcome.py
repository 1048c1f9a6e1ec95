"""What became of a plan, as read from the host's own counters (rule S5)."""

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

    @property
    def changed(self) -> bool:
        """Whether something is other than before."""
        return self in {Status.DONE, Status.PARTIAL}

    @classmethod
    def of(cls, got_bytes: int, *, enough: bool, failure: str | None) -> Status:
        """What an action's end is called; a failure that came after something was got makes it partial."""
        if failure is not None and got_bytes < MIB:
            return cls.FAILED
        return cls.DONE if enough and failure is None else cls.PARTIAL


class Fault(enum.Enum):
    """What a guest did when it was to give memory: a reason to let it be (overcommit.plan.quarantine)."""

    PHANTOM = "phantom"
    """It gave, and the host got nothing."""
    STUCK = "stuck"
    """Its balloon, or its device, stood still above the target."""
    SILENT = "silent"
    """It gave memory, but sent no statistics any more."""
    PAIN = "pain"
    """The guest was short of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One action's end.

    ``freed_bytes`` is the drop of the domain's resident guest RAM; ``promoted_pages`` counts what came back
    from swap meanwhile: the price. ``swap_freed_bytes`` of the domain are in swap no longer, and did not come
    back: that is room there, and no memory. ``moved_bytes`` went to another memory node and free nothing.
    ``merged_bytes`` are what merging pages gains by the kernel's own account, a loss if negative.
    ``controller`` is None where nothing sets a pace. ``left_at_bytes`` is the size that a balloon or
    a device was left at, None where none was moved.
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
    """The host before and after: what really came back, and what compressed swap took of it."""

    available_before_bytes: int
    available_after_bytes: int
    swap_used_before_bytes: int
    swap_used_after_bytes: int
    zram_before_bytes: int
    zram_after_bytes: int

    @classmethod
    def between(cls, before: HostFacts, after: HostFacts) -> HostBalance:
        """What two looks at the host come to."""
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
    """A whole apply; ``failure`` is what ended it before its time, after something was done."""

    generation: int
    outcomes: tuple[Outcome, ...]
    balance: HostBalance
    failure: OvercommitError | KeyboardInterrupt | None = None

    @classmethod
    def of_rounds(cls, rounds: Sequence[Report]) -> Report:
        """Several applies in turn, of one generation, as one."""
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
        """Guest RAM that is no longer resident."""
        return sum(o.freed_bytes for o in self.outcomes)

    @property
    def moved_bytes(self) -> int:
        """Guest RAM that is on another memory node now."""
        return sum(o.moved_bytes for o in self.outcomes)

    @property
    def gained_bytes(self) -> int:
        """What was to be had at all, here or for another memory node."""
        return self.freed_bytes + self.moved_bytes

    @property
    def complete(self) -> bool:
        """Whether every action did what the plan said."""
        return all(o.status is Status.DONE for o in self.outcomes)

    @property
    def changed(self) -> bool:
        """Whether anything is other than before."""
        return any(o.status.changed for o in self.outcomes)
