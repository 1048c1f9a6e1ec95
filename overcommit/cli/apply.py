"""``overcommitctl apply``: do a plan, verify it, report what the host really got."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from overcommit.cli import render
from overcommit.cli.daemon_client import refuse_beside_daemon
from overcommit.cli.doing import agreed, do, require_somebody_to_ask, show
from overcommit.cli.plan import as_seconds, domain_option, observe_for_option, take_over_option
from overcommit.cli.planning import plan_now
from overcommit.cli.session import Session, require_root, with_session
from overcommit.errors import StalePlan, UsageError
from overcommit.model.outcome import HostBalance, Report, Status
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.plan.case import worthwhile
from overcommit.units import format_size

APPLIED_IN_PART = 3
FAILED = 1
_POOR_ROUNDS = 2
"""So many in turn that gain next to nothing end the waiting."""


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Then plan and apply again, until nothing more is gained.")
@click.option(
    "--timeout",
    default="30min",
    show_default=True,
    callback=as_seconds,
    metavar="DURATION",
    help="With --wait: begin no round after that.",
)
@observe_for_option
@take_over_option
@domain_option
@with_session
def apply(
    session: Session,
    file: Path | None,
    yes: bool,
    wait: bool,
    timeout: float,
    observe_for: float | None,
    take_over: bool,
    names: tuple[str, ...],
) -> None:
    """Do exactly the saved plan FILE; without one: plan, show, ask, do.

    Exit status, over all rounds: 0 all done; 3 in part; 4 refused, nothing changed. Undo with overcommitctl
    restore.
    """
    require_root()
    refuse_beside_daemon(
        "it applies plans itself",
        "systemctl stop overcommitd, which puts everything back, then apply; or leave it to overcommitd",
    )
    if file is None and not yes:
        require_somebody_to_ask()
    if file is not None and (names or observe_for is not None):
        raise UsageError("a saved plan is applied as it is: --domain and --observe-for belong to plan")
    if file is not None and wait:
        raise UsageError(
            "a saved plan is applied exactly once: --wait makes new ones",
            hint="apply the plan first, then run overcommitctl apply --wait without it",
        )
    policy = session.policy()
    saved = _read(file) if file is not None else None
    if saved is None or saved.needs_damon:
        session.require_damon(take_over=take_over)
    hypervisor = session.hypervisor(read_only=False)
    with session.generation("apply") as generation:

        def look() -> Plan:
            return plan_now(
                session,
                hypervisor,
                generation,
                policy,
                names=names,
                observe_for=observe_for,
                take_over=take_over,
            )

        def work(plan: Plan) -> Report:
            return do(session, hypervisor, generation, plan, policy, take_over=take_over)

        deadline = session.clock.monotonic() + timeout
        first = saved or look()
        if saved is None:
            show(session, first)
        if not first.runnable:
            session.talk.say("nothing to do")
            return
        more = ", and what later rounds find" if wait else ""
        if saved is None and not yes and not agreed(f"Do this (frees {render.gains(first)}){more}?"):
            return
        rounds = [work(first)]
        if wait:
            rounds += _go_on(session, look, work, rounds[0], deadline)
    report = Report.of_rounds(rounds)
    _tell(session, report, len(rounds))
    if not report.complete:
        useless = all(o.status in {Status.FAILED, Status.UNDONE} for o in report.outcomes)
        raise SystemExit(FAILED if useless else APPLIED_IN_PART)


def _go_on(
    session: Session, look: Callable[[], Plan], work: Callable[[Plan], Report], first: Report, deadline: float
) -> Iterator[Report]:
    """Plan and apply again until there is nothing to do, nothing is gained, or it is time to end."""
    say, number, poor = session.talk.say, 1, 0
    gained = first.freed_bytes + first.moved_bytes
    while True:
        poor = 0 if gained >= worthwhile(0) else poor + 1
        so_far = f"round {number} gained {format_size(gained)}"
        if poor == _POOR_ROUNDS:
            say(f"{so_far}, as little as the one before: ending")
            return
        if session.clock.monotonic() >= deadline:
            say(f"{so_far}: ending, the time is up")
            return
        say(f"{so_far}; planning again")
        plan = look()
        if not plan.runnable:
            say("nothing is left to do")
            return
        if session.json:
            show(session, plan)
        number += 1
        try:
            report = work(plan)
        except StalePlan as stale:  # a guest went its own way between the plan and its first action
            say(str(stale))
            gained = 0
            continue
        gained = report.freed_bytes + report.moved_bytes
        yield report


def _read(file: Path) -> Plan:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(f"cannot read the plan {file}: {why}") from error
    return document.loads(text, str(file))


def _tell(session: Session, report: Report, rounds: int) -> None:
    if session.json:
        summary: dict[str, Any] = {
            "type": "summary",
            "generation": report.generation,
            "rounds": rounds,
            "freed_bytes": report.freed_bytes,
            "moved_bytes": report.moved_bytes,
            "complete": report.complete,
            "host": {name: getattr(report.balance, name) for name in HostBalance.__dataclass_fields__},
        }
        click.echo(json.dumps(summary))
        return
    for line in render.report_text(report):
        click.echo(line)
    if any(entry.generation == report.generation for entry in session.journal.outstanding()):
        session.talk.say(f"generation {report.generation} is in force. To undo: overcommitctl restore")
    else:
        session.talk.say("nothing to undo: what a guest needs of it comes back when it touches it")
    if report.moved_bytes:
        session.talk.say("what was moved to another node stays there: only the kernel may move it back")
