"""The actions of a plan: one dataclass for each way to take memory or to give it back."""

from __future__ import annotations

from dataclasses import dataclass

from overcommit.model.facts import Incarnation
from overcommit.model.heat import ColdPiece
from overcommit.model.policy import Actuator, GuestHelp, PageoutActor

RECALL = "recall"
"""The reverse of a demotion. A class that allows demotion allows recall; it is no actuator of its own."""
RELIEF = "relief"
"""The reverse of a balloon action: the guest gets memory. No actuator of its own."""
GUEST_IN_PAIN, GUEST_IS_SHORT = "guest_in_pain", "guest_is_short"
RELIEF_REASONS = frozenset({GUEST_IN_PAIN, GUEST_IS_SHORT})
"""Reasons to give memory back for which the host and its limits must have room. The end of a claim has other
reasons.
"""
PLUG = "plug"
"""The reverse of a virtio-mem action: the guest gets blocks. No actuator of its own."""
GUEST_RECLAIM = "guest_reclaim"
"""The name of guest reclaim. Free page reporting gives what it frees in the guest to the host."""
KSM = "ksm"
"""The name of page merging. It is an action of the host, not of a domain, so no domain class allows or
forbids it.
"""
HOST = "host"
KSM_SETTINGS = ("pages_to_scan", "advisor_target_scan_time", "advisor_mode", "run")
"""The files below ``/sys/kernel/mm/ksm`` that may be written, in the order of the writes.

The set is closed, because a setting's name in a plan or in the undo journal becomes a part of a path.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _BaseAction:
    """Fields of every action.

    ``before_bytes`` and ``after_bytes`` are sizes of the thing that the action changes. ``expected_bytes`` is
    the least that the host gains. ``reason`` is one word for programs. ``because`` and ``risk`` are sentences
    for people. ``blocked`` says why the action is not carried out; None: it is.
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
    """An action on one domain."""

    domain: Incarnation


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportingAction(_BaseDomainAction):
    """Compact the guest's free memory, so that free page reporting gives it to the host.

    ``before_bytes`` and ``after_bytes`` are resident guest RAM. The guest compacts everything or nothing, so
    ``expected_bytes`` may be only the amount that was needed.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReclaimAction(_BaseDomainAction):
    """Let the guest's kernel reclaim memory that it finds idle for ``min_age_seconds`` (DAMON_RECLAIM).

    It stays on until it is restored. ``before_bytes`` and ``after_bytes`` are both the resident guest RAM
    now, because the amount that the guest will free is not known before.
    """

    min_age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonAction(_BaseDomainAction):
    """Resize a domain's balloon so that the guest has ``after_bytes`` instead of ``before_bytes``.

    ``expected_bytes`` is resident guest RAM above the new size. ``expected_swap_bytes`` of guest RAM are in
    swap and leave it; that frees swap, not memory. Where ``after_bytes`` is more than ``before_bytes``, the
    guest gets memory, and the host gains nothing.
    """

    expected_swap_bytes: int = 0

    @property
    def relieves(self) -> bool:
        """Whether the guest gets memory."""
        return self.after_bytes > self.before_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtioMemAction(_BaseDomainAction):
    """Unplug whole blocks of a virtio-mem device, down to ``after_bytes``.

    ``device`` is the device's alias. ``expected_bytes`` is the least that the host gains: resident memory in
    the blocks that needs no other place, or resident memory above the guest's new size. Where ``after_bytes``
    is more than ``before_bytes``, the guest is short and gets blocks.
    """

    device: str
    block_bytes: int

    @property
    def relieves(self) -> bool:
        """Whether the guest gets memory."""
        return self.after_bytes > self.before_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PageoutAction(_BaseDomainAction):
    """Page out the memory in ``pieces`` that is still idle at a second check.

    ``before_bytes`` and ``after_bytes`` are resident guest RAM. The pieces hold no more than
    ``expected_bytes``, and nothing is taken below ``after_bytes``, also when the guest gave memory by itself
    meanwhile. An actor that gets only the pieces cannot take the domain below its floor (rule S1).
    ``psi_some_limit`` (share of time) and ``promotions_limit`` (share of the working set per minute) are the
    domain's SLO. ``expected_promotions_per_minute`` is in pages (`Heat.promotions_per_minute`).
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
    """Move the memory in ``pieces`` that is still idle at a second check to memory node ``node``.

    ``before_bytes`` and ``after_bytes`` are the domain's bytes on that node; ``expected_bytes`` move there.
    The host as a whole gains nothing, and no floor applies, because nothing leaves memory. The pieces may
    hold more than that: memory that is on the node already.

    A recall is the reverse: memory in use on ``node`` moves to node ``recall_to``. It has no pieces, because
    the place of each page is not known.
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
    """Have the kernel scan for equal pages and merge them (KSM).

    ``mergeable_bytes`` are resident and may be scanned. The number of equal pages is not known before, so
    ``expected_bytes`` is 0, and ``before_bytes`` and ``after_bytes`` are both what is saved now. ``settings``
    are the files below ``/sys/kernel/mm/ksm`` to write, with their values, in order.
    """

    mergeable_bytes: int
    settings: tuple[tuple[str, str], ...]


DomainAction = (
    ReportingAction | GuestReclaimAction | VirtioMemAction | BalloonAction | DemotionAction | PageoutAction
)
Action = DomainAction | KsmAction


def subject_of(action: Action) -> str:
    """The subject of an action, for people and programs: a domain's name, or the host."""
    return HOST if isinstance(action, KsmAction) else action.domain.name


def kind_of(action: DomainAction) -> Actuator:
    """The actuator that carries out an action."""
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
    """The help inside of the guest that an action needs its class to allow; None: none."""
    match action:
        case ReportingAction():
            return GuestHelp.COMPACTION
        case GuestReclaimAction():
            return GuestHelp.DAMON_RECLAIM
        case _:
            return None


def name_of(action: Action) -> str:
    """The action's name: its actuator, `GUEST_RECLAIM`, or `RECALL`, `RELIEF` or `PLUG`."""
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
    """Bytes that the host as a whole should gain. Moving memory to another node gains 0."""
    return 0 if isinstance(action, DemotionAction) else action.expected_bytes
