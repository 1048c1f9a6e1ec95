"""``overcommitctl apply``: carry out a plan, verify it, report what the host got."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from overcommit import own_file
from overcommit.cli import outcomes, render
from overcommit.cli.beside_daemon import refuse_beside_daemon
from overcommit.cli.console import tell
from overcommit.cli.doing import agreed, require_somebody_to_ask, show, teller
from overcommit.cli.plan import as_seconds, domain_option, observe_for_option, take_over_option
from overcommit.cli.session import Session, as_word, require_root, verbose_option, with_session
from overcommit.cli.verb import examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.applying import do
from overcommit.control.operation import Operation
from overcommit.control.planning import Scope, plan_now
from overcommit.display import command
from overcommit.errors import CutShort, OvercommitError, Refused, StalePlan, UsageError
from overcommit.host.memory import read_host
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import HostBalance, Report
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.plan.case import worthwhile
from overcommit.records.journal import Generation
from overcommit.units import format_size

APPLIED_IN_PART = 3
FAILED = 1
_POOR_ROUNDS = 2
"""After this many rounds in turn with almost no gain the waiting ends."""


@click.command(
    epilog=examples(
        "overcommitctl apply",
        "overcommitctl apply today.plan",
        "overcommitctl apply --yes --wait    # repeats until nothing more is gained",
    )
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Then plan and apply again until nothing more is freed.")
@click.option(
    "--timeout",
    default="30min",
    show_default=True,
    callback=as_seconds,
    metavar="DURATION",
    help="With --wait: start no new round after this time.",
)
@click.option(
    "--trust-file",
    is_flag=True,
    help="Apply FILE even if other users could have written it. It is still checked.",
)
@observe_for_option
@take_over_option
@domain_option
@verbose_option
@with_session
def apply(
    session: Session,
    file: Path | None,
    yes: bool,
    wait: bool,
    timeout: float,
    trust_file: bool,
    observe_for: float | None,
    take_over: bool,
    names: tuple[str, ...],
    verbose: bool,
) -> None:
    """Carry out the saved plan FILE. Without FILE: plan, show the plan, ask, and carry it out.

    FILE must belong to root or to you (with sudo: to the user who called it), and no other user may be
    able to write or replace it. Each action is checked against the policy and the host as they are now.

    Exit status, over all rounds: 0 all done, or nothing to do; 1 failed; 3 done in part; 4 refused or
    declined, nothing changed. To undo: overcommitctl restore.
    """
    require_root()
    saved_in = () if file is None else (as_word(file),)
    refuse_beside_daemon(
        "it applies its plans itself",
        "systemctl stop overcommitd && " + command(OVERCOMMITCTL, "apply", *saved_in),
    )
    if file is None and not yes:
        require_somebody_to_ask()
    watching = bool(names) or observe_for is not None
    _require_as_saved(file, watching=watching, wait=wait, trusted=trust_file)
    policy = session.policy()
    with _saved_in(file):
        saved = _read(file, trusted=trust_file) if file is not None else None
    if saved is None or saved.needs_damon:
        session.require_damon(take_over=take_over)
    hypervisor = session.hypervisor(read_only=False)
    with session.generation("apply") as generation:
        operation = Operation(
            control=session,
            hypervisor=hypervisor,
            generation=generation,
            policy=policy,
            take_over=take_over,
        )
        scope = Scope(names=names, observe_for=observe_for)
        deadline = session.clock.monotonic() + timeout
        first = saved or plan_now(operation, scope, session.console)
        if saved is None:
            show(session, first, verbose=verbose)
        if not first.runnable:
            session.console.say("nothing to do")
            _tell_nothing(session, generation, complete=True)
            return
        more = ", then what later rounds find" if wait else ""
        if saved is None and not yes and not agreed(f"Do this (frees {render.gains(first)}){more}?"):
            _tell_nothing(session, generation, complete=False)
            raise Refused("you answered no: nothing was changed")
        with _saved_in(file):
            rounds = [do(operation, first, teller(session))]
        failure = rounds[-1].failure
        if wait and failure is None:
            try:
                for report in _go_on(session, operation, scope, rounds[0], deadline):
                    rounds.append(report)
                    failure = report.failure
            except (OvercommitError, KeyboardInterrupt) as error:
                failure = error
        _end(session, rounds, failure)


@contextlib.contextmanager
def _saved_in(file: Path | None) -> Iterator[None]:
    """Where a saved plan is refused, add how to save a new one."""
    try:
        yield
    except StalePlan as stale:
        if file is None:
            raise
        hint = command(OVERCOMMITCTL, "plan", "-o", str(file))
        raise StalePlan(str(stale), hint=hint) from stale


def _require_as_saved(file: Path | None, *, watching: bool, wait: bool, trusted: bool) -> None:
    """Check that the options fit a saved plan, or the lack of one.

    Raises:
        UsageError: they do not.
    """
    if file is None:
        if trusted:
            raise UsageError("--trust-file needs a saved plan, and no FILE is named")
        return
    if watching:
        raise UsageError("--domain and --observe-for do not fit a saved plan: it is applied exactly as it is")
    if wait:
        once = command(OVERCOMMITCTL, "apply", as_word(file))
        then = command(OVERCOMMITCTL, "apply", "--wait")
        raise UsageError(
            "--wait does not fit a saved plan: it makes new plans", hint=f"first {once}, then {then}"
        )


def _go_on(
    session: Session, operation: Operation, scope: Scope, last: Report, deadline: Monotonic
) -> Iterator[Report]:
    """Plan and apply again until there is nothing to do, nothing is gained, or the time is over."""
    say, number, poor = session.console.say, 1, 0
    gained = last.gained_bytes
    while True:
        poor = 0 if gained >= worthwhile(0) else poor + 1
        so_far = f"round {number} freed {format_size(gained)}"
        if poor == _POOR_ROUNDS:
            say(f"{so_far}, again almost nothing. Stopping")
            return
        if session.clock.monotonic() >= deadline:
            say(f"{so_far}. Stopping at the timeout")
            return
        say(f"{so_far}. Planning again")
        plan = plan_now(operation, scope, session.console)
        if not plan.runnable:
            say("nothing more to do")
            return
        if session.json:
            show(session, plan)
        number += 1
        try:
            report = do(operation, plan, teller(session))
        except StalePlan as stale:  # a guest went its own way between the plan and its first action
            say(str(stale))
            gained = 0
            continue
        yield report
        if report.failure is not None:
            return
        gained = report.gained_bytes


def _end(
    session: Session, rounds: Sequence[Report], failure: OvercommitError | KeyboardInterrupt | None
) -> None:
    """Report the sum of all rounds, and then raise what ended them early."""
    report = Report.of_rounds(rounds)
    _tell(session, report, len(rounds), complete=report.complete and failure is None)
    if isinstance(failure, OvercommitError) and report.changed:
        raise CutShort(str(failure), hint=failure.hint) from failure
    if failure is not None:
        raise failure
    if not report.complete:
        raise SystemExit(APPLIED_IN_PART if report.changed else FAILED)


def _read(file: Path, *, trusted: bool) -> Plan:
    """The plan in a file of root or of this user, or in any file if it is ``trusted``."""
    owners = None if trusted else own_file.callers()
    try:
        data = own_file.read(file, "the plan", most_bytes=document.MOST_BYTES, owners=owners, follow=False)
        return document.loads(data.decode(), str(file))
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the plan {file}: not text") from error
    except own_file.Untrusted as refused:
        hint = (
            "to make your own plan: overcommitctl plan -o plan.json; or add --trust-file, if you trust "
            "everybody who can write it"
        )
        raise own_file.Untrusted(str(refused), hint=hint) from refused


def _tell_nothing(session: Session, generation: Generation, *, complete: bool) -> None:
    """Write the summary for programs, which expect one also when nothing was done."""
    if session.json:
        host = read_host(session.kernel)
        report = Report(generation=generation.number, outcomes=(), balance=HostBalance.between(host, host))
        _summarize(report, 0, complete=complete)


def _summarize(report: Report, rounds: int, *, complete: bool) -> None:
    summary: dict[str, Any] = {
        "type": "summary",
        "generation": report.generation,
        "rounds": rounds,
        "freed_bytes": report.freed_bytes,
        "moved_bytes": report.moved_bytes,
        "complete": complete,
        "host": {name: getattr(report.balance, name) for name in HostBalance.__dataclass_fields__},
    }
    click.echo(json.dumps(summary))


def _tell(session: Session, report: Report, rounds: int, *, complete: bool) -> None:
    if session.json:
        _summarize(report, rounds, complete=complete)
        return
    for line in outcomes.report_text(report):
        tell(line)
    if any(entry.generation == report.generation for entry in session.journal.outstanding()):
        session.console.say(
            f"generation {report.generation} is in force. To undo: {command(OVERCOMMITCTL, 'restore')}"
        )
    else:
        session.console.say("nothing to undo: paged-out memory comes back when its guest touches it")
    if report.moved_bytes:
        session.console.say(
            "memory that was moved to another node stays there until the kernel moves it back"
        )
