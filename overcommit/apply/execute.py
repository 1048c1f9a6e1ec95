"""Carries out a plan for several domains at a time, verifies each action, and reports what the host got."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol, TypeGuard

from overcommit.apply.balloon import move_balloon
from overcommit.apply.context import ApplyContext
from overcommit.apply.demotion import demote
from overcommit.apply.guest_reclaim import reclaim_inside
from overcommit.apply.ksm import start_merging
from overcommit.apply.pageout import page_out
from overcommit.apply.reporting import compact_inside
from overcommit.apply.routines import Routine, run_all
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
from overcommit.model.facts import DomainFacts, Incarnation, Snapshot
from overcommit.model.outcome import HostBalance, Outcome, Report, Status
from overcommit.model.plan import Plan
from overcommit.records.journal import ActionBegun

MOST_AT_ONCE = 4
"""The most domains that memory is taken from at the same time."""
_MOST_TEXT, _MOST_BLOCKS = 2048, 1024
_SETTLE_SECONDS = 2.0
"""The pause between memory that guests give and page-out, so that each counter belongs to one mechanism."""


def carry_out_one(
    context: ApplyContext, pool: DamonPool, action: Action, domain: DomainFacts | None, *, slot: int
) -> Routine[Outcome]:
    """Carry out one action on its domain; None for KSM, which is the host's.

    An action that needs a kdamond uses ``slot`` of the pool, which is already claimed. The start is on record
    before the action starts. Whoever notes its end settles that record (`Control.note`).

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
    """Record that an action starts.

    Raises:
        HostError: the disk refuses, and the action takes memory. Giving memory back does not need the record.
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
    listener: LaneListener,
) -> Report:
    """Carry out the plan's actions that are not blocked.

    First short guests get memory, one after another. Then memory is taken from up to `MOST_AT_ONCE` domains
    at the same time, from each in the plan's order. KSM, an action of the host, comes last. ``snapshot`` is
    of now, and the plan was checked against it. DAMON is claimed before anything is changed, so that a
    refusal leaves nothing behind.

    Raises:
        Conflict: DAMON belongs to somebody else.
        HostError: the journal cannot be written. Running actions were ended in an orderly way, and reported.
    """
    facts = {domain.incarnation: domain for domain in snapshot.domains}
    slots = _slots_for(plan)
    if slots:
        pool.acquire(slots, take_over=take_over)
    outcomes: list[Outcome] = []
    ending = _Ending(context.stop_because)
    free = list(range(slots))

    def lane(actions: Sequence[Action]) -> Routine[None]:
        given = False
        for action in actions:
            if ending():
                return
            if given and not isinstance(action, VirtioMemAction | BalloonAction):
                yield _SETTLE_SECONDS
            given = isinstance(action, VirtioMemAction | BalloonAction)
            listener.started(action)
            domain = None if isinstance(action, KsmAction) else facts[action.domain]
            slot = free.pop() if needs_slot(action) else None
            own = dataclasses.replace(
                context,
                progress=functools.partial(listener.progress, action),
                stop_because=ending,
            )
            outcome = yield from _contained(own, pool, action, domain, slot=slot)
            if slot is not None:
                free.append(slot)
            outcomes.append(outcome)
            listener.finished(outcome)

    relieving, taking, merging = _lanes(plan)
    for lanes in (relieving, taking, merging):
        run_all([lane(actions) for actions in lanes], context.clock, MOST_AT_ONCE, ending.begin)
    return Report(
        generation=context.generation.number,
        outcomes=tuple(outcomes),
        balance=HostBalance.between(snapshot.host, read_host(context.kernel)),
    )


class LaneListener(Protocol):
    """Gets the progress of each action of `carry_out`."""

    def started(self, action: Action) -> None:
        """An action starts."""
        ...

    def progress(self, action: Action, sentence: str) -> None:
        """The state of an action."""
        ...

    def finished(self, outcome: Outcome) -> None:
        """An action has ended."""
        ...


class _Ending:
    """Why all running actions must end: an error of another action, or the reason of the context."""

    def __init__(self, stop_because: Callable[[], str | None]) -> None:
        self._stop_because = stop_because
        self._because: str | None = None

    def __call__(self) -> str | None:
        return self._because or self._stop_because()

    def begin(self, error: BaseException) -> None:
        """End them because of this error."""
        why = in_a_line(error) if isinstance(error, Exception) else "interrupted"
        self._because = self._because or why


def needs_slot(action: Action) -> TypeGuard[DemotionAction | PageoutAction]:
    """Whether the action uses a kdamond."""
    return isinstance(action, DemotionAction) or (
        isinstance(action, PageoutAction) and action.actor.by_kdamond
    )


def _slots_for(plan: Plan) -> int:
    """The number of kdamonds that can run at the same time."""
    domains = {action.domain for action in plan.runnable if needs_slot(action)}
    return min(MOST_AT_ONCE, len(domains))


def _lanes(plan: Plan) -> tuple[list[list[Action]], list[list[Action]], list[list[Action]]]:
    """The actions that run one after another, by stage. A stage starts when the previous one has ended."""
    relieving: list[Action] = []
    merging: list[Action] = []
    taking: dict[Incarnation, list[Action]] = {}
    for action in plan.runnable:
        if isinstance(action, KsmAction):
            merging.append(action)
        elif isinstance(action, VirtioMemAction | BalloonAction) and action.relieves:
            relieving.append(action)
        else:
            taking.setdefault(action.domain, []).append(action)
    return [relieving], list(taking.values()), [merging]


def _contained(
    context: ApplyContext, pool: DamonPool, action: Action, domain: DomainFacts | None, *, slot: int | None
) -> Routine[Outcome]:
    """Carry out one action. An unexpected error ends this action, and none of the others."""
    began = context.clock.monotonic()
    try:
        return (yield from carry_out_one(context, pool, action, domain, slot=slot or 0))
    except (OvercommitError, *UNCONTAINED):
        raise
    except Exception as error:  # noqa: BLE001 - a boundary: whatever it is, it is this action's
        if slot is not None and pool.may_be_on(slot):
            pool.stop(slot)
        return Outcome(
            action=action,
            status=Status.FAILED,
            freed_bytes=0,
            promoted_pages=0,
            seconds=context.clock.monotonic() - began,
            detail=in_a_line(error),
        )
