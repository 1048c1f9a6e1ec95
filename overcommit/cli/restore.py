"""``overcommitctl restore``: restore what was changed."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator

import click

from overcommit.apply.restore import Restored
from overcommit.cli.beside_daemon import refuse_beside_daemon
from overcommit.cli.console import tell
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.verb import examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.preparing import prepared
from overcommit.control.preparing import put_back as put_back_definitions
from overcommit.control.restoring import NOTHING, in_swap
from overcommit.control.restoring import restore as put_back
from overcommit.display import command, plain
from overcommit.errors import UsageError
from overcommit.host.memory import read_boot_id
from overcommit.hypervisor.port import Hypervisor
from overcommit.records.journal import of_boot
from overcommit.units import counted, format_size

_MOST_NAMED = 8
_AS_FOUND = "Nothing to restore: overcommit has changed nothing on this host."
_NOT_IN_FORCE = "Nothing to restore: no change of overcommit is in force."
"""Some guest memory may still be in swap."""
RESTORED_IN_PART = 3


@click.command(
    epilog=examples("overcommitctl restore", "overcommitctl restore --definitions    # what prepare wrote")
)
@click.argument("generation", required=False, type=click.IntRange(min=1))
@click.option(
    "--definitions", is_flag=True, help="Put back definitions that prepare changed, and nothing else."
)
@click.option(
    "--domain", "names", multiple=True, metavar="NAME", help="With --definitions: only of this domain."
)
@with_session
def restore(session: Session, generation: int | None, definitions: bool, names: tuple[str, ...]) -> None:
    """Undo GENERATION and all later ones, or everything.

    It stops the kdamonds of overcommit, gives DAMON back to its former user, sets KSM as it was, and
    returns balloons and memory devices to their former size. Memory in swap comes back when the guest
    touches it. Merged pages stay merged until they are written to. It is safe to run it twice. Without
    GENERATION it also gives back what domains gave on another host before they migrated here.

    It waits for a guest as long as the guest takes memory back, at most four minutes. What the guest
    takes later is no failure. Definitions that prepare changed are left: the service runs restore
    whenever it stops. --definitions puts those back, unless somebody has changed them since.

    Exit status: 0 all is back; 3 something was refused, or a guest has stopped taking its memory back.
    """
    if (definitions and generation) or (names and not definitions):
        raise UsageError("--domain goes with --definitions, and a GENERATION goes without it")
    require_root()
    if definitions:
        result = put_back_definitions(session, session.definitions(read_only=False), names)
        _tell(session, result, "Nothing to restore: prepare has changed no definition.")
        _end(session, result, "--definitions")
        return
    refuse_beside_daemon(
        "the changes in force are its own",
        "to restore: systemctl stop overcommitd && overcommitctl restore; to only stop taking memory: "
        "overcommitctl pause",
    )
    connect = functools.cache(functools.partial(session.hypervisor, read_only=False))
    result = put_back(session, connect, session.console, generation=generation)
    swap = () if generation or session.json else tuple(_in_swap(session, connect))
    nothing = ""
    if result == NOTHING and not session.json:
        nothing = _nothing(session, generation)
        nothing = _NOT_IN_FORCE if swap and nothing == _AS_FOUND else nothing
    _tell(session, result, nothing, swap)
    if not session.json and (names := prepared(session)):
        tell(f"  definitions that prepare changed are left as they are: {', '.join(map(plain, names))}")
        tell(f"  to put them back: {command(OVERCOMMITCTL, 'restore', '--definitions')}")
    _end(session, result)


def _tell(session: Session, result: Restored, nothing: str, more: Iterable[str] = ()) -> None:
    """Report what was restored, and what was not. ``nothing`` is the text where there was nothing to do."""
    if session.json:
        click.echo(json.dumps({"kind": "restore", **dataclasses.asdict(result)}, indent=1))
        return
    for sentence in result.done:
        tell(f"  {sentence}")
    for sentence in result.under_way:
        tell(f"  {sentence}; it continues by itself")
    for sentence in result.left:
        tell(f"  NOT restored: {sentence}")
    if result == NOTHING:
        tell(nothing)
    for sentence in more:
        tell(f"  {sentence}")


def _end(session: Session, result: Restored, *words: str) -> None:
    if result.left:
        session.console.say(f"when that is repaired: {command(OVERCOMMITCTL, 'restore', *words)}")
        raise SystemExit(RESTORED_IN_PART)


def _in_swap(session: Session, connect: Callable[[], Hypervisor]) -> Iterator[str]:
    """What guests have in swap now, whatever put it there. It comes back when they read it."""
    swapped = in_swap(session, connect)
    if swapped:
        most = sorted(swapped, key=lambda name: -swapped[name])[:_MOST_NAMED]
        named = ", ".join(f"{plain(name)} {format_size(swapped[name])}" for name in most)
        more = f" and {len(swapped) - len(most)} more" if len(swapped) > len(most) else ""
        yield (
            f"{format_size(sum(swapped.values()))} of guest memory stays in swap ({named}{more}). Each "
            f"page comes back when its guest touches it"
        )


def _nothing(session: Session, generation: int | None) -> str:
    stands = [
        f"generation {g.number} ({g.command}): {counted(g.outstanding, 'change')}"
        for g in of_boot(session.journal.generations(), read_boot_id(session.kernel))
        if g.outstanding
    ]
    if not stands:
        return _AS_FOUND
    return f"Nothing of generation {generation} or later is in force. Still in force: {', '.join(stands)}"
