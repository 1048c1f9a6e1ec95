"""Shows a plan, asks for consent, and reports its actions: shared by `apply` and `reserve`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from overcommit.cli import outcomes, render
from overcommit.cli.console import tell
from overcommit.cli.session import Session
from overcommit.control.operation import ActionListener
from overcommit.errors import UsageError
from overcommit.model.action import Action, KsmAction, name_of, subject_of
from overcommit.model.outcome import Outcome, Status
from overcommit.model.plan import Plan


def show(session: Session, plan: Plan, *, verbose: bool = False) -> None:
    """Show the plan before anything is done."""
    if session.json:
        for action in plan.actions:
            _emit("planned", action, expected_bytes=action.expected_bytes, blocked=action.blocked)
        return
    for block in render.plan_text(plan, verbose=verbose):
        tell(block)


def require_somebody_to_ask() -> None:
    """Check that there is a terminal to ask on.

    Raises:
        UsageError: there is none.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for confirmation: stdin is not a terminal", hint="add --yes, or apply a saved plan"
        )


def agreed(question: str) -> bool:
    """Whether the operator consents."""
    return click.confirm(question, err=True)


def teller(session: Session) -> ActionListener:
    """Reports actions on stdout, for people or programs."""
    return _JsonTeller() if session.json else _TextTeller(session)


class _TextTeller:
    """For people: the running action on stderr, each end on stdout."""

    def __init__(self, session: Session) -> None:
        self._console = session.console

    def started(self, action: Action) -> None:
        self._console.progress(f"  {subject_of(action)} {name_of(action)} ...")

    def progress(self, action: Action, sentence: str) -> None:
        self._console.progress(f"  {subject_of(action)} {name_of(action)}: {sentence}")

    def finished(self, outcome: Outcome) -> None:
        self._console.done()
        tell(outcomes.outcome_text(outcome))


class _JsonTeller:
    """For programs: one JSON line per event on stdout."""

    def started(self, action: Action) -> None:
        _emit("started", action)

    def progress(self, action: Action, sentence: str) -> None:
        _emit("progress", action, detail=sentence)

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
