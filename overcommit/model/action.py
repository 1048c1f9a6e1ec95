"""What a plan may do: one dataclass per way of taking memory, or of giving it back."""

from __future__ import annotations

from dataclasses import dataclass

from overcommit.model.facts import Incarnation
from overcommit.model.heat import ColdPiece
from overcommit.model.policy import Actuator, GuestHelp, PageoutActor

RECALL = "recall"
"""A demotion's way back. Who may demote may recall: it is no actuator of its own."""
RELIEF = "relief"
"""A balloon's way back, likewise."""
GUEST_IN_PAIN, GUEST_IS_SHORT = "guest_in_pain", "guest_is_short"
RELIEF_REASONS = frozenset({GUEST_IN_PAIN, GUEST_IS_SHORT})
"""Why a guest is given memory that the host and its limits must have; what ends a claim has other reasons."""
PLUG = "plug"
"""The way back of virtio-mem's blocks, likewise."""
GUEST_RECLAIM = "guest_reclaim"
"""What it frees in the guest, free page reporting gives to the host."""
KSM = "ksm"
"""The host's own action: it is not of one domain, so that no class of domains allows or forbids it."""
HOST = "host"
KSM_SETTINGS = ("pages_to_scan", "advisor_target_scan_time", "advisor_mode", "run")
"""The files below ``/sys/kernel/mm/ksm`` that are ever written, in the order in which they are.

A closed set: what a plan or the undo journal calls a setting is joined to that path.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _BaseAction:
    """What all of them say.

    ``before_bytes`` and ``after_bytes`` are of what the action changes, ``expected_bytes`` what the host
    gains by it at least. ``reason`` is one word for programs, ``because`` and ``risk`` are for people.
    """

    id: str
    before_bytes: int
    after_bytes: int
    expected_bytes: int
    reason: str
    because: str
    risk: str
    blocked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _BaseDomainAction(_BaseAction):
    """What is done to one domain."""

    domain: Incarnation


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportingAction(_BaseDomainAction):
    """Have the guest compact its free memory, so that free page reporting gives it to the host.

    ``before_bytes`` and ``after_bytes`` are resident guest RAM. It cannot be done by halves:
    ``expected_bytes`` may be only what was wanted.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReclaimAction(_BaseDomainAction):
    """Let the guest's kernel reclaim what it finds idle for ``min_age_seconds``, until it is restored.

    ``before_bytes`` and ``after_bytes`` are resident guest RAM now: what it will free nobody knows before.
    """

    min_age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonAction(_BaseDomainAction):
    """Move a domain's balloon so that the guest has ``after_bytes`` instead of ``before_bytes``.

    ``expected_bytes`` is resident guest RAM above the new size. ``expected_swap_bytes`` of guest RAM in swap,
    of no use to the guest, leave their room there; that is no memory. Where ``after_bytes`` is more than
    ``before_bytes`` it is a relief: a guest gets back what it needs, and the host gains nothing.
    """

    expected_swap_bytes: int = 0

    @property
    def relieves(self) -> bool:
        """Whether the guest gets memory."""
        return self.after_bytes > self.before_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtioMemAction(_BaseDomainAction):
    """Unplug whole blocks of a virtio-mem device, down to ``after_bytes`` of it.

    ``device`` is its alias. ``expected_bytes`` of the host's memory go at least: what lies in the blocks and
    needs no other place, or what is resident above the guest's new size. Where ``after_bytes`` is more than
    ``before_bytes`` blocks are plugged back, for a guest that is short.
    """

    device: str
    block_bytes: int

    @property
    def relieves(self) -> bool:
        """Whether the guest gets memory."""
        return self.after_bytes > self.before_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PageoutAction(_BaseDomainAction):
    """Page out what of ``pieces`` is still idle when looked at again.

    ``before_bytes`` and ``after_bytes`` are resident guest RAM. The pieces hold ``expected_bytes`` and no
    more, and nothing is taken below ``after_bytes``, however much the guest gave itself since: so an actor
    that gets only them cannot take the domain below its floor (rule S1). The limits are what
    the domain may feel: PSI some, and the share of its working set that is read back per minute.
    ``expected_promotions_per_minute`` counts pages that should be read back (`Heat.promotions_per_minute`).
    """

    actor: PageoutActor
    cold_after_seconds: float
    max_bytes_per_second: int
    psi_some_limit: float
    promotions_limit: float
    working_set_bytes: int
    expected_promotions_per_minute: float
    pieces: tuple[ColdPiece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemotionAction(_BaseDomainAction):
    """Move what of ``pieces`` is still idle when looked at again to memory node ``node``.

    ``before_bytes`` and ``after_bytes`` are the domain's on that node, ``expected_bytes`` what moves there.
    The host gains nothing as a whole, and no floor applies, since nothing leaves memory. The pieces may hold
    more: what is there already.

    A recall is the way back: what is in use on ``node`` goes to node ``recall_to``. It needs no pieces, for
    nobody knows what of a domain lies where.
    """

    node: int
    cold_after_seconds: float
    max_bytes_per_second: int
    psi_some_limit: float
    pieces: tuple[ColdPiece, ...]
    recall_to: int | None = None

    @property
    def destination(self) -> int:
        """The node that gets the memory."""
        return self.node if self.recall_to is None else self.recall_to


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmAction(_BaseAction):
    """Have the kernel look for equal pages, and merge them.

    ``mergeable_bytes`` are resident and may be looked at. How many of them are equal nobody knows before, so
    that ``expected_bytes`` is 0, and ``before_bytes`` and ``after_bytes`` are what is saved already.
    ``settings`` are the files below ``/sys/kernel/mm/ksm`` to write, with their values, in order.
    """

    mergeable_bytes: int
    settings: tuple[tuple[str, str], ...]


DomainAction = (
    ReportingAction | GuestReclaimAction | VirtioMemAction | BalloonAction | DemotionAction | PageoutAction
)
Action = DomainAction | KsmAction


def subject_of(action: Action) -> str:
    """Whom an action is about, for people and programs: a domain's name, or the host."""
    return HOST if isinstance(action, KsmAction) else action.domain.name


def kind_of(action: DomainAction) -> Actuator:
    """The actuator behind an action."""
    match action:
        case ReportingAction() | GuestReclaimAction():
            return Actuator.FREE_PAGE_REPORTING
        case VirtioMemAction():
            return Actuator.VIRTIO_MEM
        case BalloonAction():
            return Actuator.BALLOON
        case DemotionAction():
            return Actuator.DEMOTION
        case PageoutAction():
            return Actuator.PAGEOUT


def guest_help_of(action: Action) -> GuestHelp | None:
    """What of the guest's owner's consent an action needs."""
    match action:
        case ReportingAction():
            return GuestHelp.COMPACTION
        case GuestReclaimAction():
            return GuestHelp.DAMON_RECLAIM
        case _:
            return None


def name_of(action: Action) -> str:
    """Its actuator, `GUEST_RECLAIM`, or the name of its way back: `RECALL`, `RELIEF` or `PLUG`."""
    match action:
        case GuestReclaimAction():
            return GUEST_RECLAIM
        case DemotionAction(recall_to=int()):
            return RECALL
        case BalloonAction(relieves=True):
            return RELIEF
        case VirtioMemAction(relieves=True):
            return PLUG
        case KsmAction():
            return KSM
        case _:
            return kind_of(action).value


def frees(action: Action) -> int:
    """What the host as a whole should gain by it: moving memory to another node brings it nothing."""
    return 0 if isinstance(action, DemotionAction) else action.expected_bytes
