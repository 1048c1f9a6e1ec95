"""The history beside the undo journal: what was done, and reservations (SQLite, ``history.db``).

Restore needs nothing of it, and no apply stops for it: what cannot be stored is reported and lost. A file
that cannot be understood is set aside, and a new one is started (`overcommit.records.database`).
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from overcommit.errors import HostError
from overcommit.model.facts import Incarnation
from overcommit.model.history import RESTORE, Event
from overcommit.model.moments import Wall
from overcommit.model.outcome import Fault, Status
from overcommit.model.past import Reservation
from overcommit.records.database import Database

_EVER = Wall(0.0)
_FILE = "history.db"
_KEEP_SECONDS = 90 * 86400.0
_MOST_EVENTS = 20_000

_SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, boot_id TEXT NOT NULL, run TEXT NOT NULL, kind TEXT NOT NULL,
    status TEXT NOT NULL, about TEXT, uuid TEXT, pid INTEGER, start_time INTEGER, generation INTEGER,
    fault TEXT, before_bytes INTEGER, planned_bytes INTEGER, reached_bytes INTEGER, expected_bytes INTEGER,
    freed_bytes INTEGER, moved_bytes INTEGER, promoted_pages INTEGER, seconds REAL,
    because TEXT NOT NULL, detail TEXT NOT NULL, policy_digest TEXT
);
CREATE TABLE reservations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL, purpose TEXT, size_bytes INTEGER NOT NULL,
    expires_at REAL NOT NULL
);
"""
_SINCE_1 = """
CREATE INDEX events_by_kind ON events (kind, at);
CREATE INDEX events_by_fault ON events (at) WHERE fault IS NOT NULL;
CREATE TABLE kept (name TEXT PRIMARY KEY, value TEXT NOT NULL)
"""
"""What version 2 has in addition to version 1."""
_PLAIN = (
    *("at", "boot_id", "run", "kind", "about", "generation", "before_bytes", "planned_bytes"),
    *("reached_bytes", "expected_bytes", "freed_bytes", "moved_bytes", "promoted_pages", "seconds"),
    *("because", "detail", "policy_digest"),
)
"""Columns that are fields of the event."""
_COLUMNS = (*_PLAIN, "status", "fault", "uuid", "pid", "start_time")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM events"  # noqa: S608 - our own names
_INSERT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)}) "  # noqa: S608 - our own names
    f"VALUES ({', '.join(':' + name for name in _COLUMNS)})"
)

_T = TypeVar("_T")


class Ledger:
    """The history in a directory. ``warn`` gets a sentence about what could not be stored or read.

    ``run`` names this run of the program in it. ``warn`` gets each sentence once, or, where it counts
    ``repeats`` itself, every time.
    """

    def __init__(self, directory: Path, *, warn: Callable[[str], None], repeats: bool = False) -> None:
        self.run = secrets.token_hex(4)
        self._warn = warn
        self._repeats = repeats
        self._warned: set[str] = set()
        self._database = Database(
            directory / _FILE, what="history", scripts=(_SCHEMA, _SINCE_1), warn=self._say
        )

    def note(self, event: Event) -> None:
        """Store an event, if possible. The oldest are deleted for it."""
        try:
            self.record(event)
        except HostError as error:
            self._say(f"{error}; events from now on will be missing")

    def record(self, event: Event) -> None:
        """Store an event that something depends on.

        Raises:
            HostError: the disk refuses.
        """
        self._database.change(lambda connection: _add(connection, event))

    def grant(
        self, size_bytes: int, purpose: str | None, *, now: Wall, expires_at: Wall, boot_id: str
    ) -> Reservation:
        """Store a reservation until ``expires_at``. Reservations that have ended are deleted.

        Raises:
            HostError: the disk refuses; nothing is reserved then.
        """

        def work(connection: sqlite3.Connection) -> int | None:
            connection.execute(
                "DELETE FROM reservations WHERE expires_at <= ? OR boot_id != ?", (now, boot_id)
            )
            return connection.execute(
                "INSERT INTO reservations (boot_id, purpose, size_bytes, expires_at) VALUES (?, ?, ?, ?)",
                (boot_id, purpose, size_bytes, expires_at),
            ).lastrowid

        number = self._database.change(work)
        return Reservation(id=number or 0, purpose=purpose, size_bytes=size_bytes, expires_at=expires_at)

    def cancel(self, reservation: Reservation) -> None:
        """End a reservation.

        Raises:
            HostError: the disk refuses; the reservation stays.
        """
        self._database.change(lambda c: c.execute("DELETE FROM reservations WHERE id = ?", (reservation.id,)))

    def reservations(self, *, now: Wall, boot_id: str) -> tuple[Reservation, ...]:
        """The reservations in force, oldest first. Those of another boot ended with it."""
        return self._query(
            "SELECT id, purpose, size_bytes, expires_at FROM reservations "
            "WHERE expires_at > ? AND boot_id = ? ORDER BY id",
            (now, boot_id),
            lambda row: Reservation(id=row[0], purpose=row[1], size_bytes=row[2], expires_at=row[3]),
        )

    def events(
        self,
        *,
        boot_id: str | None = None,
        about: Sequence[str] = (),
        kinds: Sequence[str] = (),
        since: Wall = _EVER,
        most: int | None = None,
    ) -> tuple[Event, ...]:
        """The newest events in the order in which they happened. A restore concerns every domain."""
        conditions, parameters = ["at >= ?"], [since, *about, *kinds]
        if about:
            conditions.append(f"(about IN ({_marks(about)}) OR kind = '{RESTORE}')")
        if kinds:
            conditions.append(f"kind IN ({_marks(kinds)})")
        if boot_id is not None:
            conditions.append("boot_id = ?")
            parameters.append(boot_id)
        newest = self._query(
            f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
            (*parameters, -1 if most is None else most),
            _event,
        )
        return tuple(reversed(newest))

    def faults(self, *, boot_id: str, kinds: Sequence[str], since: Wall, until: Wall) -> tuple[Event, ...]:
        """The events of these kinds that have a fault, and the latest done one of each kind and incarnation.

        In the order in which they happened.
        """
        among = f"boot_id = ? AND at BETWEEN ? AND ? AND kind IN ({_marks(kinds)})"
        parameters = (boot_id, since, until, *kinds)
        return self._query(
            f"{_SELECT} WHERE id IN (SELECT id FROM events WHERE fault IS NOT NULL AND {among} "  # noqa: S608
            f"UNION SELECT max(id) FROM events WHERE status = '{Status.DONE.value}' AND {among} "
            "GROUP BY uuid, pid, start_time, about, kind) ORDER BY id",
            (*parameters, *parameters),
            _event,
        )

    def keep(self, name: str, value: str) -> bool:
        """Store a value for the next run, in place of the last one.

        Returns:
            Whether it was possible.
        """
        try:
            self._database.change(
                lambda c: c.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))
            )
        except HostError as error:
            self._say(f"{error}; the next run starts without the knowledge of this one")
            return False
        return True

    def kept(self, name: str) -> str | None:
        """The value that an earlier run stored; None: there is none."""
        found = self._query(
            "SELECT value FROM kept WHERE name = ?", (name,), lambda row: str(row[0]), since=2
        )
        return found[0] if found else None

    def _query(
        self,
        query: str,
        parameters: Sequence[object],
        convert: Callable[[Sequence[Any]], _T],
        *,
        since: int = 1,
    ) -> tuple[_T, ...]:
        """The rows of a query that needs version ``since``; none, and a warning, if they cannot be read."""

        def work(connection: sqlite3.Connection) -> tuple[_T, ...]:
            return tuple(convert(row) for row in connection.execute(query, parameters))

        try:
            return self._database.read(work, since=since) or ()
        except HostError as error:
            self._say(f"{error}; reservations and quarantines are unknown now")
        return ()

    def _say(self, sentence: str) -> None:
        """Warn, each sentence once: a full disk is not reported again for every action."""
        if self._repeats:
            self._warn(sentence)
        elif sentence not in self._warned:
            self._warned.add(sentence)
            self._warn(sentence)


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" for _ in values)


def _add(connection: sqlite3.Connection, event: Event) -> None:
    connection.execute(_INSERT, _row(event))
    connection.execute(
        "DELETE FROM events WHERE at < ? OR id <= (SELECT max(id) FROM events) - ?",
        (event.at - _KEEP_SECONDS, _MOST_EVENTS),
    )


def _row(event: Event) -> dict[str, Any]:
    incarnation = event.domain
    return {
        **{name: getattr(event, name) for name in _PLAIN},
        "uuid": incarnation.uuid if incarnation else None,
        "pid": incarnation.pid if incarnation else None,
        "start_time": incarnation.start_time if incarnation else None,
        "status": event.status.value,
        "fault": event.fault.value if event.fault else None,
    }


def _event(row: Sequence[Any]) -> Event:
    values = dict(zip(_COLUMNS, row, strict=True))
    domain = None
    if values["uuid"] is not None:
        domain = Incarnation(
            uuid=values["uuid"], name=values["about"], pid=values["pid"], start_time=values["start_time"]
        )
    return Event(
        **{name: values[name] for name in _PLAIN},
        domain=domain,
        status=Status(values["status"]),
        fault=Fault(values["fault"]) if values["fault"] is not None else None,
    )
