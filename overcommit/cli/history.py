"""``overcommitctl history``: what was done on this host, to whom, why, and how it ended. Read-only."""

from __future__ import annotations

import json

import click

from overcommit.cli.plan import as_seconds
from overcommit.cli.remembered import event_json, events_text, in_force
from overcommit.cli.session import Session, require_root, with_session


@click.command()
@click.argument("names", nargs=-1, metavar="[DOMAIN]...")
@click.option("--since", callback=as_seconds, metavar="DURATION", help="No older than that, like 24h.")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="No more than the newest so many.",
)
@with_session
def history(session: Session, names: tuple[str, ...], since: float | None, number: int) -> None:
    """Tell what was taken from whom, when, why and how it ended; also restores and reservations.

    The newest comes last. What was done is remembered for 90 days, as far as 20000 events reach.
    """
    require_root()
    after = 0.0 if since is None else session.clock.now() - since
    events = session.ledger.events(about=names, since=after, most=number)
    changes = session.in_force()
    stands = [in_force(event, changes) for event in events]
    if session.json:
        found = [event_json(event, stands=s) for event, s in zip(events, stands, strict=True)]
        click.echo(json.dumps({"kind": "history", "events": found}, indent=1))
    elif events:
        for line in events_text(events, stands):
            click.echo(line)
    else:
        click.echo("Nothing is remembered of that: overcommit changed nothing here, or it is too long ago.")
