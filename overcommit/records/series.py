"""Minutes of the host and its domains, kept for a month beside the history (SQLite, ``series.db``).

Each minute is kept for a day, then in spans of 10 minutes for a week, then in spans of an hour for a month.
How many spans are kept is counted in spans, not by the clock: a clock that is wrong for a while removes
nothing. A minute that is there already (the clock was set back) is merged with the new one. Sizes are stored
in pages. Nothing that this program decides depends on this file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from overcommit.model.series import IDLE_BOUNDS, DomainSpan, HostSpan, Span
from overcommit.records.database import Database
from overcommit.units import MIB, PAGE_SIZE

FILE = "series.db"
MINUTE = 60
MOST_BYTES = 256 * MIB
"""Of the file. Beyond it the oldest spans are removed. The log beside it (``-wal``) comes on top."""


class _Tier(NamedTuple):
    """``most`` spans of ``seconds`` are kept. Older ones become spans of ``then``; None: they are removed."""

    seconds: int
    most: int
    then: int | None


_TIERS = (_Tier(MINUTE, 1440, 600), _Tier(600, 6 * 144, 3600), _Tier(3600, 23 * 24, None))
"""A day, six days, 23 days: 30 days in all."""


class _Merge(NamedTuple):
    """How a column of several spans becomes one, in SQL: over a group, and into a span that is there."""

    of_group: str
    of_two: str


_MEAN = _Merge(
    "CAST(round(sum(1.0 * {0} * {1}minutes) / sum(CASE WHEN {0} IS NULL THEN 0 ELSE {1}minutes END)) "
    "AS INTEGER)",
    "CASE WHEN excluded.{0} IS NULL THEN {0} WHEN {0} IS NULL THEN excluded.{0} ELSE "
    "({0} * minutes + excluded.{0} * excluded.minutes) / (minutes + excluded.minutes) END",
)
_SUM = _Merge("sum({0})", "coalesce({0} + excluded.{0}, {0}, excluded.{0})")
_MOST = _Merge("max({0})", "coalesce(max({0}, excluded.{0}), {0}, excluded.{0})")
_LEAST = _Merge("min({0})", "coalesce(min({0}, excluded.{0}), {0}, excluded.{0})")

_HOST: Mapping[str, _Merge] = {
    "total": _MOST,
    "available": _MEAN,
    "available_least": _LEAST,
    "swap_used": _MEAN,
    "pool_stored": _MEAN,
    "pool_used": _MEAN,
    "merged": _MEAN,
    "psi_permyriad": _MEAN,
    "minutes": _SUM,
}
_IDLE = tuple(f"idle_{bound:.0f}" for bound in IDLE_BOUNDS)
_DOMAIN: Mapping[str, _Merge] = {
    "memory": _MOST,
    "resident": _MEAN,
    "swapped": _MEAN,
    "balloon": _MEAN,
    "virtio_mem": _MEAN,
    "working_set": _MEAN,
    "working_set_most": _MOST,
    **dict.fromkeys(_IDLE, _MEAN),
    "promoted": _SUM,
    "judged": _SUM,
    "outside": _SUM,
    "pain_percent": _MOST,
    "minutes": _SUM,
}


def _columns(of: Mapping[str, _Merge]) -> str:
    return ", ".join(of)


def _definitions(of: Mapping[str, _Merge]) -> str:
    return ", ".join(f"{name} INTEGER" for name in of)


def _grouped(of: Mapping[str, _Merge], table: str) -> str:
    return ", ".join(merge.of_group.format(f"{table}.{name}", f"{table}.") for name, merge in of.items())


def _merged(of: Mapping[str, _Merge]) -> str:
    return ", ".join(f"{name} = {merge.of_two.format(name)}" for name, merge in of.items())


_SCRIPT = f"""
CREATE TABLE spans (id INTEGER PRIMARY KEY AUTOINCREMENT, seconds INTEGER NOT NULL, at INTEGER NOT NULL,
    {_definitions(_HOST)}, UNIQUE (seconds, at));
CREATE TABLE domains (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE figures (span INTEGER NOT NULL, domain INTEGER NOT NULL, {_definitions(_DOMAIN)},
    PRIMARY KEY (span, domain)) WITHOUT ROWID
"""
"""``figures`` is in the order in which it is written: a minute is a few whole pages, whatever is there."""
_ON_SPAN = f"ON CONFLICT (seconds, at) DO UPDATE SET {_merged(_HOST)}"
_ON_FIGURE = f"ON CONFLICT (span, domain) DO UPDATE SET {_merged(_DOMAIN)}"
_ADD_SPAN = (
    f"INSERT INTO spans (seconds, at, {_columns(_HOST)}) "  # noqa: S608 - our own names
    f"VALUES (:seconds, :at, {', '.join(':' + name for name in _HOST)}) {_ON_SPAN}"
)
_ADD_FIGURE = (
    f"INSERT INTO figures (span, domain, {_columns(_DOMAIN)}) "  # noqa: S608 - our own names
    f"VALUES (:span, :domain, {', '.join(':' + name for name in _DOMAIN)}) {_ON_FIGURE}"
)
_FOLD_SPANS = (
    f"INSERT INTO spans (seconds, at, {_columns(_HOST)}) "  # noqa: S608 - our own names
    f"SELECT :then, at / :then * :then, {_grouped(_HOST, 'spans')} FROM spans "
    f"WHERE seconds = :seconds AND id <= :last GROUP BY 2 {_ON_SPAN}"
)
_FOLD_FIGURES = (
    f"INSERT INTO figures (span, domain, {_columns(_DOMAIN)}) "  # noqa: S608 - our own names
    f"SELECT new.id, figures.domain, {_grouped(_DOMAIN, 'figures')} FROM spans AS old "
    "JOIN spans AS new ON new.seconds = :then AND new.at = old.at / :then * :then "
    "JOIN figures ON figures.span = old.id "
    f"WHERE old.seconds = :seconds AND old.id <= :last GROUP BY 1, 2 {_ON_FIGURE}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The series from ``since`` on, oldest span first. ``bytes`` is the size of the file."""

    spans: tuple[Span, ...]
    bytes: int


class Series:
    """The series in a directory. ``warn`` gets a sentence about a file that was set aside."""

    def __init__(self, directory: Path, *, warn: Callable[[str], None], most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._database = Database(
            directory / FILE, what="series", scripts=(_SCRIPT,), warn=warn, most_aside=1
        )

    def add(self, span: Span) -> None:
        """Store a minute in one transaction, and thin what is older.

        Raises:
            HostError: the disk refuses; the minute is lost, and nothing else.
        """
        self._database.change(lambda connection: _add(connection, span, self._most_bytes))

    def read(self, *, since: float, until: float, least_seconds: int = MINUTE) -> Kept | None:
        """What is kept of the time from ``since`` to ``until`` (seconds since the epoch); None: no file.

        Spans shorter than ``least_seconds`` are merged, which takes less memory than to have all of them.

        Raises:
            HostError: the disk refuses.
        """
        return self._database.read(lambda connection: _understood(connection, since, until, least_seconds))


def _understood(connection: sqlite3.Connection, since: float, until: float, least: int) -> Kept:
    """What is kept.

    Raises:
        ValueError: the tables do not fit together, or have values that this program never writes.
    """
    try:
        return _read(connection, since, until, least)
    except (KeyError, TypeError) as error:
        message = f"a row of it is not as it was written: {error}"
        raise ValueError(message) from error


def _add(connection: sqlite3.Connection, span: Span, most_bytes: int) -> None:
    connection.execute(_ADD_SPAN, {"seconds": span.seconds, "at": span.at, **_host_row(span)})
    number = connection.execute(
        "SELECT id FROM spans WHERE seconds = ? AND at = ?", (span.seconds, span.at)
    ).fetchone()[0]
    known = {
        uuid: (key, name) for key, uuid, name in connection.execute("SELECT id, uuid, name FROM domains")
    }
    rows = {}
    for domain in span.domains:
        name = _storable(domain.name)
        key, stored = known.get(domain.uuid, (None, None))
        if name != stored:
            key = connection.execute(
                "INSERT INTO domains (uuid, name) VALUES (?, ?) "
                "ON CONFLICT (uuid) DO UPDATE SET name = excluded.name RETURNING id",
                (domain.uuid, name),
            ).fetchone()[0]
        rows[key] = {"span": number, "domain": key, **_domain_row(domain)}
    connection.executemany(_ADD_FIGURE, [rows[key] for key in sorted(rows)])
    for tier in _TIERS:
        _thin(connection, tier)
    _shorten(connection, most_bytes)


def _storable(name: str) -> str:
    """No letter of a name keeps a minute from being stored."""
    return name.encode("utf-8", "backslashreplace").decode()


def _thin(connection: sqlite3.Connection, tier: _Tier) -> None:
    """Make longer spans of those that are more than the tier keeps, several at a time."""
    there = connection.execute("SELECT count(*) FROM spans WHERE seconds = ?", (tier.seconds,)).fetchone()[0]
    at_once = tier.then // tier.seconds if tier.then else 1
    if there < tier.most + at_once:
        return
    last = connection.execute(
        "SELECT id FROM spans WHERE seconds = ? ORDER BY id LIMIT 1 OFFSET ?",
        (tier.seconds, there - tier.most - 1),
    ).fetchone()[0]
    terms = {"seconds": tier.seconds, "then": tier.then, "last": last}
    if tier.then is not None:
        connection.execute(_FOLD_SPANS, terms)
        connection.execute(_FOLD_FIGURES, terms)
    _remove(connection, tier.seconds, last)


def _remove(connection: sqlite3.Connection, seconds: int, last: int) -> None:
    """Remove the spans of that length up to ``last``, and domains of which nothing is left then."""
    connection.execute(
        "DELETE FROM figures WHERE span IN (SELECT id FROM spans WHERE seconds = ? AND id <= ?)",
        (seconds, last),
    )
    connection.execute("DELETE FROM spans WHERE seconds = ? AND id <= ?", (seconds, last))
    if seconds != MINUTE:  # at most once an hour or so: this reads all of it
        connection.execute("DELETE FROM domains WHERE id NOT IN (SELECT domain FROM figures)")


def _shorten(connection: sqlite3.Connection, most_bytes: int) -> None:
    """Remove the oldest spans while the file is larger than it may be, the longest of them first."""
    for tier in reversed(_TIERS):
        while _used_bytes(connection) > most_bytes:
            found = connection.execute(
                "SELECT id FROM spans WHERE seconds = ? ORDER BY id LIMIT 1", (tier.seconds,)
            ).fetchone()
            if found is None:
                break
            _remove(connection, tier.seconds, found[0])


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    used: int = (pages - free) * size
    return used


def _read(connection: sqlite3.Connection, since: float, until: float, least: int) -> Kept:
    connection.execute("BEGIN")  # all of it of one moment
    domains = {
        key: (uuid, name) for key, uuid, name in connection.execute("SELECT id, uuid, name FROM domains")
    }
    spans = []
    found = connection.execute(
        "SELECT group_concat(id), max(seconds, :least) AS length, "  # noqa: S608 - our own names
        f"at / max(seconds, :least) * max(seconds, :least) AS begin, {_grouped(_HOST, 'spans')} FROM spans "
        "WHERE at + seconds > :since AND at <= :until GROUP BY length, begin ORDER BY begin, length",
        {"least": least, "since": since, "until": until},
    ).fetchall()
    for numbers, seconds, at, *host in found:
        spans_of_it = numbers.split(",")
        figures = connection.execute(
            f"SELECT domain, {_grouped(_DOMAIN, 'figures')} FROM figures "  # noqa: S608 - our own names
            f"WHERE span IN ({', '.join('?' for _ in spans_of_it)}) GROUP BY domain",
            spans_of_it,
        )
        values = _figures(_HOST, host)
        spans.append(
            Span(
                at=at,
                seconds=seconds,
                minutes=values["minutes"],
                host=_host(values),
                domains=tuple(_domains(figures, domains)),
            )
        )
    pages, size = (connection.execute(f"PRAGMA {n}").fetchone()[0] for n in ("page_count", "page_size"))
    return Kept(spans=tuple(spans), bytes=pages * size)


def _domains(figures: sqlite3.Cursor, domains: Mapping[int, tuple[str, str]]) -> Iterator[DomainSpan]:
    for key, *row in figures:
        values = _figures(_DOMAIN, row)
        uuid, name = domains[key]
        yield _domain(uuid, name, values)


def _figures(columns: Mapping[str, _Merge], row: Sequence[Any]) -> dict[str, Any]:
    """The row by its columns.

    Raises:
        TypeError: one is no number.
    """
    if not all(value is None or isinstance(value, int) for value in row):
        message = f"{row!r:.200}"
        raise TypeError(message)
    return dict(zip(columns, row, strict=True))


def _pages(size: int | None) -> int | None:
    return None if size is None else round(size / PAGE_SIZE)


def _bytes(pages: int | None) -> int | None:
    return None if pages is None else pages * PAGE_SIZE


def _host_row(span: Span) -> dict[str, int | None]:
    host = span.host
    return {
        "total": _pages(host.total_bytes),
        "available": _pages(host.available_bytes),
        "available_least": _pages(host.available_least_bytes),
        "swap_used": _pages(host.swap_used_bytes),
        "pool_stored": _pages(host.pool_stored_bytes),
        "pool_used": _pages(host.pool_used_bytes),
        "merged": _pages(host.merged_bytes),
        "psi_permyriad": None if host.psi_some is None else round(host.psi_some * 10_000),
        "minutes": span.minutes,
    }


def _host(values: Mapping[str, Any]) -> HostSpan:
    psi = values["psi_permyriad"]
    return HostSpan(
        total_bytes=values["total"] * PAGE_SIZE,
        available_bytes=values["available"] * PAGE_SIZE,
        available_least_bytes=values["available_least"] * PAGE_SIZE,
        swap_used_bytes=values["swap_used"] * PAGE_SIZE,
        pool_stored_bytes=values["pool_stored"] * PAGE_SIZE,
        pool_used_bytes=values["pool_used"] * PAGE_SIZE,
        merged_bytes=_bytes(values["merged"]),
        psi_some=None if psi is None else psi / 10_000,
    )


def _domain_row(domain: DomainSpan) -> dict[str, int | None]:
    return {
        "memory": _pages(domain.memory_bytes),
        "resident": _pages(domain.resident_bytes),
        "swapped": _pages(domain.swapped_bytes),
        "balloon": _pages(domain.balloon_bytes),
        "virtio_mem": _pages(domain.virtio_mem_bytes),
        "working_set": _pages(domain.working_set_bytes),
        "working_set_most": _pages(domain.working_set_most_bytes),
        **dict(zip(_IDLE, map(_pages, domain.idle_bytes), strict=True)),
        "promoted": domain.promoted_pages,
        "judged": round(domain.judged_seconds),
        "outside": round(domain.outside_seconds),
        "pain_percent": None if domain.pain_most is None else round(domain.pain_most * 100),
        "minutes": domain.minutes,
    }


def _domain(uuid: str, name: str, values: Mapping[str, Any]) -> DomainSpan:
    pain = values["pain_percent"]
    idle: Sequence[int | None] = [values[column] for column in _IDLE]
    return DomainSpan(
        uuid=uuid,
        name=name,
        minutes=values["minutes"],
        memory_bytes=values["memory"] * PAGE_SIZE,
        resident_bytes=_bytes(values["resident"]),
        swapped_bytes=_bytes(values["swapped"]),
        balloon_bytes=values["balloon"] * PAGE_SIZE,
        virtio_mem_bytes=values["virtio_mem"] * PAGE_SIZE,
        working_set_bytes=_bytes(values["working_set"]),
        working_set_most_bytes=_bytes(values["working_set_most"]),
        idle_bytes=tuple(map(_bytes, idle)),
        promoted_pages=values["promoted"],
        judged_seconds=values["judged"],
        outside_seconds=values["outside"],
        pain_most=None if pain is None else pain / 100,
    )
