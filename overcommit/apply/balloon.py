"""Move one balloon: down in steps, watching the guest, and with proof that the host got it; up at once."""

from __future__ import annotations

import contextlib

from overcommit.apply.worksite import Worksite
from overcommit.errors import HostError
from overcommit.journal import BalloonMoved
from overcommit.model.action import BalloonAction
from overcommit.model.facts import BalloonStats, DomainFacts
from overcommit.model.outcome import Outcome, Status
from overcommit.plan.case import guest_reserve, worthwhile
from overcommit.units import MIB, format_size

_TOLERANCE_BYTES = MIB
_STUCK_SECONDS = 30.0
_STEP_SECONDS = 300.0
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
    return _ascend(site, action, domain) if action.relieves else _squeeze(site, action, domain)


def _ascend(site: Worksite, action: BalloonAction, domain: DomainFacts) -> Outcome:
    """Give the guest its memory at once: it is short. Whether it touches it is its own affair."""
    began = site.clock.monotonic()
    reached = action.before_bytes
    try:
        site.require_willing(domain)
    except HostError as error:
        return _outcome(site, action, Status.FAILED, 0, 0, began, str(error))
    site.generation.record(_move(action))
    try:
        site.hypervisor.set_balloon(action.domain.uuid, action.after_bytes)
        while reached < action.after_bytes - _TOLERANCE_BYTES:
            site.clock.wait(_POLL_SECONDS)
            site.require_alive(domain)
            reached = site.hypervisor.balloon(action.domain.uuid, now=site.clock.now()).actual_bytes
            if site.clock.monotonic() - began > _STUCK_SECONDS:
                why = f"the guest has taken only {format_size(reached)} yet; the target is set"
                return _outcome(site, action, Status.PARTIAL, 0, 0, began, why)
    except HostError as error:
        return _outcome(site, action, Status.FAILED, 0, 0, began, str(error))
    return _outcome(site, action, Status.DONE, 0, 0, began, f"balloon at {format_size(reached)}")


def _move(action: BalloonAction) -> BalloonMoved:
    return BalloonMoved(
        domain=action.domain, before_bytes=action.before_bytes, after_bytes=action.after_bytes
    )


def _squeeze(site: Worksite, action: BalloonAction, domain: DomainFacts) -> Outcome:
    began = site.clock.monotonic()
    try:
        site.require_willing(domain)
        before = site.residency(domain).resident_bytes
        faults = _major_faults(site, domain)
    except HostError as error:
        return _outcome(site, action, Status.FAILED, 0, 0, began, str(error))
    site.generation.record(_move(action))
    freed = promoted = 0
    try:
        status, detail, reached = _descend(site, action, domain)
        freed = before - site.residency(domain).resident_bytes
        due = min(before, action.before_bytes) - reached
        if due >= worthwhile(action.before_bytes) and freed < _PHANTOM_SHARE * due:
            site.hypervisor.set_balloon(action.domain.uuid, action.before_bytes)
            status = Status.UNDONE
            detail = (
                f"the guest gave {format_size(action.before_bytes - reached)} but the host "
                f"got {format_size(freed)}: given back"
            )
        promoted = _major_faults(site, domain) - faults
    except HostError as error:
        status, detail = (Status.PARTIAL if freed > 0 else Status.FAILED), str(error)
    return _outcome(site, action, status, max(0, freed), promoted, began, detail)


def _descend(site: Worksite, action: BalloonAction, domain: DomainFacts) -> tuple[Status, str, int]:
    """Go down step by step; returns how that ended, why, and the size reached.

    Whatever ends it early, no target is left that the guest has not reached: it would keep trying, against
    its own pain, with nobody watching.
    """
    step = max(round(_STEP_SHARE * action.before_bytes), 32 * MIB)
    reached = target = action.before_bytes
    try:
        while target > action.after_bytes:
            previous, target = reached, max(action.after_bytes, target - step)
            site.require_alive(domain)
            site.hypervisor.set_balloon(action.domain.uuid, target)
            stats, usable = _settle(site, action, domain, target)
            reached = min(stats.actual_bytes, action.before_bytes)  # the guest's word cannot raise it
            site.progress(f"balloon at {format_size(reached)}")
            if reached > target + _TOLERANCE_BYTES:
                site.require_alive(domain)
                site.hypervisor.set_balloon(action.domain.uuid, reached)
                return Status.PARTIAL, f"the balloon stands still at {format_size(reached)}", reached
            if usable is None or usable < _pain_limit(action):
                site.require_alive(domain)
                site.hypervisor.set_balloon(action.domain.uuid, previous)
                says = "no longer answers" if usable is None else f"has only {format_size(usable)} available"
                return Status.PARTIAL, f"one step back to {format_size(previous)}: the guest {says}", previous
    except BaseException:
        with contextlib.suppress(HostError):
            site.require_alive(domain)
            site.hypervisor.set_balloon(action.domain.uuid, reached)
        raise
    return Status.DONE, f"balloon at {format_size(reached)}", reached


def _settle(
    site: Worksite, action: BalloonAction, domain: DomainFacts, target: int
) -> tuple[BalloonStats, int | None]:
    """Wait until the balloon is there or stands still, then for what the guest says *after* that.

    Returns:
        The balloon, and the guest's available bytes; None when it did not answer in time.
    """
    best = action.before_bytes
    began = moved_at = site.clock.monotonic()
    settled_at: float | None = None
    patience = max(_STUCK_SECONDS, 2 * domain.definition.stats_period_seconds + 2)
    while True:
        stats = site.hypervisor.balloon(action.domain.uuid, now=site.clock.now())
        now = site.clock.monotonic()
        if stats.actual_bytes <= best - MIB:
            best, moved_at = stats.actual_bytes, now
        there = abs(stats.actual_bytes - target) <= _TOLERANCE_BYTES
        if settled_at is None and (there or now - moved_at > _STUCK_SECONDS or now - began > _STEP_SECONDS):
            settled_at = now
        if settled_at is not None:
            since = now - settled_at
            if stats.age_seconds is not None and stats.age_seconds <= since:
                return stats, stats.usable_bytes
            if since > patience:
                return stats, None
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
