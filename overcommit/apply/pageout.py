"""One page-out with bounded size and time, checked by the host's counters and paced by the domain's SLO."""

from __future__ import annotations

from typing import NamedTuple

from overcommit.apply.actors import Actor, actor_for
from overcommit.apply.context import ApplyContext
from overcommit.apply.kdamonds import Lease
from overcommit.apply.pace import Pace, PaceSample
from overcommit.apply.routines import Routine, Standstill, once_damon_is_free
from overcommit.damon.pool import DamonPool
from overcommit.errors import Conflict, HostError
from overcommit.model.action import PageoutAction
from overcommit.model.facts import CgroupMemory, DomainFacts
from overcommit.model.outcome import Controller, Outcome, Status
from overcommit.model.pain import PainBounds
from overcommit.plan.limits import no_swap, tightest
from overcommit.units import MIB, format_size

_POLL_SECONDS = 1.0
_IDLE_SECONDS = 8.0
"""An actor that could move memory and moved none for this long has nothing left to move."""
_LONGEST_SECONDS = 300.0
_ENOUGH_SHARE = 0.9


class _Start(NamedTuple):
    """The domain's memory before the page-out. ``cgroup`` is None where it cannot be read."""

    resident_bytes: int
    cgroup: CgroupMemory | None


def page_out(
    context: ApplyContext, pool: DamonPool, action: PageoutAction, domain: DomainFacts, *, slot: int
) -> Routine[Outcome]:
    """Carry out one page-out action with its actor, which has stopped when this returns.

    A kdamond uses ``slot`` of the pool.

    Raises:
        HostError: the journal cannot be written.
    """
    began = context.clock.monotonic()
    freed = promoted = 0
    wanted, failure = action.expected_bytes, None
    finished, stopped_by, bounded = False, "", ""
    controller: Controller | None = None
    try:
        context.require_willing(domain)
        before = context.resident_bytes(domain)
        wanted = max(0, min(wanted, before - action.after_bytes))
        bound = tightest(context.limits(domain).swap)
        if bound is not None and bound.room_bytes < min(wanted, MIB):
            raise HostError(f"its cgroup may {no_swap(bound.limit)}")
        if bound is not None and bound.room_bytes < wanted:
            wanted, bounded = bound.room_bytes, f"its cgroup may {no_swap(bound.limit)}"
        if wanted < MIB:
            finished = True
        else:
            cgroup = context.cgroup(domain)
            lease = Lease(wanted, _LONGEST_SECONDS)
            actor = actor_for(action, domain, context.kernel, pool, lease, slot=slot)
            controller = actor.controller
            yield from once_damon_is_free(actor.start, context.clock, context.stop_because)
            try:
                context.require_alive(domain)
                start = _Start(before, cgroup)
                finished, stopped_by = yield from _follow(context, action, domain, actor, wanted, start)
            except (HostError, Conflict) as error:
                failure = str(error)  # what has been paged out by then has been paged out
            finally:
                failure = _stop(actor) or failure
            freed = max(0, before - context.resident_bytes(domain))
            promoted = promoted_since(context, domain, cgroup)
    except (HostError, Conflict) as error:
        failure = failure or str(error)
    enough = not bounded and (finished or freed >= _ENOUGH_SHARE * wanted)
    return Outcome(
        action=action,
        status=Status.of(freed, enough=enough, failure=failure),
        freed_bytes=freed,
        promoted_pages=promoted,
        seconds=context.clock.monotonic() - began,
        detail=failure or (_complete(action.expected_bytes - wanted) if enough else bounded or stopped_by),
        controller=controller,
    )


def _complete(given: int) -> str:
    return f"complete: {format_size(given)} of it was already free" if given >= MIB else "complete"


def _first_pace(action: PageoutAction) -> Pace:
    bounds = PainBounds.of(action.psi_some_limit, action.promotions_limit, action.working_set_bytes)
    return Pace.begin(bounds, action.max_bytes_per_second)


def _stop(actor: Actor) -> str | None:
    """Stop the actor. Returns an error instead of raising it, so that the result is measured all the same."""
    try:
        actor.stop()
    except HostError as error:
        return str(error)
    return None


def _follow(
    context: ApplyContext,
    action: PageoutAction,
    domain: DomainFacts,
    actor: Actor,
    wanted: int,
    start: _Start,
) -> Routine[tuple[bool, str]]:
    """Let the actor work until it is done. Returns whether it did all it could, and why it ended.

    Memory that the guest gives by itself meanwhile counts: together no more than ``wanted`` bytes leave it.
    """
    pace, cgroup = _first_pace(action), start.cgroup
    began = last = context.clock.monotonic()
    most_freed, still = 0, Standstill(began, grace_seconds=actor.warm_up_seconds)
    while True:
        yield _POLL_SECONDS
        now = context.clock.monotonic()
        freed = start.resident_bytes - context.resident_bytes(domain)
        moved = freed > most_freed + MIB
        still.look(now, moved=moved or actor.ahead)
        if moved:
            most_freed = freed
            context.progress(f"paged out {format_size(freed)} of {format_size(wanted)}")
        if freed >= wanted:
            return True, "all of it paged out"
        if reason := context.stop_because() or context.unwilling(domain):
            return False, f"stopped: {reason}"
        before, cgroup = cgroup, context.cgroup(domain)
        sample = _pace_sample(before, cgroup, now - last)
        if sample is None:
            return False, "stopped: the domain's memory pressure can no longer be read"
        rested, pace = pace.bytes_per_second == 0, pace.after(sample)
        if reason := pace.hopeless(freed):
            return False, f"stopped: {reason}"
        if pace.slowed:
            still.excuse(actor.warm_up_seconds)
        if pace.bytes_per_second == 0 and not rested:
            context.progress(f"resting: {pace.why_slow}")
        if still.seconds > _IDLE_SECONDS:
            return False, "nothing more of it was still idle"
        if now - began > _LONGEST_SECONDS:
            return False, "ran out of time"
        if not actor.advance(pace, wanted - freed):
            return True, "everything that is safe to take"
        last = now


def _pace_sample(before: CgroupMemory | None, now: CgroupMemory | None, seconds: float) -> PaceSample | None:
    """What was measured of the domain between two readings; None: could not be read."""
    if before is None or before.pressure is None or now is None or now.pressure is None:
        return None
    return PaceSample(
        seconds=seconds,
        stalled_seconds=now.pressure.some_total_seconds - before.pressure.some_total_seconds,
        promoted_pages=now.promoted_pages - before.promoted_pages,
    )


def promoted_since(context: ApplyContext, domain: DomainFacts, start: CgroupMemory | None) -> int:
    """Pages of the domain that came back from swap since the start."""
    now = context.cgroup(domain)
    return now.promoted_pages - start.promoted_pages if start and now else 0
