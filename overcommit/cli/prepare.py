"""``overcommitctl prepare``: what definitions lack, and the change that adds it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from overcommit.cli.console import tell
from overcommit.cli.plan import CHANGES_PENDING
from overcommit.cli.session import Session, as_argument, require_root, with_session
from overcommit.cli.tables import Line
from overcommit.cli.verb import domain_names, examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.preparing import Candidate, look, write
from overcommit.display import command, display_name
from overcommit.errors import CutShort, HostError, Refused

_COLOURS = {"-": "red", "+": "green", "@": "cyan"}
_NEXT = (
    "Takes effect at the next power cycle of the domain: shut it down and start it. prepare does not do that."
)


@click.command(epilog=examples("overcommitctl prepare", "overcommitctl prepare web --apply"))
@click.argument("domains", nargs=-1, metavar="[DOMAIN]...", shell_complete=domain_names)
@click.option("--apply", "applying", is_flag=True, help="Write the changes. Without it nothing is written.")
@click.option("--dry-run", is_flag=True, help="Only show the changes (the default).")
@click.option(
    "--anyway",
    is_flag=True,
    help="Also change definitions that another manager owns, and add a balloon where the model is 'none'.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when something is lacking.")
@with_session
def prepare(
    session: Session,
    domains: tuple[str, ...],
    applying: bool,
    dry_run: bool,
    anyway: bool,
    detailed_exitcode: bool,
) -> None:
    """Show what the definition of each DOMAIN lacks, as a diff.

    By default it shows all domains. A persistent definition may lack free page reporting, autodeflate and a
    statistics period of the balloon, and a channel for the guest agent. --apply writes the change, and first
    an undo record: "overcommitctl restore --definitions" puts the former definition back. A change takes
    effect at the next power cycle of the domain (a reboot inside of the guest is not enough). prepare never
    does that itself.

    Where OpenStack Nova, oVirt or another manager owns a definition, nothing is written. prepare says what to
    set in that manager.
    """
    if applying and dry_run:
        raise click.UsageError("--apply and --dry-run exclude each other")
    if applying:
        require_root()
    definitions = session.definitions(read_only=not applying)
    candidates = look(definitions, domains, anyway=anyway)
    open_ = [c for c in candidates if c.refusal(anyway=anyway) is None and c.found and c.found.lacks]
    if not session.json:
        _show(candidates, anyway=anyway)
    ended = write(session, definitions, open_, anyway=anyway) if applying and open_ else {}
    if session.json:
        _print_json(candidates, ended, anyway=anyway)
    else:
        _tell_ends(session, candidates, ended, applying=applying, open_=open_)
    refused = [c for c in candidates if domains and c.found and c.refusal(anyway=anyway)]
    failures = [
        f"{c.domain.name}: {why}"
        for c in candidates
        if (why := c.gap or ended.get(c.domain.uuid)) is not None
    ]
    written = [uuid for uuid, why in ended.items() if why is None]
    if failures:
        raise (CutShort if written else HostError)(failures[0])
    if applying and refused:
        raise (CutShort if written else Refused)(
            f"{refused[0].domain.name}: {refused[0].refusal(anyway=anyway)}",
            hint="set it there; to write it to libvirt all the same, add --anyway",
        )
    if detailed_exitcode and not applying and open_:
        raise SystemExit(CHANGES_PENDING)


def _show(candidates: Sequence[Candidate], *, anyway: bool) -> None:
    for candidate in candidates:
        name, found = candidate.domain.name, candidate.found
        if found is None:
            continue  # told at the end
        lacks = ", ".join(lack.value for lack in found.lacks)
        tell(f"{name}: lacks {lacks}" if lacks else f"{name}: lacks nothing")
        for note in found.notes:
            tell(f"  {note}.")
        if found.manager is not None and found.lacks:
            tell(f"  {found.manager.name} owns this definition. {found.manager.advice}.")
        if candidate.refusal(anyway=anyway) is None:
            for line in _diff(candidate):
                colour = _COLOURS.get(line[:1], "")
                tell(Line(line, colour, len(line) if colour else 0))


def _diff(candidate: Candidate) -> Iterator[str]:
    """The change in the format of ``diff -u``."""
    found, name = candidate.found, candidate.domain.name
    if found is not None:
        before, after = found.before.splitlines(), found.after.splitlines()
        yield from difflib.unified_diff(before, after, f"{name} (now)", f"{name} (prepared)", lineterm="")


def _tell_ends(
    session: Session,
    candidates: Sequence[Candidate],
    ended: Mapping[str, str | None],
    *,
    applying: bool,
    open_: Sequence[Candidate],
) -> None:
    for candidate in candidates:
        uuid, name = candidate.domain.uuid, candidate.domain.name
        if candidate.gap is not None:
            tell(f"{name}: cannot be read: {candidate.gap}")
        elif uuid in ended:
            why = ended[uuid]
            tell(f"{name}: NOT prepared: {why}" if why else f"{name}: prepared")
    if not candidates:
        tell("No domain has a persistent definition.")
    elif any(why is None for why in ended.values()):
        tell(_NEXT)
        session.console.say(f"to undo: {command(OVERCOMMITCTL, 'restore', '--definitions')}")
    elif open_ and not applying:
        words = [word for c in open_ for word in as_argument(display_name(c.domain))]
        session.console.say(
            f"nothing was written. To write this: {command(OVERCOMMITCTL, 'prepare', '--apply', *words)}"
        )


def _print_json(candidates: Sequence[Candidate], ended: Mapping[str, str | None], *, anyway: bool) -> None:
    told = [_json(candidate, ended, anyway=anyway) for candidate in candidates]
    click.echo(json.dumps({"format_version": 1, "kind": "prepare", "domains": told}, indent=1))


def _json(candidate: Candidate, ended: Mapping[str, str | None], *, anyway: bool) -> dict[str, Any]:
    domain, found = candidate.domain, candidate.found
    manager = found.manager if found else None
    refusal = candidate.refusal(anyway=anyway)
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "active": domain.active,
        "lacks": [lack.value for lack in found.lacks] if found else None,
        "notes": list(found.notes) if found else [],
        "manager": manager.name if manager else None,
        "advice": manager.advice if manager else None,
        "diff": "\n".join(_diff(candidate)) if found and refusal is None else "",
        "written": domain.uuid in ended and ended[domain.uuid] is None,
        "refused": refusal or ended.get(domain.uuid),
    }
