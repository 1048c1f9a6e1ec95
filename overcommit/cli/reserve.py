"""``overcommitctl reserve``: free memory for somebody first, and only then promise it."""

from __future__ import annotations

import json

import click

from overcommit.cli.plan import as_seconds, observe_for_option, take_over_option
from overcommit.cli.remembered import local_time, reservation_json, reservation_text
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.squeeze import Squeezed, squeeze
from overcommit.cli.talk import fail
from overcommit.errors import Refused, UsageError
from overcommit.host.memory import read_boot_id
from overcommit.model.history import CANCEL, RESERVE
from overcommit.model.outcome import Status
from overcommit.model.past import Reservation
from overcommit.model.policy import ReclaimMode
from overcommit.units import format_size, parse_size

FREED_TOO_LITTLE = 3


def _size(_context: click.Context, _argument: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("size", required=False, callback=_size, metavar="[SIZE]")
@click.option("--for", "purpose", metavar="DOMAIN", help="Whom it is for: what that holds counts as taken.")
@click.option(
    "--timeout",
    default="10min",
    show_default=True,
    callback=as_seconds,
    metavar="DURATION",
    help="Begin no round of freeing after that.",
)
@click.option(
    "--hold",
    default="10min",
    show_default=True,
    callback=as_seconds,
    metavar="DURATION",
    help="How long it stays promised.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--list", "listing", is_flag=True, help="Show what is promised.")
@click.option("--cancel", type=click.IntRange(min=1), metavar="ID", help="Take a promise back.")
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
    """Have SIZE of the host's memory free above its reserve, for a domain about to start, say.

    Where that much is free already nothing is taken from anybody. Else a plan for what is missing is shown,
    and carried out; again and again as more memory becomes idle, until --timeout. While the promise stands,
    plan and apply keep that much free. It ends by itself.

    Exit status: 0 granted; 3 not granted, though something was freed; 4 not granted, nothing was changed.
    """
    require_root()
    if [size is not None, listing, cancel is not None].count(True) != 1:
        raise UsageError("one of SIZE, --list and --cancel is needed", hint="overcommitctl reserve 2GiB")
    if cancel is not None:
        _cancel(session, cancel)
    elif size is None:
        _list(session)
    else:
        _reserve(
            session,
            size,
            purpose,
            timeout=timeout,
            hold=hold,
            yes=yes,
            observe_for=observe_for,
            take_over=take_over,
        )


def _promised(session: Session) -> tuple[Reservation, ...]:
    return session.ledger.reservations(now=session.clock.now(), boot_id=read_boot_id(session.kernel))


def _list(session: Session) -> None:
    promised = _promised(session)
    if session.json:
        found = [reservation_json(reservation) for reservation in promised]
        click.echo(json.dumps({"kind": "reservations", "reservations": found}, indent=1))
        return
    for reservation in promised:
        click.echo(reservation_text(reservation, session.clock.now()))
    if not promised:
        click.echo("Nothing is reserved.")


def _cancel(session: Session, number: int) -> None:
    reservation = next((r for r in _promised(session) if r.id == number), None)
    if reservation is None:
        raise UsageError(f"no reservation {number} is in force", hint="overcommitctl reserve --list")
    session.ledger.cancel(reservation)
    detail = f"reservation {number} of {format_size(reservation.size_bytes)} taken back"
    session.ledger.note(session.happened(CANCEL, Status.DONE, detail, about=reservation.purpose))
    if session.json:
        click.echo(json.dumps({"kind": "cancel", "reservation": reservation_json(reservation)}, indent=1))
    else:
        click.echo(f"{detail}.")


def _reserve(
    session: Session,
    size: int,
    purpose: str | None,
    *,
    timeout: float,
    hold: float,
    yes: bool,
    observe_for: float | None,
    take_over: bool,
) -> None:
    policy = session.policy()
    if policy.reclaim is ReclaimMode.OFF:
        raise Refused(
            f"the policy {policy.source} says reclaim: off, and nothing is reserved under that",
            hint="on_pressure frees memory only when it is missing",
        )
    with session.generation("reserve") as generation:
        result = squeeze(
            session,
            generation,
            policy,
            size,
            purpose,
            timeout=timeout,
            yes=yes,
            observe_for=observe_for,
            take_over=take_over,
        )
        if result.missing_bytes == 0:
            _grant(session, size, purpose, hold, result)
            return
    _refuse(session, size, purpose, result)


def _grant(session: Session, size: int, purpose: str | None, hold: float, result: Squeezed) -> None:
    """Promise it; the promise is on disk before anybody hears of it."""
    now = session.clock.now()
    reservation = session.ledger.grant(
        size, purpose, now=now, expires_at=now + hold, boot_id=read_boot_id(session.kernel)
    )
    detail = f"reservation {reservation.id} until {local_time(reservation.expires_at)}"
    session.ledger.note(
        session.happened(
            RESERVE,
            Status.DONE,
            detail,
            about=purpose,
            expected_bytes=size,
            freed_bytes=result.freed_bytes,
        )
    )
    if session.json:
        click.echo(
            json.dumps(
                {
                    "type": "reservation",
                    "granted": True,
                    **reservation_json(reservation),
                    "freed_bytes": result.freed_bytes,
                }
            )
        )
        return
    click.echo(reservation_text(reservation, now))
    session.talk.say(
        "plan and apply keep that much free until then. To end it sooner: "
        f"overcommitctl reserve --cancel {reservation.id}"
    )


def _refuse(session: Session, size: int, purpose: str | None, result: Squeezed) -> None:
    sentence = f"{format_size(size)} are not reserved: {format_size(result.missing_bytes)} are missing"
    session.ledger.note(
        session.happened(
            RESERVE,
            Status.PARTIAL if result.changed else Status.FAILED,
            "; ".join((sentence, *result.obstacles)),
            about=purpose,
            expected_bytes=size,
            freed_bytes=result.freed_bytes,
        )
    )
    if session.json:
        line = {
            "type": "reservation",
            "granted": False,
            "missing_bytes": result.missing_bytes,
            "freed_bytes": result.freed_bytes,
            "obstacles": result.obstacles,
        }
        click.echo(json.dumps(line))
    hint = "; ".join(result.obstacles) or "end something that uses memory, or reserve less"
    if not result.changed:
        raise Refused(sentence, hint=hint)
    fail(f"{sentence}, {format_size(result.freed_bytes)} were freed", hint)
    raise SystemExit(FREED_TOO_LITTLE)
