"""Free so much memory that a promise can be kept: look, plan for what is missing, apply, look again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from overcommit.cli.doing import agreed, do, require_somebody_to_ask, show
from overcommit.cli.planning import plan_now
from overcommit.cli.session import Session
from overcommit.control.promising import Freed
from overcommit.errors import OvercommitError, Refused, StalePlan
from overcommit.hypervisor.guest_figures import read_defined
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.outcome import Report
from overcommit.model.past import Reservation
from overcommit.model.policy import Policy
from overcommit.observe.facts import observe
from overcommit.plan.obstacles import obstacles_of
from overcommit.plan.planner import host_plan
from overcommit.plan.promises import Beside, Wish, more_than, standing
from overcommit.records.journal import Generation
from overcommit.units import format_size

_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Squeezed:
    """What is still missing, what was freed for it, and what stood in the way of more.

    Where the operator ended it, ``interruption`` is still to be raised.
    """

    missing_bytes: int
    freed: Freed
    obstacles: tuple[str, ...]
    interruption: KeyboardInterrupt | None = None


def squeeze(
    session: Session,
    generation: Generation,
    policy: Policy,
    wish: Wish,
    *,
    timeout: float,
    yes: bool,
    observe_for: float | None,
    take_over: bool,
) -> Squeezed:
    """Free memory until a wish can be granted; no round begins after ``timeout`` seconds.

    Nothing is taken from the domain that it is for: that would have to be given back at once. An error after
    something was freed ends it, and is the first of the obstacles; so does the operator who interrupts it.

    Raises:
        Conflict: DAMON belongs to somebody else.
        HostError: the journal cannot be written.
        UsageError: there is something to ask, and nobody to answer.
        Refused: the host does not have so much, or the operator does not want it.
    """
    size = wish.size_bytes
    hypervisor, clock = session.hypervisor(read_only=False), session.clock
    deadline = clock.monotonic() + timeout
    rounds: list[Report] = []
    obstacles: tuple[str, ...] = ()
    interruption: KeyboardInterrupt | None = None
    said: tuple[str, ...] = ()
    more = 0
    missing, wanted = _missing(session, hypervisor, policy, wish)
    try:
        while missing > 0 and clock.monotonic() < deadline:
            reserving = dataclasses.replace(wanted, size_bytes=wanted.size_bytes + more)
            plan = plan_now(
                session,
                hypervisor,
                generation,
                policy,
                names=(),
                leave_out=wish.purpose,
                observe_for=observe_for,
                take_over=take_over,
                reserving=reserving,
            )
            obstacles = tuple(obstacles_of(plan))
            says = (f"{format_size(missing)} of {format_size(size)} are missing", *obstacles)
            if says != said:
                session.talk.say(says[0])
                for obstacle in obstacles:
                    session.talk.say(f"  {obstacle}")
                said = says
            if plan.runnable:
                if session.json or not rounds:
                    show(session, plan)
                if not rounds and not yes:
                    _ask(size)
                with _unless_stale(session):
                    do(
                        session,
                        hypervisor,
                        generation,
                        plan,
                        policy,
                        rounds,
                        take_over=take_over,
                        reserving=reserving,
                    )
            missing, wanted = _missing(session, hypervisor, policy, wish)
            more = more_than(missing)
            if missing > 0 and not plan.runnable:
                clock.wait(_PAUSE_SECONDS)
    except (OvercommitError, KeyboardInterrupt) as error:
        if not any(report.changed for report in rounds):
            raise
        if isinstance(error, KeyboardInterrupt):
            interruption, why = error, "interrupted"
        else:
            why = str(error)
            session.talk.say(f"ending: {why}")
        obstacles = (why, *obstacles)
        with contextlib.suppress(OvercommitError):
            missing, _ = _missing(session, hypervisor, policy, wish)
    freed = Freed(outcomes=tuple(outcome for report in rounds for outcome in report.outcomes))
    return Squeezed(missing_bytes=missing, freed=freed, obstacles=obstacles, interruption=interruption)


def _ask(size: int) -> None:
    require_somebody_to_ask()
    if not agreed(f"Do this, and go on like that until {format_size(size)} are free?"):
        raise Refused("nothing is reserved, as you said")


@contextlib.contextmanager
def _unless_stale(session: Session) -> Iterator[None]:
    """A guest may go its own way between the plan and its first action; the next round sees that."""
    try:
        yield
    except StalePlan as stale:
        session.talk.say(str(stale))


def _missing(session: Session, hypervisor: Hypervisor, policy: Policy, wish: Wish) -> tuple[int, Reservation]:
    """What is missing for the promise now, and the part of it that is not taken already.

    Raises:
        Refused: it could not be kept whatever is freed.
    """
    snapshot = observe(session.kernel, hypervisor, session.clock)
    past = session.past(snapshot.taken_at)
    names = Beside.names(wish, past.reservations)
    beside = Beside(reservations=past.reservations, defined=read_defined(hypervisor, sorted(names)))
    missing, wanted, refusal = standing(wish, host_plan(snapshot, policy, past), snapshot, beside)
    if refusal is not None:
        raise refusal
    return missing, wanted
