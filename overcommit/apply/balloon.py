"""Move one balloon: down in steps, watching the guest, and with proof that the host got it; up at once."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from overcommit.apply.worksite import Worksite
from overcommit.errors import HostError
from overcommit.journal import BalloonMoved
from overcommit.model.action import BalloonAction
from overcommit.model.facts import BalloonStats, DomainFacts
from overcommit.model.outcome import Fault, Outcome, Status
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


class _End(NamedTuple):
    """How it ended, why, where the balloon was left (None: untouched), and what the guest did wrong."""

    status: Status
    detail: str
    left_at: int | None
    fault: Fault | None = None


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
        return _outcome(site, action, _End(Status.FAILED, str(error), None), began)
    site.generation.record(_move(action, action.after_bytes))
    try:
        site.hypervisor.set_balloon(action.domain.uuid, action.after_bytes)
    except HostError as error:
        says = f"{error}{_note(site, action, action.before_bytes)}"
        return _outcome(site, action, _End(Status.FAILED, says, action.before_bytes), began)
    end = _End(Status.DONE, "", action.after_bytes)
    try:
        while reached < action.after_bytes - _TOLERANCE_BYTES:
            site.clock.wait(_POLL_SECONDS)
            site.require_alive(domain)
            reached = site.hypervisor.balloon(action.domain.uuid, now=site.clock.now()).actual_bytes
            if site.clock.monotonic() - began > _STUCK_SECONDS:
                why = f"the guest has taken only {format_size(reached)} yet; the target is set"
                return _outcome(site, action, end._replace(status=Status.PARTIAL, detail=why), began)
    except HostError as error:
        return _outcome(site, action, end._replace(status=Status.FAILED, detail=str(error)), began)
    return _outcome(site, action, end._replace(detail=f"balloon at {format_size(reached)}"), began)


def _move(action: BalloonAction, size: int) -> BalloonMoved:
    return BalloonMoved(domain=action.domain, before_bytes=action.before_bytes, after_bytes=size)


def _squeeze(site: Worksite, action: BalloonAction, domain: DomainFacts) -> Outcome:
    began = site.clock.monotonic()
    try:
        site.require_willing(domain)
        before = site.residency(domain).resident_bytes
        faults = _major_faults(site, domain)
    except HostError as error:
        return _outcome(site, action, _End(Status.FAILED, str(error), None), began)
    site.generation.record(_move(action, action.after_bytes))
    freed = promoted = 0
    end = _descend(site, action, domain)
    left_at = action.before_bytes if end.left_at is None else end.left_at
    try:
        freed = before - site.residency(domain).resident_bytes
        due = min(before, action.before_bytes) - left_at
        works = end.status is not Status.FAILED
        if works and due >= worthwhile(action.before_bytes) and freed < _PHANTOM_SHARE * due:
            end = end._replace(fault=Fault.PHANTOM)
            unnoted = _leave(site, action, domain, action.before_bytes, told=left_at)
            detail = (
                f"the guest gave {format_size(action.before_bytes - left_at)} but the host "
                f"got {format_size(freed)}: given back{unnoted}"
            )
            end = _End(Status.UNDONE, detail, action.before_bytes, Fault.PHANTOM)
        promoted = _major_faults(site, domain) - faults
    except HostError as error:
        if end.status is not Status.FAILED:
            end = end._replace(status=Status.FAILED, detail=str(error))
    freed = max(0, freed)
    if end.status is Status.FAILED:
        end = end._replace(status=Status.of(freed, enough=False, failure=end.detail))
    return _outcome(site, action, end, began, freed=freed, promoted=promoted)


def _descend(site: Worksite, action: BalloonAction, domain: DomainFacts) -> _End:
    """Go down step by step.

    Whatever ends it early, no target is left that the guest has not reached: it would keep trying, against
    its own pain, with nobody watching.
    """
    step = max(round(_STEP_SHARE * action.before_bytes), 32 * MIB)
    reached = told = action.before_bytes
    try:
        while told > action.after_bytes:
            previous, target = reached, max(action.after_bytes, told - step)
            site.require_alive(domain)
            site.hypervisor.set_balloon(action.domain.uuid, target)
            told = target
            stats, usable = _settle(site, action, domain, target)
            reached = min(stats.actual_bytes, action.before_bytes)  # the guest's word cannot raise it
            site.progress(f"balloon at {format_size(reached)}")
            if reached > target + _TOLERANCE_BYTES:
                unnoted = _leave(site, action, domain, reached, told=told)
                says = f"the balloon stands still at {format_size(reached)}{unnoted}"
                return _End(Status.PARTIAL, says, reached, Fault.STUCK)
            if usable is None or usable < _pain_limit(action):
                unnoted = _leave(site, action, domain, previous, told=told)
                says = "no longer answers" if usable is None else f"has only {format_size(usable)} available"
                says = f"one step back to {format_size(previous)}: the guest {says}{unnoted}"
                return _End(Status.PARTIAL, says, previous, Fault.SILENT if usable is None else Fault.PAIN)
    except HostError as error:
        try:
            unnoted = _leave(site, action, domain, reached, told=told)
        except HostError:  # libvirt took no more words
            return _End(Status.FAILED, str(error), told)
        return _End(Status.FAILED, f"{error}{unnoted}", reached)
    except BaseException:
        with contextlib.suppress(HostError):
            _leave(site, action, domain, reached, told=told)
        raise
    return _End(Status.DONE, f"balloon at {format_size(reached)}", action.after_bytes)


def _leave(site: Worksite, action: BalloonAction, domain: DomainFacts, size: int, *, told: int) -> str:
    """Leave the balloon above where it was to go, and have the journal know it, for later plans look there.

    Returns:
        What is to be said of a journal that takes no more: no reason to leave a guest squeezed, for the way
        back is in it already.

    Raises:
        HostError: libvirt does not set it; it stays where it was ``told`` to go.
    """
    site.require_alive(domain)
    unnoted = _note(site, action, size)
    try:
        site.hypervisor.set_balloon(action.domain.uuid, size)
    except HostError:
        _note(site, action, told)
        raise
    return unnoted


def _note(site: Worksite, action: BalloonAction, size: int) -> str:
    try:
        site.generation.record(_move(action, size))
    except HostError as error:
        return f" ({error})"
    return ""


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
    site: Worksite, action: BalloonAction, end: _End, began: float, *, freed: int = 0, promoted: int = 0
) -> Outcome:
    return Outcome(
        action=action,
        status=end.status,
        freed_bytes=freed,
        promoted_pages=promoted,
        seconds=site.clock.monotonic() - began,
        detail=end.detail,
        fault=end.fault,
        left_at_bytes=end.left_at,
    )
