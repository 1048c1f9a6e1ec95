"""``overcommitctl plan``: watch, and show what would be done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import click

from overcommit import own_file
from overcommit.cli import render
from overcommit.cli.beside_daemon import own_watch, plan_of, refuse_options
from overcommit.cli.console import tell
from overcommit.cli.new_file import save
from overcommit.cli.planning import observe_and_plan
from overcommit.cli.session import Session, as_word, verbose_option, with_session
from overcommit.cli.verb import examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.planning import Scope
from overcommit.display import command
from overcommit.errors import UsageError
from overcommit.plan import document
from overcommit.units import LONGEST_SECONDS, format_duration, parse_spoken_duration
from overcommit.wire.client import find_daemon

CHANGES_PENDING = 2
_PLACE = "name a file in a directory that only you can write to"
_IT_ACTS = "overcommitd applies its plans itself. To see what it does now: overcommitctl status"


def as_seconds(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """The value of an option that is a duration."""
    if text is None:
        return None
    try:
        seconds = parse_spoken_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if seconds > LONGEST_SECONDS:
        raise click.BadParameter(f"{text!r} is longer than {format_duration(LONGEST_SECONDS)}")
    return seconds


observe_for_option = click.option(
    "--observe-for",
    callback=as_seconds,
    metavar="DURATION",
    help="How long to watch. [default: a little longer than the longest cold_after in use]",
)
take_over_option = click.option(
    "--take-over",
    is_flag=True,
    help="Turn off a DAMON kernel module, or save another tool's idle configuration, and put it back "
    "afterwards.",
)
domain_option = click.option(
    "--domain", "names", multiple=True, metavar="NAME", help="Only this domain (repeatable)."
)


@click.command(
    epilog=examples(
        "overcommitctl plan",
        "overcommitctl plan -o today.plan    # then: overcommitctl apply today.plan",
        "overcommitctl plan --observe-for 2min --json",
    )
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Save the plan for apply.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@observe_for_option
@take_over_option
@domain_option
@verbose_option
@with_session
def plan(
    session: Session,
    output: Path | None,
    detailed_exitcode: bool,
    observe_for: float | None,
    take_over: bool,
    names: tuple[str, ...],
    verbose: bool,
) -> None:
    """Watch the domains, and show what would be taken and why.

    It changes nothing but the DAMON monitors that it starts and stops itself. While overcommitd runs,
    this prints the daemon's plan, from its own watch and policy. Every user may see it. Nothing is
    started for it.
    """
    if output is not None:
        _require_place(output)
    daemon = find_daemon()
    if daemon is None:
        scope = Scope(names=names, observe_for=observe_for)
        made = observe_and_plan(session, "plan", scope, take_over=take_over)
    else:
        given = {"--domain": bool(names), **own_watch(session, observe_for, take_over=take_over)}
        refuse_options(daemon, given, command(OVERCOMMITCTL, "plan", "-v"))
        made = plan_of(daemon, session)
    if session.json:
        click.echo(document.dumps(made), nl=False)
    else:
        for block in render.plan_text(made, verbose=verbose):
            tell(block)
    if output is not None:
        save(output, document.dumps(made), "the plan", hint=_PLACE)
        lifetime = format_duration(made.expires_at - made.created_at)
        session.console.say(f"Saved to {output}. It is valid for {lifetime}, or until the host changes.")
        if daemon is None:
            _warn_of_place(session, output)
            session.console.say("To apply exactly this plan:")
            session.console.say(f"  {command(OVERCOMMITCTL, 'apply', as_word(output))}")
        else:
            session.console.say(_IT_ACTS)
    elif daemon is not None:
        session.console.say(_IT_ACTS)
    elif made.runnable and not session.json:
        chosen = [word for name in names for word in ("--domain", name)]
        if observe_for is not None:
            chosen += ["--observe-for", f"{observe_for:.15g}s"]
        session.console.say("To save a plan and apply exactly that:")
        session.console.say(f"  {command(OVERCOMMITCTL, 'plan', *chosen, '-o', 'plan.json')}")
        session.console.say(f"  {command(OVERCOMMITCTL, 'apply', 'plan.json')}")
    if detailed_exitcode and made.runnable:
        raise SystemExit(CHANGES_PENDING)


def _require_place(file: Path) -> None:
    """Check that a plan can be saved there, before the watch.

    Raises:
        UsageError: it cannot.
    """
    why = None
    try:
        if file.is_symlink() and (file.is_file() or not file.exists()):
            why = "it is a symbolic link; name the file itself"
        elif file.is_dir():
            why = os.strerror(errno.EISDIR)
        elif not file.parent.is_dir():
            why = f"there is no directory {file.parent}"
    except OSError as error:
        why = error.strerror
    if why is not None:
        raise UsageError(f"cannot save the plan to {file}: {why}", hint=_PLACE)


def _warn_of_place(session: Session, file: Path) -> None:
    """Warn now if `apply` will refuse the file, because others may replace it."""
    try:
        own_file.read(
            file, "the plan", most_bytes=document.MOST_BYTES, owners=own_file.callers(), follow=False
        )
    except own_file.Untrusted as refused:
        session.console.say(
            f"apply will refuse it there: {refused}. To save it where apply accepts it, {_PLACE}"
        )
    except UsageError:
        return  # a pipe, or a device
