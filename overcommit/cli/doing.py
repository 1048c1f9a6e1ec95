"""Carry out a plan and tell about it while it happens: what `apply` and `reserve` share."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from overcommit.apply.execute import carry_out
from overcommit.apply.worksite import Worksite
from overcommit.cli import render
from overcommit.cli.session import Session
from overcommit.cli.talk import tell
from overcommit.damon.pool import DamonPool
from overcommit.errors import OvercommitError, UsageError
from overcommit.host.memory import read_host
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.action import Action, KsmAction, name_of, subject_of
from overcommit.model.outcome import HostBalance, Outcome, Report, Status
from overcommit.model.past import Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Policy
from overcommit.observe.agent import ask_agents
from overcommit.observe.facts import observe
from overcommit.plan.freshness import require_fresh
from overcommit.plan.promises import aimed
from overcommit.records.journal import Generation


def show(session: Session, plan: Plan) -> None:
    """The plan itself, before anything is done."""
    if session.json:
        for action in plan.actions:
            _emit("planned", action, expected_bytes=action.expected_bytes, blocked=action.blocked)
        return
    for line in render.plan_text(plan):
        tell(line)


def require_somebody_to_ask() -> None:
    """Raise `UsageError` unless a terminal is there to answer."""
    if not sys.stdin.isatty():
        raise UsageError("nobody to ask: stdin is not a terminal", hint="add --yes, or apply a saved plan")


def agreed(question: str) -> bool:
    """What the operator says."""
    return click.confirm(question, err=True)


def do(
    session: Session,
    hypervisor: Hypervisor,
    generation: Generation,
    plan: Plan,
    policy: Policy,
    rounds: list[Report],
    *,
    take_over: bool,
    reserving: Reservation | None = None,
) -> None:
    """Do the plan if it is fresh; each action's end is remembered before it is told.

    ``reserving`` is aimed at, as it was when the plan was made.
    What came of it is added to ``rounds``; also what was done before an error or an interruption, if
    anything was.

    Raises:
        StalePlan: the world moved since the plan was made.
        Conflict: DAMON belongs to somebody else.
        HostError: the journal cannot be written.
    """
    snapshot = ask_agents(observe(session.kernel, hypervisor, session.clock), hypervisor, policy)
    require_fresh(plan, snapshot, *aimed(policy, session.past(snapshot.taken_at), reserving))
    session.require_whole()
    teller = _JsonTeller() if session.json else _TextTeller(session)
    site = Worksite(
        kernel=session.kernel,
        hypervisor=hypervisor,
        clock=session.clock,
        generation=generation,
        progress=teller.progress,
    )

    outcomes: list[Outcome] = []

    def finished(outcome: Outcome) -> None:
        session.note(outcome, generation, policy)
        outcomes.append(outcome)
        teller.finished(outcome)

    try:
        with DamonPool(session.kernel, session.journal, generation) as pool:
            report = carry_out(
                site,
                pool,
                plan,
                snapshot,
                take_over=take_over,
                started=teller.started,
                finished=finished,
            )
    except (OvercommitError, KeyboardInterrupt):
        if outcomes:
            balance = HostBalance.between(snapshot.host, read_host(session.kernel))
            rounds.append(Report(generation=generation.number, outcomes=tuple(outcomes), balance=balance))
        raise
    rounds.append(report)


class _TextTeller:
    """Tells people: the action under way on stderr, each end on stdout."""

    def __init__(self, session: Session) -> None:
        self._talk = session.talk

    def started(self, action: Action) -> None:
        self._talk.progress(f"  {subject_of(action)} {name_of(action)} ...")

    def progress(self, sentence: str) -> None:
        self._talk.progress(f"    {sentence}")

    def finished(self, outcome: Outcome) -> None:
        self._talk.done()
        tell(render.outcome_text(outcome))


class _JsonTeller:
    """Tells programs: one JSON line per event on stdout."""

    def __init__(self) -> None:
        self._action: Action | None = None

    def started(self, action: Action) -> None:
        self._action = action
        _emit("started", action)

    def progress(self, sentence: str) -> None:
        if self._action is not None:
            _emit("progress", self._action, detail=sentence)

    def finished(self, outcome: Outcome) -> None:
        _emit(
            "done" if outcome.status is Status.DONE else "failed",
            outcome.action,
            status=outcome.status.value,
            fault=outcome.fault.value if outcome.fault else None,
            freed_bytes=outcome.freed_bytes,
            swap_freed_bytes=outcome.swap_freed_bytes,
            moved_bytes=outcome.moved_bytes,
            merged_bytes=outcome.merged_bytes,
            promoted_pages=outcome.promoted_pages,
            seconds=round(outcome.seconds, 3),
            detail=outcome.detail,
            controller=outcome.controller.value if outcome.controller else None,
        )


def _emit(kind: str, action: Action, **values: Any) -> None:
    line = {
        "type": kind,
        "action_id": action.id,
        "domain": None if isinstance(action, KsmAction) else action.domain.name,
        "kind": name_of(action),
        **values,
    }
    click.echo(json.dumps(line))
