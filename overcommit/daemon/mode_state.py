"""What the daemon may do at present: its mode, from what was ordered and what was lost (rule S9). Pure.

Losing something that decisions stand on is first answered by holding: nothing more is taken, and guests that
are short get memory back. When it stays lost, everything is given back as far as that can be done without it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from overcommit.control.status import Mode

HOLD_SECONDS = 300.0
"""For so long it only holds; then it gives back."""
_MOST_TEXT = 300


class Loss(enum.Enum):
    """What can be lost, in the words of a sentence."""

    LIBVIRT = "libvirt"
    DAMON = "DAMON"
    DISK = "the undo journal"
    CLOCK = "the clock"
    HOST = "the host's own figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Since when (monotonic seconds) something is lost, and how that was seen."""

    since: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """What was ordered and what is lost; times are monotonic seconds."""

    observe_only: bool = False
    paused_until: float | None = None
    lost: Mapping[Loss, Lost] = field(default_factory=dict)

    def paused(self, until: float | None) -> ModeState:
        """After an order to pause; None: until an order to resume."""
        return dataclasses.replace(self, paused_until=math.inf if until is None else until)

    def resumed(self) -> ModeState:
        """After an order to go on."""
        return dataclasses.replace(self, paused_until=None)

    def without(self, loss: Loss, why: str, at: float) -> ModeState:
        """Something is lost; that it has been lost for longer is not forgotten."""
        since = self.lost[loss].since if loss in self.lost else at
        return dataclasses.replace(self, lost={**self.lost, loss: Lost(since=since, why=why[:_MOST_TEXT])})

    def regained(self, loss: Loss) -> ModeState:
        """It is there again."""
        if loss not in self.lost:
            return self
        return dataclasses.replace(self, lost={k: v for k, v in self.lost.items() if k is not loss})

    def mode(self, now: float) -> Mode:
        """What it is called now."""
        if self.observe_only:
            return Mode.OBSERVE
        if self.lost:
            return Mode.SAFE
        return Mode.PAUSED if self.paused_until is not None and now < self.paused_until else Mode.ACTIVE

    def may_take(self, now: float) -> bool:
        """Whether memory may be taken."""
        return self.mode(now) is Mode.ACTIVE

    @property
    def may_give(self) -> bool:
        """Whether memory may be given back to guests that are short."""
        return not self.observe_only

    def gives_back(self, now: float) -> bool:
        """Whether it has held for long enough, and gives everything back."""
        return not self.observe_only and any(now - lost.since >= HOLD_SECONDS for lost in self.lost.values())

    def why_not(self, now: float) -> str | None:
        """Why no memory may be taken, for whoever waits for some; None: it may."""
        match self.mode(now):
            case Mode.OBSERVE:
                return "overcommitd only observes (--observe)"
            case Mode.PAUSED:
                return "overcommitd is paused and takes nothing; to end it: overcommitctl resume"
            case Mode.SAFE:
                return f"overcommitd takes nothing: it is {self.reason(now)}"
            case _:
                return None

    def reason(self, now: float) -> str | None:
        """Why it is in its mode, where that is not plain."""
        if self.mode(now) is not Mode.SAFE:
            return None
        what = "giving everything back" if self.gives_back(now) else "holding"
        return f"{what}, without {'; '.join(f'{loss.value}: {lost.why}' for loss, lost in self.lost.items())}"
