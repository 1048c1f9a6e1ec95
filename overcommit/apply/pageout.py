"""One bounded pulse of page-out, checked against the host's own counters each second."""

from __future__ import annotations

from overcommit.apply.actors import Actor, actor_for
from overcommit.apply.worksite import Worksite
from overcommit.damon.pool import DamonPool
from overcommit.errors import Conflict, HostError
from overcommit.model.facts import CgroupMemory, DomainFacts
from overcommit.model.outcome import Outcome, Status
from overcommit.model.plan import PageoutAction
from overcommit.units import MIB, format_ratio, format_size

_POLL_SECONDS = 1.0
SETTLING_SECONDS = 5.0
"""Before that, a share of time spent waiting says little."""
_IDLE_SECONDS = 8.0
"""An actor that moved nothing for this long has nothing left to move."""
_LONGEST_SECONDS = 300.0
_ENOUGH_SHARE = 0.9


def page_out(site: Worksite, pool: DamonPool, action: PageoutAction, domain: DomainFacts) -> Outcome:
    """Carry out one page-out action with the actor it names; nothing is at work any more when this returns.

    Raises:
        HostError: the journal cannot be written.
    """
    began = site.clock.monotonic()
    freed = promoted = 0
    failure = None
    finished, stopped_by = False, ""
    try:
        site.require_willing(domain)
        before = site.residency(domain)
        cgroup = site.cgroup(domain)
        actor = actor_for(action, domain, site.kernel, pool, longest_seconds=_LONGEST_SECONDS)
        actor.start()
        try:
            site.require_alive(domain)
            finished, stopped_by = _follow(site, action, domain, actor, before.resident_bytes, cgroup)
        except HostError as error:
            failure = str(error)  # what has been paged out by then has been paged out
        finally:
            failure = _stop(actor) or failure
        freed = max(0, before.resident_bytes - site.residency(domain).resident_bytes)
        promoted = promoted_since(site, domain, cgroup)
    except (HostError, Conflict) as error:
        failure = failure or str(error)
    enough = finished or freed >= _ENOUGH_SHARE * action.expected_bytes
    if failure is not None and freed < MIB:
        status = Status.FAILED
    else:
        status = Status.DONE if enough and failure is None else Status.PARTIAL
    return Outcome(
        action=action,
        status=status,
        freed_bytes=freed,
        promoted_pages=promoted,
        seconds=site.clock.monotonic() - began,
        detail=failure or ("complete" if enough else stopped_by),
    )


def _stop(actor: Actor) -> str | None:
    """End the actor; what kept it from ending is no reason not to measure what it did."""
    try:
        actor.stop()
    except HostError as error:
        return str(error)
    return None


def _follow(
    site: Worksite,
    action: PageoutAction,
    domain: DomainFacts,
    actor: Actor,
    resident_before: int,
    cgroup: CgroupMemory | None,
) -> tuple[bool, str]:
    """Let the actor work until it is done; returns whether that was all it could do, and why it ended."""
    began = last = site.clock.monotonic()
    most_freed, moved_at = 0, began + actor.warm_up_seconds
    while True:
        site.clock.wait(_POLL_SECONDS)
        now = site.clock.monotonic()
        freed = resident_before - site.residency(domain).resident_bytes
        if freed > most_freed + MIB:
            most_freed, moved_at = freed, max(moved_at, now)
            site.progress(f"paged out {format_size(freed)} of {format_size(action.expected_bytes)}")
        if freed >= action.expected_bytes:
            return True, "all of it paged out"
        if reason := site.unwilling(domain):
            return False, f"stopped: {reason}"
        stall = stall_ratio(site, domain, cgroup, now - began)
        if stall is None:
            return False, "stopped: the domain's memory pressure cannot be read any more"
        if now - began >= SETTLING_SECONDS and stall > action.psi_some_limit:
            return False, (
                f"stopped: memory pressure of the domain {format_ratio(stall)}, "
                f"limit {format_ratio(action.psi_some_limit)}"
            )
        if now - moved_at > _IDLE_SECONDS:
            return False, "nothing more of it was still idle"
        if now - began > _LONGEST_SECONDS:
            return False, "ran out of time"
        if not actor.step(now - last, action.expected_bytes - freed):
            return True, "all of it that can be taken safely"
        last = now


def stall_ratio(
    site: Worksite, domain: DomainFacts, start: CgroupMemory | None, seconds: float
) -> float | None:
    """Share of the time since the start in which the domain stalled on memory; None: unreadable."""
    now = site.cgroup(domain)
    if start is None or start.pressure is None or now is None or now.pressure is None:
        return None
    stalled = now.pressure.some_total_seconds - start.pressure.some_total_seconds
    return stalled / seconds


def promoted_since(site: Worksite, domain: DomainFacts, start: CgroupMemory | None) -> int:
    """Pages of the domain that were read back since the start."""
    now = site.cgroup(domain)
    return now.major_faults - start.major_faults if start and now else 0
