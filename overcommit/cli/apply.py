"""``overcommitctl apply``: do a plan, verify it, report what the host really got."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from overcommit.apply.execute import carry_out
from overcommit.apply.worksite import Worksite
from overcommit.cli import render
from overcommit.cli.plan import domain_option, observe_for_option, take_over_option
from overcommit.cli.planning import plan_now
from overcommit.cli.session import Session, require_root, with_session
from overcommit.damon.pool import DamonPool
from overcommit.errors import UsageError
from overcommit.hypervisor.port import Hypervisor
from overcommit.journal import Generation
from overcommit.model.action import Action, name_of
from overcommit.model.outcome import Outcome, Report, Status
from overcommit.model.plan import Plan
from overcommit.model.policy import Policy
from overcommit.observe.facts import observe
from overcommit.plan import document
from overcommit.plan.freshness import require_fresh

APPLIED_IN_PART = 3
FAILED = 1


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@observe_for_option
@take_over_option
@domain_option
@with_session
def apply(
    session: Session,
    file: Path | None,
    yes: bool,
    observe_for: float | None,
    take_over: bool,
    names: tuple[str, ...],
) -> None:
    """Do exactly the saved plan FILE; without one: plan, show, ask, do.

    Exit status: 0 all done; 3 in part; 4 refused, nothing changed. Undo with overcommitctl restore.
    """
    require_root()
    if file is None and not yes and not sys.stdin.isatty():
        raise UsageError("nobody to ask: stdin is not a terminal", hint="add --yes, or apply a saved plan")
    if file is not None and (names or observe_for is not None):
        raise UsageError("a saved plan is applied as it is: --domain and --observe-for belong to plan")
    policy = session.policy()
    saved = _read(file) if file is not None else None
    if saved is None or saved.needs_damon:
        session.require_damon(take_over=take_over)
    hypervisor = session.hypervisor(read_only=False)
    with session.generation("apply") as generation:
        chosen = saved or plan_now(
            session,
            hypervisor,
            generation,
            policy,
            names=names,
            observe_for=observe_for,
            take_over=take_over,
        )
        if saved is None:
            _show(session, chosen)
        if not chosen.runnable:
            session.talk.say("nothing to do")
            return
        if saved is None and not yes:
            _ask(chosen)
        report = _do(session, hypervisor, generation, chosen, policy, take_over=take_over)
    _tell(session, report)
    if not report.complete:
        useless = all(o.status in {Status.FAILED, Status.UNDONE} for o in report.outcomes)
        raise SystemExit(FAILED if useless else APPLIED_IN_PART)


def _read(file: Path) -> Plan:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(f"cannot read the plan {file}: {why}") from error
    return document.loads(text, str(file))


def _show(session: Session, plan: Plan) -> None:
    if session.json:
        for action in plan.actions:
            _emit("planned", action, expected_bytes=action.expected_bytes, blocked=action.blocked)
        return
    for line in render.plan_text(plan):
        click.echo(line)


def _ask(plan: Plan) -> None:
    question = f"Do this (frees {render.gains(plan)})?"
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(0)


def _do(
    session: Session,
    hypervisor: Hypervisor,
    generation: Generation,
    plan: Plan,
    policy: Policy,
    *,
    take_over: bool,
) -> Report:
    snapshot = observe(session.kernel, hypervisor, session.clock)
    require_fresh(plan, snapshot, policy)
    teller = _JsonTeller() if session.json else _TextTeller(session)
    site = Worksite(
        kernel=session.kernel,
        hypervisor=hypervisor,
        clock=session.clock,
        generation=generation,
        progress=teller.progress,
    )
    with DamonPool(session.kernel, session.journal, generation) as pool:
        return carry_out(
            site,
            pool,
            plan,
            snapshot,
            take_over=take_over,
            started=teller.started,
            finished=teller.finished,
        )


class _TextTeller:
    """Tells people: the action under way on stderr, each end on stdout."""

    def __init__(self, session: Session) -> None:
        self._talk = session.talk

    def started(self, action: Action) -> None:
        self._talk.progress(f"  {action.domain.name} {name_of(action)} ...")

    def progress(self, sentence: str) -> None:
        self._talk.progress(f"    {sentence}")

    def finished(self, outcome: Outcome) -> None:
        self._talk.done()
        click.echo(render.outcome_text(outcome))


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
            freed_bytes=outcome.freed_bytes,
            moved_bytes=outcome.moved_bytes,
            promoted_pages=outcome.promoted_pages,
            seconds=round(outcome.seconds, 3),
            detail=outcome.detail,
            controller=outcome.controller.value if outcome.controller else None,
        )


def _emit(kind: str, action: Action, **values: Any) -> None:
    line = {
        "type": kind,
        "action_id": action.id,
        "domain": action.domain.name,
        "kind": name_of(action),
        **values,
    }
    click.echo(json.dumps(line))


def _tell(session: Session, report: Report) -> None:
    if session.json:
        summary: dict[str, Any] = {
            "type": "summary",
            "generation": report.generation,
            "freed_bytes": report.freed_bytes,
            "moved_bytes": report.moved_bytes,
            "complete": report.complete,
            "host": {name: getattr(report.balance, name) for name in _names(report)},
        }
        click.echo(json.dumps(summary))
        return
    for line in render.report_text(report):
        click.echo(line)
    if any(entry.generation == report.generation for entry in session.journal.outstanding()):
        session.talk.say(f"generation {report.generation} is in force. To undo: overcommitctl restore")
    else:
        session.talk.say("nothing to undo: what was paged out comes back when the guest touches it")
    if report.moved_bytes:
        session.talk.say("what was moved to another node stays there: only the kernel may move it back")


def _names(report: Report) -> Sequence[str]:
    return tuple(type(report.balance).__dataclass_fields__)
