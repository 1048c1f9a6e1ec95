"""A plan: what would change, why, and what it rests on. Data only; it round-trips through JSON."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    PageoutAction,
    VirtioMemAction,
    frees,
)
from overcommit.model.budget import HostBudget
from overcommit.model.facts import Gap, Incarnation
from overcommit.model.heat import IdleBucket
from overcommit.model.policy import Actuator, GuestHelp


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an actuator may be used on a domain; when not, why, and what would change that."""

    ok: bool
    reason: str = ""
    hint: str = ""


def refusal(reason: str, hint: str) -> Verdict:
    """A verdict against."""
    return Verdict(ok=False, reason=reason, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Something we set that is not as we left it, in which generation we did."""

    domain: Incarnation
    what: str
    left_bytes: int
    found_bytes: int
    generation: int


class CachePlan(NamedTuple):
    """A guest's file cache, what of it may go, and why no more."""

    cache_bytes: int
    droppable_bytes: int
    because: str


class Cause(enum.Enum):
    """Why an actuator that may be used on a domain takes nothing from it; its value is stable."""

    RECLAIM_OFF = "reclaim_off"
    NOT_SHORT = "host_not_short"
    """The policy takes only from a host that is short."""
    OTHERS_GIVE = "others_give"
    """What the host is short of, other domains give."""
    IN_PAIN = "in_pain"
    STEP = "step_of_class"
    """What its class lets one plan take is less than what it can give at a time."""
    LITTLE = "below_worthwhile"
    FLOOR = "at_floor"
    IN_USE = "in_use"
    """The guest uses what it has, but for the reserve that it keeps."""
    CACHE = "cache_kept"
    NOT_TOLD = "cache_not_told"
    """The guest does not tell its file cache from its free memory."""
    NOT_READ = "not_read"
    NOT_WATCHED = "not_watched"
    WATCHED_TOO_SHORT = "watched_too_short"
    NOTHING_COLD = "nothing_cold"
    COOLDOWN = "settling"
    """The last page-out is so fresh that its price is not known."""
    GUEST_CAN_GIVE = "guest_can_give"
    """What is idle may be memory that the guest does not use, and gives by cheaper means."""
    NOT_PAGEABLE = "not_pageable"
    SHARED = "shared"
    """What is idle may be shared with others, and stays as long as they use it."""
    NO_GAIN = "no_gain_on_pressure"
    """To move memory from node to node frees nothing."""
    NODE_FULL = "node_full"


class Reason(NamedTuple):
    """Why an actuator takes nothing: ``cause``, and the same with its figures, in words."""

    actuator: Actuator
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A domain without which the plan was made, and ``why``: with it there would be none."""

    domain: Incarnation
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPlan:
    """A domain as the plan saw it.

    ``offers`` is what each rung of the ladder could take from it, before the host's budgets; rungs that have
    nothing to give are left out. ``guest_help`` judges what its class allows to be done inside of the guest.
    ``cache``: None, not known. ``gives_nothing`` has a reason for each actuator that may be used, where the
    plan has no action for the domain.
    """

    incarnation: Incarnation
    class_name: str
    resident_bytes: int | None
    swapped_bytes: int | None
    hot_bytes: int | None
    warm_bytes: int | None
    cold_bytes: int | None
    wss_bytes: int | None
    idle_histogram: tuple[IdleBucket, ...]
    floor_bytes: int
    ceiling_bytes: int
    actual_bytes: int
    target_bytes: int
    confidence: str
    eligible: Mapping[Actuator, Verdict]
    guest_help: Mapping[GuestHelp, Verdict]
    offers: Mapping[Actuator, int]
    gaps: tuple[Gap, ...]
    cache: CachePlan | None = None
    gives_nothing: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """The host as the plan saw it.

    ``available_bytes`` is what guests can get. ``idle_bytes`` of its ``lru_bytes`` have been idle for
    ``idle_after_seconds``, whoever uses them.
    """

    name: str
    kernel: str
    boot_id: str
    total_bytes: int
    available_bytes: int
    running_domains: int
    promised_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    reserve_bytes: int
    reserved_bytes: int
    lru_bytes: int
    idle_bytes: int | None
    idle_after_seconds: float | None
    budget: HostBudget

    @property
    def headroom_bytes(self) -> int:
        """Available memory above the reserve and what was promised; negative when those are eaten into."""
        return self.available_bytes - self.reserve_bytes - self.reserved_bytes

    @property
    def short_bytes(self) -> int:
        """What is missing, 0 where nothing is.

        What was promised must be free now: memory that ZFS has to give back first may come too late for who
        was promised it. The reserve alone may rest on that.
        """
        missing = max(0, -self.headroom_bytes)
        if not self.reserved_bytes:
            return missing
        return max(missing, self.reserve_bytes + self.reserved_bytes - self.budget.free_now_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that `apply` may do, with the facts it rests on.

    ``stopped`` says why nothing is paged out at all (`overcommit.plan.main_job`).
    ``emergency``: the host is near its own OOM, so that nothing should wait for anything. Without
    ``addresses`` it is for somebody to read who may not know where QEMU's memory lies, and cannot be applied.
    """

    created_at: float
    expires_at: float
    policy_source: str
    policy_digest: str
    host: HostPlan
    domains: tuple[DomainPlan, ...]
    actions: tuple[Action, ...]
    drift: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()
    emergency: bool = False
    left_out: tuple[LeftOut, ...] = ()
    stopped: str | None = None
    addresses: bool = True

    def without_addresses(self) -> Plan:
        """The same with sums only: no piece of any process, and when it was used last, is told."""
        with_pieces = PageoutAction | DemotionAction
        actions = (
            dataclasses.replace(action, pieces=()) if isinstance(action, with_pieces) else action
            for action in self.actions
        )
        return dataclasses.replace(self, actions=tuple(actions), addresses=False)

    @property
    def expected_bytes(self) -> int:
        """What all actions that are not blocked should bring back; what merging will is not known before."""
        return sum(frees(a) for a in self.runnable)

    def change_of(self, domain: Incarnation) -> int:
        """By how much a guest's own memory grows, or shrinks."""
        own = (a for a in self.runnable if isinstance(a, VirtioMemAction | BalloonAction))
        return sum(a.after_bytes - a.before_bytes for a in own if a.domain == domain)

    @property
    def given_bytes(self) -> int:
        """What guests that are short get back."""
        own = (a for a in self.runnable if isinstance(a, VirtioMemAction | BalloonAction))
        return sum(a.after_bytes - a.before_bytes for a in own if a.relieves)

    @property
    def swap_given_bytes(self) -> int:
        """What room in swap guests that are ballooned should leave; it is no memory."""
        return sum(a.expected_swap_bytes for a in self.runnable if isinstance(a, BalloonAction))

    @property
    def moving_bytes(self) -> int:
        """What should go to another memory node."""
        return sum(a.expected_bytes for a in self.runnable if isinstance(a, DemotionAction))

    @property
    def needs_damon(self) -> bool:
        """Whether carrying it out takes a kdamond."""
        return any(
            isinstance(a, DemotionAction) or (isinstance(a, PageoutAction) and a.actor.by_kdamond)
            for a in self.runnable
        )

    @property
    def runnable(self) -> tuple[Action, ...]:
        """The actions that are not blocked, in the order they are carried out."""
        return tuple(a for a in self.actions if a.blocked is None)
