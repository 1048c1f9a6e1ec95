"""``overcommitctl status``: the host and its domains now, and what is still changed. Read-only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from overcommit.cli import status_text
from overcommit.cli.beside_daemon import refuse_options
from overcommit.cli.console import tell
from overcommit.cli.history_text import quarantine_texts, reservation_of, reservation_text
from overcommit.cli.session import Session, require_root, verbose_option, with_session
from overcommit.cli.status_text import Document
from overcommit.cli.tables import Block, Table, prose, table
from overcommit.cli.verb import domain_names, examples
from overcommit.control.naming import names_of
from overcommit.control.status import Mode, status_document
from overcommit.model.moments import Wall
from overcommit.observe.facts import observe
from overcommit.units import counted
from overcommit.wire.client import Daemon, find_daemon
from overcommit.wire.protocol import Verb


@click.command(epilog=examples("overcommitctl status", "overcommitctl status web -v"))
@click.argument("names", nargs=-1, metavar="[DOMAIN]...", shell_complete=domain_names)
@verbose_option
@with_session
def status(session: Session, names: tuple[str, ...], verbose: bool) -> None:
    """Show each domain's memory, and the changes in force.

    While overcommitd runs, this is its latest state. Every user may see it.
    """
    daemon = find_daemon()
    seen = _look(session) if daemon is None else _ask(session, daemon)
    meant = names_of(names, {domain["uuid"]: domain["name"] for domain in seen["domains"]})
    if names:
        seen["domains"] = [domain for domain in seen["domains"] if domain["name"] in meant]
    if session.json:
        click.echo(json.dumps(seen, indent=1))
        return
    for block in _text(seen, session.clock.now(), verbose=verbose):
        tell(block)


def _look(session: Session) -> dict[str, Any]:
    policy = session.policy()
    require_root()
    hypervisor = session.hypervisor(read_only=True)
    snapshot = observe(session.kernel, hypervisor, session.clock)
    past = session.past(snapshot.taken_at)
    session.tell_damage()
    return status_document(snapshot, policy, past, session.journal.generations())


def _ask(session: Session, daemon: Daemon) -> dict[str, Any]:
    refuse_options(daemon, {"--policy": session.policy_path is not None}, "overcommitctl status")
    seen = daemon.ask(Verb.STATUS)
    if late := status_text.lateness(seen, session.clock.now()):
        session.console.say(late)
    return seen


def _text(seen: Document, now: Wall, *, verbose: bool = False) -> Iterator[Block]:
    manual = seen["mode"] == Mode.MANUAL.value
    yield from status_text.host_lines(seen)
    if seen["domains"]:
        yield _table(seen["domains"], manual=manual, verbose=verbose)
    yield from status_text.about(seen["domains"])
    for line in (seen["policy_refused"] or "").splitlines():
        yield f"  the policy on disk is refused: {line}"
    for area in seen["host"]["swap"]:
        yield prose(f"  swap: {area['text']}")
    for gap in seen["gaps"]:
        yield prose(f"  left out: {gap['what']}: {gap['why']}")
    for reservation in seen["reservations"]:
        yield prose(f"  {reservation_text(reservation_of(reservation), now)}")
    for quarantine in seen["quarantines"]:
        text, ending = quarantine_texts(quarantine)
        yield prose(f"  {text}")
        yield f"      to end it: {ending}"
    for generation in seen["generations"]:
        yield f"  {generation_text(generation, manual=manual)}"


def generation_text(generation: Mapping[str, Any], *, manual: bool) -> str:
    """What is still changed of a generation of the document, in one line."""
    undone = "to undo: overcommitctl restore" if manual else "stop overcommitd to undo"
    return (
        f"generation {generation['number']} ({generation['command']}): "
        f"{counted(generation['changes'], 'change')} in force; {undone}"
    )


def _table(domains: Sequence[Document], *, manual: bool, verbose: bool) -> Table:
    """What fits 80 columns; everything when ``verbose``. The state is shown where a domain is not running."""
    columns = [status_text.DOMAIN, status_text.CLASS]
    if verbose or not all(map(status_text.runs, domains)):
        columns.append(status_text.STATE)
    columns += [status_text.MEMORY, status_text.RESIDENT]
    if manual or verbose:
        columns += [status_text.SWAPPED, status_text.BALLOON, status_text.PRESSURE]
    if not manual:
        columns += [status_text.TARGET] if verbose else []
        columns += [status_text.TAKEN, status_text.READ_BACK, status_text.COLD_AFTER]
        columns += [status_text.PAIN] if verbose else []
    rows = ([column.cell(domain) for column in columns] for domain in domains)
    left = [i for i, column in enumerate(columns) if column.left]
    return table([column.name for column in columns], rows, left=left)
