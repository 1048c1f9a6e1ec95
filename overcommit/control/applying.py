"""Applies a plan: refuses a stale one, carries it out, records each end, and reports what the host got."""

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
    """Carry out the plan if it is fresh. Each action's end is recorded before it is reported.

    ``reserving`` is the reservation that the plan was made for, if any.

    Returns:
        The report. If an error or an interruption ended it after an action was over, that is its ``failure``.

    Raises:
        StalePlan: the host changed since the plan was made.
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
        progress=_nobody,
    )
    noting = _Noting(operation, listener)
    try:
        with DamonPool(control.kernel, control.journal, operation.generation) as pool:
            return carry_out(
                context,
                pool,
                plan,
                snapshot,
                take_over=operation.take_over,
                listener=noting,
            )
    except (OvercommitError, KeyboardInterrupt) as error:
        if not noting.outcomes:
            raise
        return Report(
            generation=operation.generation.number,
            outcomes=tuple(noting.outcomes),
            balance=HostBalance.between(snapshot.host, read_host(control.kernel)),
            failure=error,
        )


class _Noting:
    """Puts the end of each action on record before it is told."""

    def __init__(self, operation: Operation, listener: ActionListener) -> None:
        self._operation = operation
        self._listener = listener
        self.outcomes: list[Outcome] = []
        self.started = listener.started
        self.progress = listener.progress

    def finished(self, outcome: Outcome) -> None:
        """See `ActionListener.finished`.

        Raises:
            HostError: the record cannot be written.
        """
        self._operation.control.note(outcome, self._operation.generation, self._operation.policy)
        self.outcomes.append(outcome)
        self._listener.finished(outcome)


def _nobody(_sentence: str) -> None:
    """Each action tells its own progress."""
