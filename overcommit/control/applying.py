"""Apply a plan: refuse a stale one, do it, remember each end, report what the host got."""

from __future__ import annotations

from overcommit.apply.context import ApplyContext
from overcommit.apply.execute import carry_out
from overcommit.control.operation import ActionListener, Operation
from overcommit.damon.pool import DamonPool
from overcommit.errors import OvercommitError
from overcommit.host.memory import read_host
from overcommit.model.outcome import HostBalance, Outcome, Report
from overcommit.model.past import Reservation
from overcommit.model.plan import Plan
from overcommit.observe.agent import ask_agents
from overcommit.observe.facts import observe
from overcommit.plan.freshness import require_fresh
from overcommit.plan.promises import aimed


def do(
    operation: Operation, plan: Plan, listener: ActionListener, *, reserving: Reservation | None = None
) -> Report:
    """Do the plan if it is fresh; each action's end is remembered before it is told.

    ``reserving`` is aimed at, as it was when the plan was made.

    Returns:
        What came of it. Where an error or an interruption ended it after an action was over, that is its
        ``failure``.

    Raises:
        StalePlan: the world moved since the plan was made.
        Conflict: DAMON belongs to somebody else.
        HostError: the journal cannot be written, and nothing was done.
    """
    control, hypervisor, policy = operation.control, operation.hypervisor, operation.policy
    snapshot = ask_agents(observe(control.kernel, hypervisor, control.clock), hypervisor, policy)
    require_fresh(plan, snapshot, *aimed(policy, control.past(snapshot.taken_at), reserving))
    control.require_whole()
    context = ApplyContext(
        kernel=control.kernel,
        hypervisor=hypervisor,
        clock=control.clock,
        generation=operation.generation,
        progress=listener.progress,
    )
    outcomes: list[Outcome] = []

    def finished(outcome: Outcome) -> None:
        control.note(outcome, operation.generation, policy)
        outcomes.append(outcome)
        listener.finished(outcome)

    try:
        with DamonPool(control.kernel, control.journal, operation.generation) as pool:
            return carry_out(
                context,
                pool,
                plan,
                snapshot,
                take_over=operation.take_over,
                started=listener.started,
                finished=finished,
            )
    except (OvercommitError, KeyboardInterrupt) as error:
        if not outcomes:
            raise
        return Report(
            generation=operation.generation.number,
            outcomes=tuple(outcomes),
            balance=HostBalance.between(snapshot.host, read_host(control.kernel)),
            failure=error,
        )
