"""Frees memory for a reservation in rounds: observe, plan for what is missing, apply, observe again."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import Protocol

from overcommit.control.applying import do
from overcommit.control.operation import ActionListener, Listener, Operation
from overcommit.control.planning import Scope, plan_now
from overcommit.control.promising import Freed
from overcommit.errors import OvercommitError, StalePlan
from overcommit.hypervisor.guest_figures import read_defined
from overcommit.model.outcome import Report
from overcommit.model.plan import Plan
from overcommit.observe.facts import observe
from overcommit.plan.obstacles import obstacles_of
from overcommit.plan.planner import host_plan
from overcommit.plan.promises import Beside, Standing, Wish, more_than, standing
from overcommit.units import format_size

_PAUSE_SECONDS = 10.0


class Face(Protocol):
    """The user interface of `free`."""

    @property
    def listener(self) -> Listener:
        """Gets the progress."""
        ...

    @property
    def teller(self) -> ActionListener:
        """Gets each action of a round."""
        ...

    def accept(self, plan: Plan, *, first: bool) -> None:
        """Show what a round is about to do. ``first``: ask for consent.

        Raises:
            Refused: the operator does not consent.
            UsageError: there is nobody to answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """No round starts more than ``timeout_seconds`` after the beginning. ``observe_for``: see `Scope`."""

    timeout_seconds: float
    observe_for: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is still missing, what was freed, and what stood in the way of more.

    If the operator interrupted it, ``interruption`` must still be raised.
    """

    missing_bytes: int
    freed: Freed
    obstacles: tuple[str, ...]
    interruption: KeyboardInterrupt | None = None


def free(operation: Operation, wish: Wish, limits: Limits, face: Face) -> Result:
    """Free memory until a reservation can be granted.

    Nothing is taken from the domain that it is for, because that would have to be given back at once. An
    error, or an interruption by the operator, after something was freed ends it, and is the first of the
    obstacles.

    Raises:
        Conflict: DAMON belongs to somebody else.
        HostError: the journal cannot be written.
        UsageError: consent is needed, and there is nobody to answer.
        Refused: the host does not have so much, or the operator does not consent.
    """
    clock = operation.control.clock
    deadline = clock.monotonic() + limits.timeout_seconds
    rounds: list[Report] = []
    obstacles: tuple[str, ...] = ()
    interruption: KeyboardInterrupt | None = None
    said: tuple[str, ...] = ()
    more = 0
    stands = require_possible(operation, wish)
    try:
        while stands.missing_bytes > 0 and clock.monotonic() < deadline:
            size = stands.wanted.size_bytes + more
            scope = Scope(
                observe_for=limits.observe_for,
                leave_out=wish.purpose,
                reserving=dataclasses.replace(stands.wanted, size_bytes=size),
            )
            plan = plan_now(operation, scope, face.listener)
            obstacles = tuple(obstacles_of(plan))
            missing = f"{format_size(stands.missing_bytes)} of {format_size(wish.size_bytes)} is missing"
            said = _say_news(face.listener, said, (missing, *obstacles))
            if plan.runnable:
                face.accept(plan, first=not rounds)
                if report := _do_unless_stale(operation, plan, scope, face):
                    rounds.append(report)
                    if report.failure is not None:
                        raise report.failure
            stands = require_possible(operation, wish)
            more = more_than(stands.missing_bytes)
            if stands.missing_bytes > 0 and not plan.runnable:
                clock.wait(_PAUSE_SECONDS)
    except (OvercommitError, KeyboardInterrupt) as error:
        if not any(report.changed for report in rounds):
            raise
        if isinstance(error, KeyboardInterrupt):
            interruption, why = error, "interrupted"
        else:
            why = str(error)
            face.listener.say(f"ending: {why}")
        obstacles = (why, *obstacles)
        with contextlib.suppress(OvercommitError):
            stands = require_possible(operation, wish)
    return Result(
        missing_bytes=stands.missing_bytes,
        freed=Freed(outcomes=tuple(outcome for report in rounds for outcome in report.outcomes)),
        obstacles=obstacles,
        interruption=interruption,
    )


def _say_news(listener: Listener, said: tuple[str, ...], says: tuple[str, ...]) -> tuple[str, ...]:
    """Report what is missing and why, unless that was reported last. Returns what was reported last."""
    if says != said:
        listener.say(says[0])
        for obstacle in says[1:]:
            listener.say(f"  {obstacle}")
    return says


def _do_unless_stale(operation: Operation, plan: Plan, scope: Scope, face: Face) -> Report | None:
    """Apply the plan. A guest may have changed since the plan was made; the next round sees that."""
    try:
        return do(operation, plan, face.teller, reserving=scope.reserving)
    except StalePlan as stale:
        face.listener.say(str(stale))
        return None


def require_possible(operation: Operation, wish: Wish) -> Standing:
    """What is missing for the reservation now, and the part of it that is not taken already.

    Raises:
        Refused: it cannot be met, whatever is freed.
    """
    control = operation.control
    snapshot = observe(control.kernel, operation.hypervisor, control.clock)
    past = control.past(snapshot.taken_at)
    names = Beside.names(wish, past.reservations)
    defined = read_defined(operation.hypervisor, sorted(names))
    beside = Beside(reservations=past.reservations, defined=defined)
    stands = standing(wish, host_plan(snapshot, operation.policy, past), snapshot, beside)
    if stands.refusal is not None:
        raise stands.refusal
    return stands
