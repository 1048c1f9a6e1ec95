"""A plan: what would change, why, and what it rests on. Data only; it round-trips through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overcommit.model.facts import Gap, Incarnation
from overcommit.model.heat import ColdPiece, IdleBucket
from overcommit.model.policy import Actuator, PageoutActor

RECALL = "recall"
"""A demotion's way back. Who may demote may recall: it is no actuator of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an actuator may be used on a domain; when not, why, and what would change that."""

    ok: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonAction:
    """Move a domain's balloon so that the guest has ``after_bytes`` instead of ``before_bytes``.

    ``expected_bytes`` is what the host gains at least: resident guest RAM above the new size.
    """

    id: str
    domain: Incarnation
    before_bytes: int
    after_bytes: int
    expected_bytes: int
    reason: str
    because: str
    risk: str
    blocked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageoutAction:
    """Page out what of ``pieces`` is still idle when looked at again.

    ``before_bytes`` and ``after_bytes`` are resident guest RAM. The pieces hold ``expected_bytes`` and no
    more: an actor that gets only them cannot take the domain below its floor (rule S1). The limits are what
    the domain may feel: PSI some, and the share of its working set that is read back per minute.
    """

    id: str
    domain: Incarnation
    before_bytes: int
    after_bytes: int
    expected_bytes: int
    actor: PageoutActor
    cold_after_seconds: float
    max_bytes_per_second: int
    psi_some_limit: float
    promotions_limit: float
    working_set_bytes: int
    pieces: tuple[ColdPiece, ...]
    reason: str
    because: str
    risk: str
    blocked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemotionAction:
    """Move what of ``pieces`` is still idle when looked at again to memory node ``node``.

    ``before_bytes`` and ``after_bytes`` are the domain's on that node, ``expected_bytes`` what moves there.
    The host gains nothing as a whole, and no floor applies, since nothing leaves memory. The pieces may hold
    more: what is there already.

    A recall is the way back: what is in use on ``node`` goes to node ``recall_to``. It needs no pieces, for
    nobody knows what of a domain lies where.
    """

    id: str
    domain: Incarnation
    node: int
    before_bytes: int
    after_bytes: int
    expected_bytes: int
    cold_after_seconds: float
    max_bytes_per_second: int
    psi_some_limit: float
    pieces: tuple[ColdPiece, ...]
    reason: str
    because: str
    risk: str
    blocked: str | None = None
    recall_to: int | None = None

    @property
    def destination(self) -> int:
        """The node that gets the memory."""
        return self.node if self.recall_to is None else self.recall_to


Action = BalloonAction | DemotionAction | PageoutAction


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPlan:
    """A domain as the plan saw it."""

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
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """The host as the plan saw it.

    ``idle_bytes`` of its ``lru_bytes`` have been idle for ``idle_after_seconds``, whoever uses them.
    """

    name: str
    kernel: str
    boot_id: str
    total_bytes: int
    available_bytes: int
    promised_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    reserve_bytes: int
    reserved_bytes: int
    lru_bytes: int
    idle_bytes: int | None
    idle_after_seconds: float | None

    @property
    def headroom_bytes(self) -> int:
        """Available memory above the reserve and what was promised; negative when those are eaten into."""
        return self.available_bytes - self.reserve_bytes - self.reserved_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that `apply` may do, with the facts it rests on."""

    created_at: float
    expires_at: float
    policy_source: str
    policy_digest: str
    host: HostPlan
    domains: tuple[DomainPlan, ...]
    actions: tuple[Action, ...]
    notes: tuple[str, ...] = ()

    @property
    def expected_bytes(self) -> int:
        """What all actions that are not blocked should bring back."""
        return sum(a.expected_bytes for a in self.runnable if not isinstance(a, DemotionAction))

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


def name_of(action: Action) -> str:
    """What an action is called: by its actuator, or `RECALL`."""
    recalls = isinstance(action, DemotionAction) and action.recall_to is not None
    return RECALL if recalls else kind_of(action).value


def kind_of(action: Action) -> Actuator:
    """The actuator behind an action."""
    match action:
        case BalloonAction():
            return Actuator.BALLOON
        case DemotionAction():
            return Actuator.DEMOTION
        case PageoutAction():
            return Actuator.PAGEOUT
