"""Moves cold memory to a slower memory node, or memory in use back, and checks it by the cgroup's figures.

The place of memory is not a setting, so there is nothing to restore. It stays the guest's, and resident.
"""

from __future__ import annotations

from overcommit.apply.context import ApplyContext
from overcommit.apply.pageout import promoted_since
from overcommit.apply.routines import Routine, Standstill, once_damon_is_free
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import ACTOR_INTERVALS, RECHECK_AGGREGATIONS, fvaddr_migration
from overcommit.damon.tree import Target
from overcommit.errors import Conflict, HostError, Unsupported
from overcommit.host.nodes import read_placement
from overcommit.model.action import DemotionAction
from overcommit.model.facts import CgroupMemory, DomainFacts
from overcommit.model.outcome import Outcome, Status
from overcommit.model.ranges import Range, normalise, total_size
from overcommit.units import MIB, format_ratio, format_size

_POLL_SECONDS = 1.0
_SETTLING_SECONDS = 5.0
"""Before this time PSI as a share of time is not meaningful."""
_LONGEST_SECONDS = 300.0
_WARM_UP_SECONDS = (2 * RECHECK_AGGREGATIONS + 2) * ACTOR_INTERVALS.aggregation_seconds
"""A region must be idle for this long before each of the two checks of its pages."""
_IDLE_SECONDS = 8.0
_ENOUGH_SHARE = 0.9


def demote(
    context: ApplyContext, pool: DamonPool, action: DemotionAction, domain: DomainFacts, *, slot: int
) -> Routine[Outcome]:
    """Carry out one demotion or recall by a kdamond in ``slot``, which is off when this returns.

    Raises:
        HostError: the journal cannot be written.
    """
    began = context.clock.monotonic()
    moved = promoted = 0
    failure, ended = None, ""
    try:
        context.require_willing(domain)
        cgroup = context.cgroup(domain)
        before = _on_node(context, action, cgroup)
        ranges = _ranges(action, domain)
        kdamond = fvaddr_migration(
            Target.of(action.domain.pid, ranges),
            action.destination,
            in_use=action.recall_to is not None,
            max_bytes_per_second=action.max_bytes_per_second,
            lease_seconds=_LONGEST_SECONDS,
            capabilities=pool.capabilities,
        )
        yield from once_damon_is_free(lambda: pool.start(slot, kdamond), context.clock, context.stop_because)
        try:
            context.require_alive(domain)
            # Before Linux 7.2 a first look at all pages takes up as much of the quota as moving them.
            first_look = total_size(ranges) / action.max_bytes_per_second
            ended = yield from _follow(context, action, domain, before, cgroup, first_look)
        except (HostError, Conflict) as error:
            failure = str(error)  # what has been moved by then has been moved
        finally:
            failure = _stop(pool, slot) or failure
        moved = max(0, _moved(context, action, context.cgroup(domain), before))
        promoted = promoted_since(context, domain, cgroup)
    except (HostError, Conflict, Unsupported) as error:
        failure = failure or str(error)
    enough = moved >= _ENOUGH_SHARE * action.expected_bytes
    return Outcome(
        action=action,
        status=Status.of(moved, enough=enough, failure=failure),
        freed_bytes=0,
        moved_bytes=moved,
        promoted_pages=promoted,
        seconds=context.clock.monotonic() - began,
        detail=failure or ("complete" if enough else ended),
    )


def _ranges(action: DemotionAction, domain: DomainFacts) -> tuple[Range, ...]:
    """The ranges to check: the plan's pieces, and all of guest RAM for a recall."""
    if action.recall_to is not None:
        return domain.ram
    return normalise(Range(piece.start, piece.end) for piece in action.pieces)


def _moved(context: ApplyContext, action: DemotionAction, cgroup: CgroupMemory | None, before: int) -> int:
    """Bytes that came to the slower node, or left it for a recall."""
    more = _on_node(context, action, cgroup) - before
    return more if action.recall_to is None else -more


def _on_node(context: ApplyContext, action: DemotionAction, cgroup: CgroupMemory | None) -> int:
    """Bytes of the domain on the slower node."""
    if cgroup is None:
        raise HostError(f"domain {action.domain.name} has no cgroup with memory accounting")
    try:
        return read_placement(context.kernel, cgroup.path).get(action.node, 0)
    except OSError as error:
        raise HostError(f"cannot read the memory nodes of {action.domain.name}: {error}") from error


def _stop(pool: DamonPool, slot: int) -> str | None:
    """Turn the kdamond off.

    Returns an error instead of raising it, so that the result is measured all the same.
    """
    try:
        pool.stop(slot)
    except HostError as error:
        return str(error)
    return None


def _follow(
    context: ApplyContext,
    action: DemotionAction,
    domain: DomainFacts,
    before: int,
    cgroup: CgroupMemory | None,
    first_look: float,
) -> Routine[str]:
    """Let the kdamond work until all is moved or nothing more moves. Returns why it ended.

    No floor applies, because nothing leaves memory.
    """
    began = context.clock.monotonic()
    most_moved, still = 0, Standstill(began, grace_seconds=_WARM_UP_SECONDS + first_look)
    while True:
        yield _POLL_SECONDS
        now = context.clock.monotonic()
        if reason := context.stop_because() or context.unwilling(domain):
            return f"stopped: {reason}"
        present = context.cgroup(domain)
        moved = _moved(context, action, present, before)
        more = moved > most_moved + MIB
        still.look(now, moved=more)
        if more:
            most_moved = moved
            context.progress(f"moved {format_size(moved)} of {format_size(action.expected_bytes)}")
        if moved >= action.expected_bytes:
            return "all of it moved"
        stall = _stall_ratio(cgroup, present, now - began)
        if stall is None:
            return "stopped: the domain's memory pressure can no longer be read"
        if now - began >= _SETTLING_SECONDS and stall > action.psi_some_limit:
            return (
                f"stopped: memory pressure of the domain {format_ratio(stall)}, "
                f"limit {format_ratio(action.psi_some_limit)}"
            )
        if still.seconds > _IDLE_SECONDS:
            return f"nothing more of it was {'still idle' if action.recall_to is None else 'in use'}"
        if now - began > _LONGEST_SECONDS:
            return "ran out of time"


def _stall_ratio(start: CgroupMemory | None, now: CgroupMemory | None, seconds: float) -> float | None:
    """The share of time since the start in which the domain waited for memory; None: could not be read."""
    if start is None or start.pressure is None or now is None or now.pressure is None:
        return None
    return (now.pressure.some_total_seconds - start.pressure.some_total_seconds) / seconds
