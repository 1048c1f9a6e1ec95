"""``overcommitctl history``: what was done on this host, to which domain, why, and the result. Read-only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import click

from overcommit.cli.console import tell
from overcommit.cli.history_text import event_json, events_text, in_force
from overcommit.cli.moments import parse_moment
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.verb import domain_names, examples
from overcommit.control.naming import nearest
from overcommit.errors import OvercommitError, UsageError
from overcommit.model.history import Event
from overcommit.model.moments import Wall

_ALL = 20_000
"""More events are not stored."""


@click.command(epilog=examples("overcommitctl history", "overcommitctl history web --since yesterday"))
@click.argument("names", nargs=-1, metavar="[DOMAIN]...", shell_complete=domain_names)
@click.option("--since", metavar="TIME", help="Only events since then: 24h, yesterday, 2026-11-29.")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="At most the newest N events.",
)
@with_session
def history(session: Session, names: tuple[str, ...], since: str | None, number: int) -> None:
    """Show what was done, to which domain, when and why.

    It also shows how each action ended, restores, and reservations. The newest event comes last. Events are
    kept for 90 days, and at most 20000 of them.
    """
    require_root()
    after = Wall(0.0) if since is None else _moment(session, since)
    events = session.ledger.events(about=names, since=after, most=number)
    session.tell_damage()
    events = (*events, *_open_ends(session, names, after))[-number:]
    if names and not any(event.about in names for event in events):
        _require_known(session, names)
    changes = session.in_force()
    stands = [in_force(event, changes) for event in events]
    if session.json:
        found = [event_json(event, stands=s) for event, s in zip(events, stands, strict=True)]
        click.echo(json.dumps({"kind": "history", "events": found}, indent=1))
    elif events:
        tell(events_text(events, stands))
    else:
        tell("No events. overcommit changed nothing here, or it was too long ago.")


def _moment(session: Session, text: str) -> Wall:
    try:
        return parse_moment(text, session.clock.now())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error


def _require_known(session: Session, names: Sequence[str]) -> None:
    """Check that each name has events or is that of a running domain.

    Where libvirt does not list the running domains, every name is accepted.

    Raises:
        UsageError: one is neither.
    """
    remembered = {event.about for event in session.ledger.events(since=Wall(0.0), most=_ALL) if event.about}
    unknown = [name for name in names if name not in remembered]
    if not unknown:
        return
    try:
        running = {listed.name for listed in session.hypervisor(read_only=True).domains()}
    except OvercommitError:
        return
    for name in unknown:
        if name not in running:
            near = nearest(name, remembered | running)
            raise UsageError(
                f"no domain {name!r} is running, and history has no events of one",
                hint=f"did you mean {near}?" if near else "to see all events: overcommitctl history",
            )


def _open_ends(session: Session, names: tuple[str, ...], after: Wall) -> Iterator[Event]:
    """Actions that were started and have not ended: they are running, or were interrupted."""
    holder = session.journal.holder()
    for entry in session.journal.begun():
        event = session.interrupted(entry, "interrupted" if holder is None else f"in progress ({holder})")
        if event.at >= after and (not names or event.about in names):
            yield event
