"""A SQLite file beside the undo journal: who may read it, its versions, and what is done with a broken one.

Every call has its own connection, so that any verb may read while a controller writes. A change is one
transaction: a process that is killed in the middle of one leaves the file as it was before.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from overcommit.errors import HostError

_LOCK_TIMEOUT_SECONDS = 5.0
_NOT_OURS = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA}
"""Result codes that concern the content. The others concern the disk, or a lock of somebody else."""

_T = TypeVar("_T")


class _Unintelligible(Exception):
    """The file can be read, but this program did not write it."""


class Database:
    """The file at ``path``. ``what`` names its content in sentences, and ``warn`` gets those about its loss.

    Script number n of ``scripts`` brings the file from version n to n + 1 (``PRAGMA user_version``). A file
    that cannot be understood is renamed and a new one is started; ``most_aside`` is how many of these are
    kept, None: all.
    """

    def __init__(
        self,
        path: Path,
        *,
        what: str,
        scripts: Sequence[str],
        warn: Callable[[str], None],
        most_aside: int | None = None,
    ) -> None:
        self.path = path
        self._what = what
        self._scripts = scripts
        self._warn = warn
        self._most_aside = most_aside

    def read(self, work: Callable[[sqlite3.Connection], _T], *, since: int = 1) -> _T | None:
        """What ``work`` finds; None: there is no file, it is older than version ``since``, or is broken.

        Raises:
            HostError: the disk refuses.
        """
        if not self.path.exists():
            return None

        def reading(connection: sqlite3.Connection) -> _T | None:
            if _version(connection) < since:  # somebody is about to begin it
                return None
            return work(connection)

        try:
            return self._attempt(reading)
        except _Unintelligible as fault:
            self._set_aside(fault)
        return None

    def change(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Make changes in one transaction.

        Raises:
            HostError: the disk refuses.
        """

        def transaction(connection: sqlite3.Connection) -> _T:
            connection.execute("BEGIN IMMEDIATE")
            version = _version(connection)
            for script in self._scripts[version:]:
                for statement in script.split(";"):
                    connection.execute(statement)
            if version != len(self._scripts):
                connection.execute(f"PRAGMA user_version = {len(self._scripts)}")
            result = work(connection)
            connection.execute("COMMIT")
            with contextlib.suppress(sqlite3.OperationalError):  # somebody is at it; the next writer does it
                connection.execute("PRAGMA journal_mode = WAL")
            return result

        try:
            return self._attempt(transaction, create=True)
        except _Unintelligible as fault:
            self._set_aside(fault)
        try:
            return self._attempt(transaction, create=True)
        except _Unintelligible as fault:
            raise HostError(f"cannot write the {self._what} {self.path}: {fault}") from fault

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], *, create: bool = False) -> _T:
        """Work on a separate connection.

        Raises:
            _Unintelligible: the file was not written by this program.
            HostError: the disk refuses.
        """
        try:
            if create:  # by us, for SQLite would let others read it
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT_SECONDS, isolation_level=None)
            with contextlib.closing(connection):
                if (version := _version(connection)) not in range(len(self._scripts) + 1):
                    message = f"is of version {version}, which another version of overcommit made"
                    raise _Unintelligible(message)
                return work(connection)
        except (OverflowError, UnicodeEncodeError) as error:  # what was to be written, not what is there
            raise HostError(f"cannot keep in the {self._what} what no column takes: {error}") from error
        except ValueError as error:
            raise _Unintelligible(f"cannot be understood ({error})") from error
        except OSError as error:
            raise HostError(f"cannot keep the {self._what} in {self.path}: {error.strerror}") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None or code & 0xFF in _NOT_OURS:
                raise _Unintelligible(f"cannot be understood ({error})") from error
            raise HostError(f"cannot keep the {self._what} in {self.path}: {error}") from error

    def _set_aside(self, fault: _Unintelligible) -> None:
        """Rename the file, so that it is not used again.

        Raises:
            HostError: the disk refuses.
        """
        aside = self._free_name()
        try:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        except OSError as error:
            raise HostError(
                f"the {self._what} {self.path} {fault}, and cannot be set aside: {error.strerror}"
            ) from error
        self._warn(
            f"the {self._what} {self.path} {fault}: it was renamed to {aside.name}, and a new one begins"
        )

    def _free_name(self) -> Path:
        """A name that no file has; the last one's, where as many are kept as may be."""
        for number in itertools.count(1):
            name = self.path.with_name(f"{self.path.name}.broken-{number}")
            if number == self._most_aside or not name.exists():
                return name
        raise AssertionError


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
