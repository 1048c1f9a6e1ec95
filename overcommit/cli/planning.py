"""Makes a plan for the verbs that only read: `plan` and `explain`."""

from __future__ import annotations

from overcommit.cli.session import Session, require_root
from overcommit.control.operation import Operation
from overcommit.control.planning import Scope, plan_now
from overcommit.model.plan import Plan
from overcommit.observe.agent import asks_agents


def observe_and_plan(
    session: Session,
    command: str,
    scope: Scope,
    *,
    take_over: bool,
) -> Plan:
    """A plan for a verb that only reads. Its monitors are removed when this returns.

    Raises:
        PolicyError: the policy does not validate.
        Unsupported: this is not root, or there is no DAMON.
        Conflict: DAMON belongs to somebody else.
        UsageError: there is no such domain.
    """
    policy = session.policy()
    require_root()
    session.require_damon(take_over=take_over)
    hypervisor = session.hypervisor(read_only=not asks_agents(policy))
    with session.generation(command) as generation:
        operation = Operation(
            control=session,
            hypervisor=hypervisor,
            generation=generation,
            policy=policy,
            take_over=take_over,
        )
        return plan_now(operation, scope, session.console)
