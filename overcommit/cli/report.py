"""``overcommitctl report``: what the last days were like, for the host and for each domain. Read-only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from overcommit.cli.console import tell
from overcommit.cli.moments import parse_moment
from overcommit.cli.new_file import save
from overcommit.cli.report_html import page
from overcommit.cli.report_text import moment, report_text
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.verb import domain_names, examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.naming import nearest
from overcommit.control.reporting import Period, only, report_document
from overcommit.display import command, plain
from overcommit.errors import HostError, UsageError
from overcommit.model.series import Span
from overcommit.records.series import MINUTE, Series
from overcommit.wire.client import find_daemon

_DAYS = 30
_NO_DAEMON = "sudo systemctl enable --now overcommitd"
_PLACE = "name a file in a directory that you may write to, like report.html"
_MOST_EVENTS = 20_000
_DAY_SECONDS, _SPAN_SECONDS = 86400, 600
"""Of more than two days no minute is looked at by itself: a host that lacks memory has none for them."""


@click.command(
    epilog=examples(
        "overcommitctl report",
        "overcommitctl report --since yesterday --domain web",
        "overcommitctl report --since 30d --html report.html  # one file, for a browser",
    )
)
@click.option(
    "--since",
    metavar="TIME",
    default="7d",
    show_default=True,
    help="The time from then on: 24h, yesterday, 2026-11-29. Figures are kept for 30 days.",
)
@click.option(
    "--domain",
    "names",
    metavar="DOMAIN",
    multiple=True,
    shell_complete=domain_names,
    help="Only this domain. It may be given several times.",
)
@click.option(
    "--html",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as a page for a browser, with a map of idle memory over time.",
)
@with_session
def report(session: Session, since: str, names: tuple[str, ...], file: Path | None) -> None:
    """Show what was saved, which domains exceeded their SLO, and how much memory each one needed.

    The figures are those that overcommitd keeps each minute. Events are those of overcommitctl history.
    """
    require_root()
    now = session.clock.now()
    try:
        begin = parse_moment(since, now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    spans = _spans(session, float(begin), float(now))
    if names:
        spans = only(spans, _uuids(names, spans))
    # A restore concerns every domain; it is not left out.
    events = session.ledger.events(about=names, since=begin, most=_MOST_EVENTS)
    made = report_document(
        Period(host=os.uname().nodename, since=float(begin), until=float(now)), spans, events
    )
    if file is not None:
        save(file, page(made), "the report", hint=_PLACE)
        session.console.say(f"Saved to {plain(str(file))}")
    if session.json:
        click.echo(json.dumps(made, indent=1))
    elif file is None:
        for block in report_text(made):
            tell(block)
        words = ["--since", since, *(word for name in names for word in ("--domain", name))]
        session.console.say(f"As a page: {command(OVERCOMMITCTL, 'report', *words, '--html', 'report.html')}")


def _spans(session: Session, since: float, until: float) -> Sequence[Span]:
    """What is kept of that time.

    Raises:
        HostError: nothing, or the disk refuses.
    """
    series = Series(session.journal.directory, warn=session.console.say)
    least = _SPAN_SECONDS if until - since > 2 * _DAY_SECONDS else MINUTE
    kept = series.read(since=since, until=until, least_seconds=least)
    if kept is not None and kept.spans:
        return kept.spans
    earlier = series.read(since=until - _DAYS * _DAY_SECONDS, until=until, least_seconds=3600)
    if earlier is not None and earlier.spans:
        last = max(span.at + span.seconds for span in earlier.spans)
        raise HostError(
            f"no figures are kept since {moment(since)}; the newest are of {moment(last)}",
            hint=command(OVERCOMMITCTL, "report", "--since", f"{_DAYS}d"),
        )
    if find_daemon() is None:
        raise HostError(
            "no figures are kept yet: overcommitd keeps them, and it is not running", hint=_NO_DAEMON
        )
    raise HostError(
        "no figures are kept yet: overcommitd keeps the first ones a minute after its start",
        hint="sleep 60; overcommitctl report",
    )


def _uuids(names: Sequence[str], spans: Sequence[Span]) -> set[str]:
    """The domains that the words mean, by name or UUID, among those that were seen.

    Raises:
        UsageError: one of them was not seen in that time.
    """
    seen: Mapping[str, str] = {domain.uuid: domain.name for span in spans for domain in span.domains}
    found = set()
    for word in names:
        meant = {uuid for uuid, name in seen.items() if word in {uuid, name}}
        if not meant:
            near = nearest(word, seen.values())
            hint = f"did you mean {plain(near)}?" if near else "to see all domains: overcommitctl report"
            raise UsageError(f"no figures of a domain {word!r} are kept in that time", hint=hint)
        found |= meant
    return found
