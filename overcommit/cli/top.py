"""``overcommitctl top``: the host and its domains, live."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

import click

from overcommit.cli import status_text
from overcommit.cli.beside_daemon import refuse_options
from overcommit.cli.console import styled, tell
from overcommit.cli.live.asking import Latest
from overcommit.cli.live.recent import BLOCKS, LETTERS, Recent
from overcommit.cli.live.screen import Known, about_host, drawn, rows_of, summary
from overcommit.cli.live.terminal import Happened, Terminal, can_be_filled
from overcommit.cli.live.view import Order, View, ordered, pressed, settled
from overcommit.cli.plan import as_seconds
from overcommit.cli.session import Session, with_session
from overcommit.cli.tables import Block, table
from overcommit.cli.verb import examples
from overcommit.errors import Refused
from overcommit.units import format_duration
from overcommit.wire.client import find_daemon

_USUAL_INTERVAL = "2s"
_LEAST_SECONDS = 0.5
_OLDEST_SECONDS = 5.0
"""The interval of drawing without news, because the screen shows the age of its values."""
_INTERRUPTED = 130
_NO_BLOCKS = {"linux"}
"""Terminals (TERM) whose usual font lacks some block elements: the kernel's console."""


def _as_interval(context: click.Context, option: click.Parameter, text: str) -> float:
    """A duration. A bare number is seconds, as with similar programs."""
    bare = re.fullmatch(r"[0-9]+(\.[0-9]+)?", text.strip())
    seconds = as_seconds(context, option, f"{text.strip()}s" if bare else text)
    if seconds is None or seconds < _LEAST_SECONDS:
        raise click.BadParameter(f"{text!r} is less than {format_duration(_LEAST_SECONDS)}")
    return seconds


class _Options(NamedTuple):
    interval: float
    times: int | None
    order: Order


@click.command(
    epilog=examples(
        "overcommitctl top",
        "overcommitctl top --sort taken --interval 5s",
        "overcommitctl top --json --count 10 > seen.jsonl",
    )
)
@click.option(
    "--interval",
    default=_USUAL_INTERVAL,
    show_default=True,
    callback=_as_interval,
    metavar="DURATION",
    help="How often to ask overcommitd, which looks every 5 seconds.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after N times. [default: never; once where there is no terminal]",
)
@click.option(
    "--sort",
    type=click.Choice([order.value for order in Order]),
    default=Order.PAIN.value,
    show_default=True,
    help="What comes first.",
)
@with_session
def top(session: Session, interval: float, count: int | None, sort: str) -> None:
    """Show the host and its domains live.

    It shows which domains exceed their SLO, what was taken from each, and what is done now. It needs
    overcommitd, and changes nothing. Every user may see it. Press ? for the keys.

    Without a terminal it prints one table. With --json it prints an object per line, until it is stopped.
    """
    daemon = find_daemon()
    if daemon is None:
        raise Refused("overcommitd is not running: there is nothing to watch", hint="overcommitctl status")
    refuse_options(daemon, {"--policy": session.policy_path is not None}, "overcommitctl top")
    options = _Options(interval, count, Order(sort))
    if session.json:
        for known in _asked(session, options):
            click.echo(_json_line(known))
    elif can_be_filled(sys.stdin, sys.stdout):
        _watch(session, options)
    else:
        for number, known in enumerate(_asked(session, options._replace(times=count or 1))):
            if number:
                tell("")
            for block in _blocks(known, options.order):
                tell(block)


def _asked(session: Session, options: _Options) -> Iterator[Known]:
    """What is known at each interval.

    Raises:
        OvercommitError: nothing is known; it says why.
    """
    clock, latest = session.clock, Latest(Recent(options.interval))
    for number in itertools.count(1):
        begun = clock.monotonic()
        latest.ask(begun)
        latest.take(begun, seconds=None if latest.seen is None else options.interval)
        if latest.seen is None and latest.error is not None:
            raise latest.error
        yield _known(session, latest, options.order)
        if number == options.times:
            return
        clock.wait(max(0.0, begun + options.interval - clock.monotonic()))


def _known(session: Session, latest: Latest, order: Order, levels: str = BLOCKS) -> Known:
    at, now = session.clock.monotonic(), session.clock.now()
    return Known(
        seen=latest.seen,
        domains=ordered(latest.seen["domains"], order) if latest.seen else (),
        trouble=latest.trouble(at, now),
        recent=latest.recent,
        now=now,
        at=at,
        levels=levels,
    )


def _json_line(known: Known) -> str:
    age = status_text.age_of(known.seen, known.now) if known.seen else None
    line = {
        "kind": "top",
        "at": known.now,
        "age_seconds": age,
        "trouble": known.trouble,
        "status": known.seen,
    }
    return json.dumps(line)


def _blocks(known: Known, order: Order) -> Iterator[Block]:
    """The screen's content as blocks, without the ten minutes."""
    yield from about_host(known)
    columns = (
        *(status_text.DOMAIN, status_text.CLASS, status_text.RESIDENT, status_text.TAKEN),
        *(status_text.READ_BACK, status_text.PAIN),
    )
    rows = [
        [*(column.cell(domain) for column in columns), status_text.briefly(domain, 0)]
        for domain in known.domains
    ]
    yield "".join(summary(known.domains, order))
    yield table([*(column.name for column in columns), "now"], rows, left=(0, 1, len(columns)))


def _levels() -> str:
    """The levels that this terminal can draw."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return LETTERS
    return LETTERS if os.environ.get("TERM") in _NO_BLOCKS else BLOCKS


def _watch(session: Session, options: _Options) -> None:
    """Run until the operator ends it, or the count is reached."""
    clock, levels = session.clock, _levels()
    view = View(order=options.order)
    with Terminal(sys.stdin, sys.stdout, coloured=styled(sys.stdout)) as terminal:
        latest = Latest(Recent(options.interval), answered=terminal.wake)
        drawn_at = next_at = clock.monotonic()
        times, happened = 0, Happened()
        while not view.ended:
            at = clock.monotonic()
            answered, due = latest.take(at), at >= next_at
            late = due and latest.waiting
            times += answered or late
            if due:
                latest.ask(at)
                next_at = at + options.interval
            known, size = _known(session, latest, view.order, levels), terminal.size
            rows, uuids = rows_of(known, size), [domain["uuid"] for domain in known.domains]
            view = settled(view, uuids, rows)
            if answered or late or happened.seen or at - drawn_at >= _OLDEST_SECONDS:
                terminal.draw(drawn(view, known, size), size)
                drawn_at = at
            if times == options.times:
                return
            soon = min(next_at, drawn_at + _OLDEST_SECONDS)
            happened = terminal.wait(soon - clock.monotonic())
            if happened.ended:
                break
            for key in happened.keys:
                view = pressed(view, key, uuids, rows)
    if not view.ended:
        raise click.exceptions.Exit(_INTERRUPTED)
