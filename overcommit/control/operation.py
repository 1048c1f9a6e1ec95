"""What the use cases need, and whom they report to."""

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
    """One piece of work of the controller: libvirt, the open generation, the policy in force.

    ``take_over``: kernel modules that use DAMON are moved aside, and restored later.
    """

    control: Control
    hypervisor: Hypervisor
    generation: Generation
    policy: Policy
    take_over: bool


class Listener(Protocol):
    """Gets the progress of a use case. The CLI and the daemon each have their own."""

    def say(self, sentence: str) -> None:
        """A step has started or ended."""
        ...

    def progress(self, sentence: str) -> None:
        """The state of the current step. Only the latest sentence matters."""
        ...

    def done(self) -> None:
        """The current step is over."""
        ...


class ActionListener(Protocol):
    """Whom `overcommit.control.applying.do` tells about each action; several are at work at a time."""

    def started(self, action: Action) -> None:
        """An action starts."""
        ...

    def progress(self, action: Action, sentence: str) -> None:
        """Where it stands."""
        ...

    def finished(self, outcome: Outcome) -> None:
        """The action has ended, and that is on record."""
        ...
