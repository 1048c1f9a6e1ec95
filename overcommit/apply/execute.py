"""Carry out a plan: refuse early, cheapest rung first, verify each step, report what the host got."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from overcommit.apply.balloon import move_balloon
from overcommit.apply.context import ApplyContext
from overcommit.apply.demotion import demote
from overcommit.apply.guest_reclaim import reclaim_inside
from overcommit.apply.ksm import start_merging
from overcommit.apply.pageout import page_out
from overcommit.apply.reporting import compact_inside
from overcommit.apply.routines import Routine, run
from overcommit.apply.virtio_mem import resize
from overcommit.damon.pool import DamonPool
from overcommit.errors import UNCONTAINED, HostError, OvercommitError, in_a_line
from overcommit.host.memory import read_host
from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
    name_of,
)
from overcommit.model.facts import DomainFacts, Snapshot
from overcommit.model.outcome import HostBalance, Outcome, Report, Status
from overcommit.model.plan import Plan
from overcommit.records.journal import ActionBegun

_MOST_TEXT, _MOST_BLOCKS = 2048, 1024
_SETTLE_SECONDS = 2.0
"""Between what guests give themselves and page-out, so that each counter belongs to one mechanism only."""


def carry_out_one(
    context: ApplyContext, pool: DamonPool, action: Action, domain: DomainFacts | None, *, slot: int
) -> Routine[Outcome]:
    """Do one action, on the domain that it is about; None for KSM, which is the host's.

    Where it takes a kdamond, that is in this ``slot`` of the pool, which is claimed and large enough by then.
    That it is begun is on record before it begins; who notes its end settles that (`Control.note`).

    Raises:
        HostError: the journal cannot be written.
    """
    begin(context, action, domain)
    return (yield from _steps(context, pool, action, domain, slot=slot))


def _steps(
    context: ApplyContext, pool: DamonPool, action: Action, domain: DomainFacts | None, *, slot: int
) -> Routine[Outcome]:
    if isinstance(action, KsmAction):
        return start_merging(context, action)
    assert domain is not None
    match action:
        case ReportingAction():
            return compact_inside(context, action, domain)
        case GuestReclaimAction():
            return reclaim_inside(context, action, domain)
        case VirtioMemAction():
            return resize(context, action, domain)
        case BalloonAction():
            return move_balloon(context, action, domain)
        case DemotionAction():
            return demote(context, pool, action, domain, slot=slot)
        case PageoutAction():
            return page_out(context, pool, action, domain, slot=slot)


def begin(context: ApplyContext, action: Action, domain: DomainFacts | None) -> None:
    """Put on record that an action begins.

    Raises:
        HostError: the disk refuses. A guest gets its memory back all the same.
    """
    resident = None
    if domain is not None:
        with contextlib.suppress(HostError, OSError):
            resident = context.resident_bytes(domain)
    begun = ActionBegun(
        domain=None if isinstance(action, KsmAction) else action.domain,
        what=name_of(action),
        because=action.because[:_MOST_TEXT],
        expected_bytes=action.expected_bytes,
        resident_bytes=resident,
        ram=domain.ram[:_MOST_BLOCKS] if domain is not None else (),
    )
    try:
        context.generation.record(begun)
    except HostError:
        if not (isinstance(action, VirtioMemAction | BalloonAction) and action.relieves):
            raise


def carry_out(
    context: ApplyContext,
    pool: DamonPool,
    plan: Plan,
    snapshot: Snapshot,
    *,
    take_over: bool,
    started: Callable[[Action], None],
    finished: Callable[[Outcome], None],
) -> Report:
    """Do the plan's actions that are not blocked, one after another.

    ``snapshot`` is of now, and the plan was found fresh against it. DAMON is claimed before anything is
    changed, so that a refusal leaves nothing behind.

    Raises:
        Conflict: DAMON belongs to somebody else.
        HostError: the journal cannot be written.
    """
    facts = {domain.incarnation: domain for domain in snapshot.domains}
    if plan.needs_damon:
        pool.acquire(1, take_over=take_over)
    outcomes: list[Outcome] = []
    for action in _in_order(context, plan):
        started(action)
        domain = None if isinstance(action, KsmAction) else facts[action.domain]
        outcome = _contained(context, pool, action, domain)
        outcomes.append(outcome)
        finished(outcome)
    return Report(
        generation=context.generation.number,
        outcomes=tuple(outcomes),
        balance=HostBalance.between(snapshot.host, read_host(context.kernel)),
    )


def _contained(context: ApplyContext, pool: DamonPool, action: Action, domain: DomainFacts | None) -> Outcome:
    """Do one action; what nobody expected of it ends it, and none of the others."""
    began = context.clock.monotonic()
    try:
        return run(carry_out_one(context, pool, action, domain, slot=0), context.clock)
    except (OvercommitError, *UNCONTAINED):
        raise
    except Exception as error:  # noqa: BLE001 - a boundary: whatever it is, it is this action's
        if pool.may_be_on(0):
            pool.stop(0)
        return Outcome(
            action=action,
            status=Status.FAILED,
            freed_bytes=0,
            promoted_pages=0,
            seconds=context.clock.monotonic() - began,
            detail=in_a_line(error),
        )


def _in_order(context: ApplyContext, plan: Plan) -> Iterator[Action]:
    given = False
    for action in plan.runnable:
        if isinstance(action, VirtioMemAction | BalloonAction):
            given = True
        elif given:
            context.clock.wait(_SETTLE_SECONDS)
            given = False
        yield action
