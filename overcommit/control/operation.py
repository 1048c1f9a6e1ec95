"""What the use cases work with, and whom they tell about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from overcommit.control.one_controller import Control
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.action import Action
from overcommit.model.outcome import Outcome
from overcommit.model.policy import Policy
from overcommit.records.journal import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One piece of work of the one controller: libvirt, the open generation, the policy in force.

    ``take_over``: modules of the kernel that use DAMON are moved aside, and put back by restore.
    """

    control: Control
    hypervisor: Hypervisor
    generation: Generation
    policy: Policy
    take_over: bool


class Listener(Protocol):
    """Whom a use case tells where it stands; each face has its own."""

    def say(self, sentence: str) -> None:
        """A step that has begun or ended."""
        ...

    def progress(self, sentence: str) -> None:
        """Where the current step stands; only the latest matters."""
        ...

    def done(self) -> None:
        """The current step is over."""
        ...


class ActionListener(Protocol):
    """Whom `overcommit.control.applying.do` tells about each action; several are at work at a time."""

    def started(self, action: Action) -> None:
        """An action begins."""
        ...

    def progress(self, action: Action, sentence: str) -> None:
        """Where it stands."""
        ...

    def finished(self, outcome: Outcome) -> None:
        """It has ended, and that is on record."""
        ...
