"""A plan: what would change, why, and the facts behind it. Data only; it round-trips through JSON."""

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
from overcommit.model.moments import Wall
from overcommit.model.policy import Actuator, GuestHelp


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an actuator may be used on a domain. If not: the reason, and a hint what would change that."""

    ok: bool
    reason: str = ""
    hint: str = ""


def refusal(reason: str, hint: str) -> Verdict:
    """A verdict that an actuator may not be used."""
    return Verdict(ok=False, reason=reason, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A size that this program set and that somebody else changed.

    ``generation`` is the apply that set it.
    """

    domain: Incarnation
    what: str
    left_bytes: int
    found_bytes: int
    generation: int


class CachePlan(NamedTuple):
    """A guest's file cache, how much of it may be dropped, and why no more."""

    cache_bytes: int
    droppable_bytes: int
    because: str


class Cause(enum.Enum):
    """Why a permitted actuator takes nothing from a domain. The values are stable."""

    RECLAIM_OFF = "reclaim_off"
    NOT_SHORT = "host_not_short"
    """The policy takes memory only when the host is short."""
    OTHERS_GIVE = "others_give"
    """Other domains give what the host needs."""
    IN_PAIN = "in_pain"
    STEP = "step_of_class"
    """The class's step per plan is less than the smallest amount that the actuator can take."""
    LITTLE = "below_worthwhile"
    FLOOR = "at_floor"
    IN_USE = "in_use"
    """The guest uses its memory, except for the reserve that it keeps."""
    CACHE = "cache_kept"
    NOT_TOLD = "cache_not_told"
    """The guest does not report its file cache apart from its free memory."""
    NOT_READ = "not_read"
    NOT_WATCHED = "not_watched"
    WATCHED_TOO_SHORT = "watched_too_short"
    NOTHING_COLD = "nothing_cold"
    COOLDOWN = "settling"
    """The last page-out is so recent that its promotions are not known yet."""
    GUEST_CAN_GIVE = "guest_can_give"
    """The idle memory may be free in the guest, and a cheaper mechanism can take it."""
    NOT_PAGEABLE = "not_pageable"
    SHARED = "shared"
    """The idle memory may be shared with other processes, and stays while they use it."""
    NO_GAIN = "no_gain_on_pressure"
    """Moving memory between nodes frees nothing."""
    NODE_FULL = "node_full"


class Reason(NamedTuple):
    """Why an actuator takes nothing: ``cause`` for programs, ``text`` with figures for people."""

    actuator: Actuator
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A domain that the plan leaves out, and ``why``: its data makes planning impossible."""

    domain: Incarnation
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPlan:
    """A domain as the plan saw it.

    ``offers`` is what each actuator could take from it, before the host's budgets; actuators that can take
    nothing are left out. ``guest_help`` has a verdict for each kind of help inside of the guest that its
    class allows. ``cache`` is None where it is not known. ``gives_nothing`` has a reason for each permitted
    actuator, where the plan has no action for the domain.
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

    ``available_bytes`` is what guests can get. ``idle_bytes`` of ``lru_bytes`` have been idle for
    ``idle_after_seconds``, whatever uses them; None: the host was not watched.
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
    budget: HostBudget
    idle_bytes: int | None = None
    idle_after_seconds: float | None = None

    @property
    def headroom_bytes(self) -> int:
        """Available memory above the reserve and reservations; negative where there is less than those."""
        return self.available_bytes - self.reserve_bytes - self.reserved_bytes

    @property
    def short_bytes(self) -> int:
        """The bytes that are missing; 0: none.

        Reserved memory must be free now, because memory that ZFS frees first may come too late. The host's
        own reserve may count on ZFS.
        """
        missing = max(0, -self.headroom_bytes)
        if not self.reserved_bytes:
            return missing
        return max(missing, self.reserve_bytes + self.reserved_bytes - self.budget.free_now_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The actions that `apply` may carry out, with the facts behind them.

    ``stopped`` says why nothing is paged out at all (`overcommit.plan.main_job`). ``emergency``: the host is
    near its own OOM, so that no action waits. A plan without ``addresses`` is for readers who must not know
    QEMU's addresses, and cannot be applied.
    """

    created_at: Wall
    expires_at: Wall
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
        """The same with sums only, without the cold pieces and the idle time of each."""
        with_pieces = PageoutAction | DemotionAction
        actions = (
            dataclasses.replace(action, pieces=()) if isinstance(action, with_pieces) else action
            for action in self.actions
        )
        return dataclasses.replace(self, actions=tuple(actions), addresses=False)

    @property
    def expected_bytes(self) -> int:
        """The gain of all actions that are not blocked.

        The gain of KSM is not known before, and is not included.
        """
        return sum(frees(a) for a in self.runnable)

    def change_of(self, domain: Incarnation) -> int:
        """Bytes by which a guest's own memory grows; negative: shrinks."""
        own = (a for a in self.runnable if isinstance(a, VirtioMemAction | BalloonAction))
        return sum(a.after_bytes - a.before_bytes for a in own if a.domain == domain)

    @property
    def given_bytes(self) -> int:
        """Bytes that short guests get back."""
        own = (a for a in self.runnable if isinstance(a, VirtioMemAction | BalloonAction))
        return sum(a.after_bytes - a.before_bytes for a in own if a.relieves)

    @property
    def swap_given_bytes(self) -> int:
        """Bytes of swap that ballooned guests should free. That is no memory."""
        return sum(a.expected_swap_bytes for a in self.runnable if isinstance(a, BalloonAction))

    @property
    def moving_bytes(self) -> int:
        """Bytes that should move to another memory node."""
        return sum(a.expected_bytes for a in self.runnable if isinstance(a, DemotionAction))

    @property
    def needs_damon(self) -> bool:
        """Whether applying it needs a kdamond."""
        return any(
            isinstance(a, DemotionAction) or (isinstance(a, PageoutAction) and a.actor.by_kdamond)
            for a in self.runnable
        )

    @property
    def runnable(self) -> tuple[Action, ...]:
        """The actions that are not blocked, in the order in which they are carried out."""
        return tuple(a for a in self.actions if a.blocked is None)
