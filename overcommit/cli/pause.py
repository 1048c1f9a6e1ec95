"""``overcommitctl pause`` and ``resume``: have the daemon take nothing for a while."""

from __future__ import annotations

import json
from typing import Any

import click

from overcommit.cli.console import tell
from overcommit.cli.plan import as_seconds
from overcommit.cli.session import Session, with_session
from overcommit.wire.client import require_daemon
from overcommit.wire.protocol import Verb


@click.command()
@click.option(
    "--for",
    "seconds",
    callback=as_seconds,
    metavar="DURATION",
    help="Resume automatically after this time. [default: only by resume]",
)
@with_session
def pause(session: Session, seconds: float | None) -> None:
    """Have overcommitd take nothing from any domain; it still gives back to guests that are short.

    What it has taken already stays taken. It lasts over restarts of overcommitd, and of the host. For root,
    and for the group that overcommitd was told.
    """
    arguments = {} if seconds is None else {"seconds": seconds}
    _tell(session, Verb.PAUSE, require_daemon("pause").ask(Verb.PAUSE, arguments))


@click.command()
@with_session
def resume(session: Session) -> None:
    """End a pause of overcommitd, whichever run of it was told to."""
    _tell(session, Verb.RESUME, require_daemon("resume").ask(Verb.RESUME))


def _tell(session: Session, verb: Verb, answer: dict[str, Any]) -> None:
    if session.json:
        click.echo(json.dumps({"kind": verb.value, **answer}, indent=1))
    else:
        tell(answer["sentence"])
