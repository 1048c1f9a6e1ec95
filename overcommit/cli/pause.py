"""``overcommitctl pause`` and ``resume``: the daemon takes nothing for a while."""

from __future__ import annotations

import json
from typing import Any

import click

from overcommit.cli.console import tell
from overcommit.cli.plan import as_seconds
from overcommit.cli.session import Session, with_session
from overcommit.cli.verb import examples
from overcommit.wire.client import require_daemon
from overcommit.wire.protocol import Verb


@click.command(epilog=examples("overcommitctl pause --for 1h"))
@click.option(
    "--for",
    "seconds",
    callback=as_seconds,
    metavar="DURATION",
    help="Resume automatically after this time. [default: only by resume]",
)
@with_session
def pause(session: Session, seconds: float | None) -> None:
    """Stop overcommitd from taking memory.

    It still gives memory back to guests that are short. What it has taken already stays taken. A pause
    outlives restarts of overcommitd and of the host. Only root and the group of overcommitd may do this.
    """
    arguments = {} if seconds is None else {"seconds": seconds}
    _tell(session, Verb.PAUSE, require_daemon("pause").ask(Verb.PAUSE, arguments))


@click.command(epilog=examples("overcommitctl resume"))
@with_session
def resume(session: Session) -> None:
    """End a pause of overcommitd.

    This includes a pause that began before a restart.
    """
    _tell(session, Verb.RESUME, require_daemon("resume").ask(Verb.RESUME))


def _tell(session: Session, verb: Verb, answer: dict[str, Any]) -> None:
    if session.json:
        click.echo(json.dumps({"kind": verb.value, **answer}, indent=1))
    else:
        tell(answer["sentence"])
