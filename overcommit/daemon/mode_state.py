"""The daemon's mode, from orders and losses (rule S9). Pure.

After a loss of something that decisions need it holds: nothing more is taken, and short guests get memory
back. If the loss lasts, everything is given back, as far as possible without what is lost.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from overcommit.control.status import Mode
from overcommit.model.moments import Monotonic

HOLD_SECONDS = 300.0
"""How long it holds before it gives everything back."""
_MOST_TEXT = 300


class Loss(enum.Enum):
    """Things that can be lost, as a part of a sentence."""

    LIBVIRT = "libvirt"
    DAMON = "DAMON"
    DISK = "the undo journal"
    CLOCK = "the clock"
    HOST = "the host's own figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Since when (monotonic seconds) it is lost, and how that was seen."""

    since: Monotonic
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """Orders and losses. Times are monotonic seconds."""

    observe_only: bool = False
    paused_until: Monotonic | None = None
    lost: Mapping[Loss, Lost] = field(default_factory=dict)

    def paused(self, until: Monotonic | None) -> ModeState:
        """The state after an order to pause; None: until an order to resume."""
        return dataclasses.replace(self, paused_until=Monotonic(math.inf) if until is None else until)

    def resumed(self) -> ModeState:
        """The state after an order to resume."""
        return dataclasses.replace(self, paused_until=None)

    def without(self, loss: Loss, why: str, at: Monotonic) -> ModeState:
        """The state after a loss. The beginning of an earlier loss of the same thing is kept."""
        since = self.lost[loss].since if loss in self.lost else at
        return dataclasses.replace(self, lost={**self.lost, loss: Lost(since=since, why=why[:_MOST_TEXT])})

    def regained(self, loss: Loss) -> ModeState:
        """The state after the end of a loss."""
        if loss not in self.lost:
            return self
        return dataclasses.replace(self, lost={k: v for k, v in self.lost.items() if k is not loss})

    def mode(self, now: Monotonic) -> Mode:
        """The mode's name."""
        if self.observe_only:
            return Mode.OBSERVE
        if self.lost:
            return Mode.SAFE
        return Mode.PAUSED if self.paused_until is not None and now < self.paused_until else Mode.ACTIVE

    def may_take(self, now: Monotonic) -> bool:
        """Whether memory may be taken."""
        return self.mode(now) is Mode.ACTIVE

    @property
    def may_give(self) -> bool:
        """Whether memory may be given back to short guests."""
        return not self.observe_only

    def gives_back(self, now: Monotonic) -> bool:
        """Whether it has held for long enough, and gives everything back."""
        return not self.observe_only and any(now - lost.since >= HOLD_SECONDS for lost in self.lost.values())

    def why_not(self, now: Monotonic) -> str | None:
        """Why no memory may be taken, for a user who waits for some; None: it may."""
        match self.mode(now):
            case Mode.OBSERVE:
                return "overcommitd only observes (--observe)"
            case Mode.PAUSED:
                return "overcommitd is paused and takes nothing; to end it: overcommitctl resume"
            case Mode.SAFE:
                return f"overcommitd takes nothing: it is {self.reason(now)}"
            case _:
                return None

    def reason(self, now: Monotonic) -> str | None:
        """Why it is in its mode, where that is not obvious."""
        if self.mode(now) is not Mode.SAFE:
            return None
        what = "giving everything back" if self.gives_back(now) else "holding"
        return f"{what}, without {'; '.join(f'{loss.value}: {lost.why}' for loss, lost in self.lost.items())}"
