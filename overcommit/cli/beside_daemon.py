"""What verbs do while ``overcommitd`` runs: refuse, or show its plan instead of an own one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from overcommit.cli.invoked import invoked
from overcommit.cli.session import Session
from overcommit.commands import Invocation
from overcommit.errors import Refused, UsageError
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.units import format_duration
from overcommit.wire.client import Daemon, find_daemon
from overcommit.wire.protocol import Verb


def refuse_beside_daemon(why: str, hint: str) -> None:
    """Check that no daemon runs, for work that is the daemon's.

    Raises:
        Refused: one runs.
    """
    if daemon := find_daemon():
        raise Refused(f"overcommitd is running (pid {daemon.pid}): {why}", hint=hint)


def refuse_options(daemon: Daemon, given: Mapping[str, bool], hint: str) -> None:
    """Check that no option is given that only works without a daemon.

    Raises:
        UsageError: one is.
    """
    unfit = [name for name, is_given in given.items() if is_given]
    if unfit:
        invoked(Invocation())
        raise UsageError(
            f"{', '.join(unfit)}: not possible while overcommitd is running (pid {daemon.pid}). It has its "
            f"own watch and policy",
            hint=hint,
        )


def own_watch(session: Session, observe_for: float | None, *, take_over: bool) -> dict[str, bool]:
    """Whether each option is given that only a verb's own watch can use."""
    return {
        "--observe-for": observe_for is not None,
        "--take-over": take_over,
        "--policy": session.policy_path is not None,
    }


def plan_of(daemon: Daemon, session: Session) -> Plan:
    """The daemon's plan: a new one, or its latest where that is fresh, or where this user may only read.

    Raises:
        HostError: it does not answer.
        Refused: it has no plan yet.
    """
    with contextlib.suppress(Refused):
        daemon.ask(Verb.TICK)
    plan = document.loads(json.dumps(daemon.ask(Verb.PLAN)), f"the plan of overcommitd (pid {daemon.pid})")
    age = format_duration(max(0.0, session.clock.now() - plan.created_at))
    session.console.say(f"planned by overcommitd (pid {daemon.pid}) {age} ago, from its own watch")
    return plan
