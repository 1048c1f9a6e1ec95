"""``overcommitctl restore``: put back what we changed."""

from __future__ import annotations

import dataclasses
import json

import click

from overcommit.apply.restore import Restored
from overcommit.apply.restore import restore as put_back
from overcommit.cli.daemon_client import refuse_beside_daemon
from overcommit.cli.session import Session, require_root, with_session
from overcommit.model.history import RESTORE
from overcommit.model.outcome import Status

RESTORED_IN_PART = 3
NOTHING = Restored(done=(), left=())


@click.command()
@click.argument("generation", required=False, type=click.IntRange(min=1))
@with_session
def restore(session: Session, generation: int | None) -> None:
    """Undo GENERATION and all later ones; without it, everything that is outstanding.

    Stops kdamonds of ours, gives DAMON back to who had it, sets KSM as it was, and lets balloons and memory
    devices return to their former size. Memory that was paged out needs nothing: it comes back when the guest
    touches it; pages that were merged stay so until they are written to. Running it twice is harmless.

    A guest is waited for as long as it goes on taking its memory back, four minutes at most; what it takes
    later is no failure. Exit status 3: something was refused, or a guest takes no more.
    """
    require_root()
    refuse_beside_daemon(
        "what is in force is what it works with",
        "systemctl stop overcommitd puts everything back; overcommitctl pause has it take nothing more",
    )
    session.journal.lock()
    try:
        result = put_back(
            session.kernel,
            session.journal,
            session.clock,
            lambda: session.hypervisor(read_only=False),
            since=generation or 0,
            progress=session.talk.progress,
        )
    finally:
        session.talk.done()
        session.journal.unlock()
    if result != NOTHING:
        status = Status.PARTIAL if result.left or result.under_way else Status.DONE
        not_done = (f"NOT restored: {sentence}" for sentence in result.left)
        detail = "; ".join((*result.done, *result.under_way, *not_done))
        session.ledger.note(session.happened(RESTORE, status, detail))
    if session.json:
        click.echo(json.dumps({"kind": "restore", **dataclasses.asdict(result)}, indent=1))
    else:
        for sentence in result.done:
            click.echo(f"  {sentence}")
        for sentence in result.under_way:
            click.echo(f"  {sentence}; it needs no help, and another restore will see it there")
        for sentence in result.left:
            click.echo(f"  NOT restored: {sentence}")
        if result == NOTHING:
            click.echo("Nothing to restore: the host is as we found it.")
    if result.left:
        session.talk.say("run overcommitctl restore again when that is mended")
        raise SystemExit(RESTORED_IN_PART)
