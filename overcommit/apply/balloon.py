"""Move one balloon down in steps, watching the guest, and check that the host got the memory."""

from __future__ import annotations

from overcommit.apply.worksite import Worksite
from overcommit.errors import HostError
from overcommit.journal import BalloonMoved
from overcommit.model.facts import BalloonStats, DomainFacts
from overcommit.model.outcome import Outcome, Status
from overcommit.model.plan import BalloonAction
from overcommit.plan.rungs import guest_reserve
from overcommit.units import MIB, format_size

_TOLERANCE_BYTES = MIB
_STUCK_SECONDS = 30.0
_POLL_SECONDS = 1.0
_STEP_SHARE = 0.125
"""Of the guest's size per step: a guest that must drop cache gets time to, and we get time to see pain."""
_PHANTOM_SHARE = 0.5
"""A balloon that took what it should, while the host got less than this, gives the memory back (S6)."""


def move_balloon(site: Worksite, action: BalloonAction, domain: DomainFacts) -> Outcome:
    """Carry out one balloon action; never raises for what a guest does.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    began = site.clock.monotonic()
    try:
        before = site.residency(domain)
        faults = _major_faults(site, domain)
    except HostError as error:
        return _outcome(site, action, Status.FAILED, 0, 0, began, str(error))
    site.generation.record(
        BalloonMoved(domain=action.domain, before_bytes=action.before_bytes, after_bytes=action.after_bytes)
    )
    try:
        status, detail = _descend(site, action, domain)
        freed = before.resident_bytes - site.residency(domain).resident_bytes
        if status is Status.DONE and freed < _PHANTOM_SHARE * action.expected_bytes:
            site.hypervisor.set_balloon(action.domain.uuid, action.before_bytes)
            status = Status.UNDONE
            detail = (
                f"the guest gave {format_size(action.before_bytes - action.after_bytes)} but the host "
                f"got {format_size(freed)}: given back"
            )
        promoted = _major_faults(site, domain) - faults
    except HostError as error:
        return _outcome(site, action, Status.FAILED, 0, 0, began, str(error))
    return _outcome(site, action, status, max(0, freed), promoted, began, detail)


def _descend(site: Worksite, action: BalloonAction, domain: DomainFacts) -> tuple[Status, str]:
    step = max(round(_STEP_SHARE * action.before_bytes), 32 * MIB)
    reached = target = action.before_bytes
    while target > action.after_bytes:
        target = max(action.after_bytes, target - step)
        site.require_alive(domain)
        site.hypervisor.set_balloon(action.domain.uuid, target)
        stats = _settle(site, action, target)
        reached = stats.actual_bytes
        site.progress(f"balloon at {format_size(reached)}")
        if reached > target + _TOLERANCE_BYTES:
            # A target out of reach would keep the guest trying, against its own pain, for ever.
            site.require_alive(domain)
            site.hypervisor.set_balloon(action.domain.uuid, reached)
            return Status.PARTIAL, f"the balloon stands still at {format_size(reached)}"
        if target > action.after_bytes and (stats.usable_bytes or 0) < _pain_limit(action):
            left = format_size(stats.usable_bytes or 0)
            return Status.PARTIAL, f"stopped at {format_size(reached)}: the guest has only {left} available"
    return Status.DONE, f"balloon at {format_size(reached)}"


def _settle(site: Worksite, action: BalloonAction, target: int) -> BalloonStats:
    """Wait until the balloon has reached the target, or has stood still for too long."""
    best = action.before_bytes
    moved_at = site.clock.monotonic()
    while True:
        stats = site.hypervisor.balloon(action.domain.uuid, now=site.clock.now())
        if abs(stats.actual_bytes - target) <= _TOLERANCE_BYTES:
            return stats
        if stats.actual_bytes < best:
            best, moved_at = stats.actual_bytes, site.clock.monotonic()
        if site.clock.monotonic() - moved_at > _STUCK_SECONDS:
            return stats
        site.clock.wait(_POLL_SECONDS)


def _pain_limit(action: BalloonAction) -> int:
    return guest_reserve(action.before_bytes) // 2


def _major_faults(site: Worksite, domain: DomainFacts) -> int:
    cgroup = site.cgroup(domain)
    return cgroup.major_faults if cgroup else 0


def _outcome(
    site: Worksite,
    action: BalloonAction,
    status: Status,
    freed: int,
    promoted: int,
    began: float,
    detail: str,
) -> Outcome:
    return Outcome(
        action=action,
        status=status,
        freed_bytes=freed,
        promoted_pages=promoted,
        seconds=site.clock.monotonic() - began,
        detail=detail,
    )
