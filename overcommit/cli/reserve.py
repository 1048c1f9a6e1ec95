"""``overcommitctl reserve``: free memory first, and only then reserve it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from overcommit.cli.beside_daemon import own_watch, refuse_options
from overcommit.cli.console import fail, tell
from overcommit.cli.doing import agreed, require_somebody_to_ask, show, teller
from overcommit.cli.history_text import reservation_of, reservation_text
from overcommit.cli.plan import as_seconds, observe_for_option, take_over_option
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.verb import examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.freeing import Limits, Result, free
from overcommit.control.operation import ActionListener, Listener, Operation
from overcommit.control.promising import grant, note_refusal, refusal_text
from overcommit.control.revoking import cancel as cancel_promise
from overcommit.control.revoking import promises
from overcommit.control.status import reservation_json
from overcommit.display import command
from overcommit.errors import Refused, UsageError
from overcommit.model.past import Reservation
from overcommit.model.plan import Plan
from overcommit.plan.promises import Wish, require_allowed
from overcommit.units import above_zero, format_size, parse_size
from overcommit.wire.client import Daemon, find_daemon
from overcommit.wire.protocol import Verb

FREED_TOO_LITTLE = 3
_LAST_ROUND_SECONDS = 300.0
"""Actions that the daemon started before the timeout may end within this time."""


def _size(_context: click.Context, _argument: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else round(above_zero(parse_size)(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _hold(context: click.Context, option: click.Parameter, text: str) -> float | None:
    seconds = as_seconds(context, option, text)
    if not seconds:
        raise click.BadParameter("must be more than 0")
    return seconds


@click.command(epilog=examples("overcommitctl reserve 2GiB --for new", "overcommitctl reserve --list"))
@click.argument("size", required=False, callback=_size, metavar="[SIZE]")
@click.option(
    "--for",
    "purpose",
    metavar="DOMAIN",
    help="The domain that it is for. Memory that it already holds counts.",
)
@click.option(
    "--timeout",
    default="10min",
    show_default=True,
    callback=as_seconds,
    metavar="DURATION",
    help="Start no new round of freeing after this time.",
)
@click.option(
    "--hold",
    default="10min",
    show_default=True,
    callback=_hold,
    metavar="DURATION",
    help="How long the reservation lasts.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--list", "listing", is_flag=True, help="List the reservations.")
@click.option("--cancel", type=click.IntRange(min=1), metavar="ID", help="End a reservation.")
@observe_for_option
@take_over_option
@with_session
def reserve(
    session: Session,
    size: int | None,
    purpose: str | None,
    timeout: float,
    hold: float,
    yes: bool,
    listing: bool,
    cancel: int | None,
    observe_for: float | None,
    take_over: bool,
) -> None:
    """Free SIZE of memory and reserve it, for example for a domain.

    If SIZE is free already above the host's own reserve, nothing is taken. Otherwise a plan for what is
    missing is shown and carried out, and repeated as more memory becomes idle, until --timeout. Then SIZE is
    reserved: plan and apply keep it free until the reservation expires. While overcommitd runs, the daemon
    does this, and does not ask. Only root and the group of overcommitd may reserve memory and cancel
    reservations.

    Exit status: 0 granted; 3 not granted, but some memory was freed; 4 not granted, nothing was changed.
    """
    if [size is not None, listing, cancel is not None].count(True) != 1:
        raise UsageError("one of SIZE, --list and --cancel is needed", hint="overcommitctl reserve 2GiB")
    daemon = find_daemon()
    if daemon is None:
        require_root()
    if cancel is not None:
        _cancel(session, daemon, cancel)
    elif size is None:
        _list(session, daemon)
    elif daemon is not None:
        given = own_watch(session, observe_for, take_over=take_over)
        refuse_options(daemon, given, _reserved_so(size, purpose, timeout=timeout, hold=hold))
        _ask(session, daemon, size, purpose, timeout=timeout, hold=hold)
    else:
        wish = Wish(size_bytes=size, purpose=purpose)
        limits = Limits(timeout_seconds=timeout, observe_for=observe_for)
        _reserve(session, wish, limits, hold=hold, yes=yes, take_over=take_over)


def _reserved_so(size: int, purpose: str | None, *, timeout: float, hold: float) -> str:
    """The command that asks the daemon, which has its own watch and policy."""
    whose = () if purpose is None else (f"--for={purpose}",)
    limits = (f"--timeout={timeout:.0f}s", f"--hold={hold:.0f}s")
    return command(OVERCOMMITCTL, "reserve", str(size), *whose, *limits)


def _list(session: Session, daemon: Daemon | None) -> None:
    promised: Sequence[Reservation]
    if daemon is None:
        promised = promises(session)
    else:  # its latest look may be a minute old
        told = map(reservation_of, daemon.ask(Verb.STATUS)["reservations"])
        promised = [reservation for reservation in told if reservation.expires_at > session.clock.now()]
    if session.json:
        found = [reservation_json(reservation) for reservation in promised]
        click.echo(json.dumps({"kind": "reservations", "reservations": found}, indent=1))
        return
    for reservation in promised:
        tell(reservation_text(reservation, session.clock.now()))
    if not promised:
        tell("Nothing is reserved.")


def _cancel(session: Session, daemon: Daemon | None, number: int) -> None:
    if daemon is None:
        ended = reservation_json(cancel_promise(session, number))
    else:
        ended = daemon.ask(Verb.CANCEL, {"id": number})["reservation"]
    if session.json:
        click.echo(json.dumps({"kind": "cancel", "reservation": ended}, indent=1))
    else:
        tell(f"reservation {number} of {format_size(ended['size_bytes'])} ended.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Face:
    """Shows and asks as `apply` does."""

    session: Session
    size: int
    yes: bool

    @property
    def listener(self) -> Listener:
        return self.session.console

    @property
    def teller(self) -> ActionListener:
        return teller(self.session)

    def accept(self, plan: Plan, *, first: bool) -> None:
        if self.session.json or first:
            show(self.session, plan)
        if first and not self.yes:
            require_somebody_to_ask()
            if not agreed(f"Do this, and repeat until {format_size(self.size)} are free?"):
                raise Refused("you answered no: nothing was reserved")


def _reserve(
    session: Session, wish: Wish, limits: Limits, *, hold: float, yes: bool, take_over: bool
) -> None:
    policy = session.policy()
    require_allowed(policy)
    with session.generation("reserve") as generation:
        operation = Operation(
            control=session,
            hypervisor=session.hypervisor(read_only=False),
            generation=generation,
            policy=policy,
            take_over=take_over,
        )
        result = free(operation, wish, limits, _Face(session=session, size=wish.size_bytes, yes=yes))
        if result.interruption is not None:
            _interrupted(session, wish, result)
            raise result.interruption
        if result.missing_bytes == 0:
            _tell_granted(session, grant(session, wish, hold, result.freed), result.freed.bytes)
            return
    _refuse(session, wish, result)


def _tell_granted(session: Session, reservation: Reservation, freed_bytes: int) -> None:
    if session.json:
        line = {
            "type": "reservation",
            "granted": True,
            **reservation_json(reservation),
            "freed_bytes": freed_bytes,
        }
        click.echo(json.dumps(line))
        return
    tell(reservation_text(reservation, session.clock.now()))
    session.console.say(
        "plan and apply keep this much free until then. To end it earlier: "
        f"{command(OVERCOMMITCTL, 'reserve', '--cancel', str(reservation.id))}"
    )


def _interrupted(session: Session, wish: Wish, result: Result) -> None:
    """Report what had been freed. After an interruption nothing is reserved."""
    note_refusal(session, wish, result.missing_bytes, result.freed, result.obstacles)
    if session.json:
        click.echo(json.dumps(_refusal_json(result.missing_bytes, result.freed.bytes, result.obstacles)))
    else:
        tell(f"{refusal_text(wish, None)}; {format_size(result.freed.bytes)} was freed")


def _refuse(session: Session, wish: Wish, result: Result) -> NoReturn:
    note_refusal(session, wish, result.missing_bytes, result.freed, result.obstacles)
    freed = result.freed
    _tell_refused(session, wish, result.missing_bytes, freed.bytes, result.obstacles, changed=freed.changed)


def _tell_refused(
    session: Session,
    wish: Wish,
    missing_bytes: int,
    freed_bytes: int,
    obstacles: Sequence[str],
    *,
    changed: bool,
) -> NoReturn:
    if session.json:
        click.echo(json.dumps(_refusal_json(missing_bytes, freed_bytes, obstacles)))
    sentence = refusal_text(wish, missing_bytes)
    hint = "; ".join(obstacles) or "stop something that uses memory, or reserve less"
    if not changed:
        raise Refused(sentence, hint=hint)
    fail([f"{sentence}; {format_size(freed_bytes)} was freed"], hint)
    raise SystemExit(FREED_TOO_LITTLE)


def _refusal_json(missing_bytes: int, freed_bytes: int, obstacles: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "reservation",
        "granted": False,
        "missing_bytes": missing_bytes,
        "freed_bytes": freed_bytes,
        "obstacles": obstacles,
    }


def _ask(
    session: Session, daemon: Daemon, size: int, purpose: str | None, *, timeout: float, hold: float
) -> None:
    """Ask the daemon to reserve it. It reports its progress."""

    def progress(said: Mapping[str, Any]) -> None:
        if session.json:
            click.echo(json.dumps({"type": "progress", **said}))
        else:
            session.console.say(said["sentence"])

    arguments: dict[str, Any] = {"size_bytes": size, "timeout_seconds": timeout, "hold_seconds": hold}
    if purpose is not None:
        arguments["purpose"] = purpose
    answer = daemon.ask(Verb.RESERVE, arguments, progress=progress, seconds=timeout + _LAST_ROUND_SECONDS)
    if answer["granted"]:
        _tell_granted(session, reservation_of(answer["reservation"]), answer["freed_bytes"])
        return
    _tell_refused(
        session,
        Wish(size_bytes=size, purpose=purpose),
        answer["missing_bytes"],
        answer["freed_bytes"],
        answer["obstacles"],
        changed=answer["changed"],
    )
