"""What others know of the controller, and what they ask of it: frozen, of one moment. Pure."""

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
    """What a tick is to do beside looking.

    ``replan``: plan, and begin what the plan says. ``show``: somebody wants to see a plan, and nothing is to
    be begun for that. ``new_policy``: the policy was read again, and is to be in force.
    """

    replan: bool = False
    show: bool = False
    new_policy: bool = False


LOOK_ONLY = TickRequest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Memory that somebody waits for; nothing is taken from the domain that it is for.

    ``reservation`` counts as promised meanwhile; None: nothing is freed for it any more.
    """

    purpose: str | None
    reservation: Reservation | None


NOTHING_WANTED = Want(purpose=None, reservation=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the controller did since it began, and may do now.

    ``swap`` is what page-outs may do; None before the first reading. ``actions`` are counts of those that
    ended (`overcommit.daemon.tally.ActionTally`), ``monitor_threads`` those of DAMON that watch for us.
    """

    swap: SwapVerdict | None
    actions: tuple[Mapping[str, Any], ...]
    monitor_threads: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How the controller stands now. None before anything was looked at.

    ``host`` is of the latest tick; ``snapshot``, ``plan`` and ``past`` of the latest plan, but that ``past``
    and ``generations`` are read again after they were changed.
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
    """Memory is being freed for somebody who waits."""
    at_work: tuple[Action, ...]
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainState:
    """How the controller stands with one domain.

    ``rests``: nothing is taken from it for a while. ``hurt`` is why where it felt more than it may.
    ``faulty``: something went wrong with it.
    """

    standing: Standing
    rests: bool
    hurt: str | None
    faulty: bool
