"""What verbs do where ``overcommitd`` is at work: refuse, or show its plan instead of one of their own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from overcommit.cli.session import Session
from overcommit.errors import Refused, UsageError
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.units import format_duration
from overcommit.wire.client import Daemon, find_daemon
from overcommit.wire.protocol import Verb


def refuse_beside_daemon(why: str, hint: str) -> None:
    """Raise `Refused` where a daemon is at work; for what is the daemon's own business then."""
    if daemon := find_daemon():
        raise Refused(f"overcommitd is running (pid {daemon.pid}): {why}", hint=hint)


def refuse_options(daemon: Daemon, given: Mapping[str, bool], hint: str) -> None:
    """Raise `UsageError` for the options given that only make sense where no daemon is at work."""
    unfit = [name for name, is_given in given.items() if is_given]
    if unfit:
        raise UsageError(
            f"{', '.join(unfit)}: not possible while overcommitd is running (pid {daemon.pid}). It has its "
            f"own watch and policy",
            hint=hint,
        )


def own_watch(session: Session, observe_for: float | None, *, take_over: bool) -> dict[str, bool]:
    """Which options were given that only a watch of a verb's own can heed."""
    return {
        "--observe-for": observe_for is not None,
        "--take-over": take_over,
        "--policy": session.policy_path is not None,
    }


def plan_of(daemon: Daemon, session: Session) -> Plan:
    """What the daemon plans now; the latest plan it has where that is fresh, or this user only may look.

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
