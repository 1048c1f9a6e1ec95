"""The controller's state for others, and their requests: frozen, of one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overcommit.control.status import Standing
from overcommit.daemon.mode_state import ModeState
from overcommit.model.action import Action
from overcommit.model.facts import HostFacts, Snapshot
from overcommit.model.past import Past, Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Policy
from overcommit.plan.swap_budget import SwapVerdict
from overcommit.records.journal import GenerationSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class TickRequest:
    """What a tick does besides reading.

    ``replan``: plan, and start the plan's actions. ``show``: make a plan to be shown, and start nothing for
    it. ``new_policy``: the policy was read again, and takes effect.
    """

    replan: bool = False
    show: bool = False
    new_policy: bool = False


LOOK_ONLY = TickRequest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Memory for a waiting request. Nothing is taken from the domain that it is for.

    ``reservation`` counts as reserved meanwhile; None: nothing is freed for it any more.
    """

    purpose: str | None
    reservation: Reservation | None


NOTHING_WANTED = Want(purpose=None, reservation=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the controller has done since its start, and may do now.

    ``swap`` is what page-outs may do; None before the first reading. ``actions`` are counts of those that
    ended (`overcommit.daemon.tally.ActionTally`). ``monitor_threads`` are DAMON's threads for monitors.
    """

    swap: SwapVerdict | None
    actions: tuple[Mapping[str, Any], ...]
    monitor_threads: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The controller's present state. None before the first reading.

    ``host`` is of the latest tick. ``snapshot``, ``plan`` and ``past`` are of the latest plan; ``past`` and
    ``generations`` are read again after a change.
    """

    ticks: int
    mode_state: ModeState
    policy: Policy
    policy_refused: str | None
    host: HostFacts | None
    snapshot: Snapshot | None
    plan: Plan | None
    past: Past
    generations: tuple[GenerationSummary, ...]
    emergency: bool
    frees: bool
    """Memory is being freed for a waiting request."""
    at_work: tuple[Action, ...]
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainState:
    """The controller's state of one domain.

    ``rests``: nothing is taken from it for a while. ``hurt``: the figure that exceeded its SLO; None: none.
    ``faulty``: an error occurred with it.
    """

    standing: Standing
    rests: bool
    hurt: str | None
    faulty: bool
