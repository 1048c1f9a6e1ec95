"""The memory of what was done, on a real disk: what it keeps, forgets, and survives."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from overcommit.errors import HostError
from overcommit.model.history import RESTORE, Event
from overcommit.model.moments import Wall
from overcommit.model.outcome import Fault, Status
from overcommit.records.ledger import Ledger
from tests.full_disk import full_disk
from tests.scenarios import NOW, incarnation

DAY = 86400.0


class Installed:
    """A ledger and what it said."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "history.db"
        self.said: list[str] = []
        self.ledger = Ledger(directory, warn=self.said.append)

    def count(self) -> int:
        with sqlite3.connect(self.path) as connection:
            counted: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        connection.close()
        return counted


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def event(at: Wall = NOW, *, name: str = "web", boot_id: str = "boot-1", **values: Any) -> Event:
    plain: dict[str, Any] = {"kind": "balloon", "status": Status.DONE, "about": name, **values}
    return Event(at=at, boot_id=boot_id, run="r1", **plain)


FULL = Event(
    at=NOW + 0.25,
    boot_id="boot-1",
    run="r1",
    kind="balloon",
    status=Status.PARTIAL,
    about="a b\n'ü'",
    domain=incarnation("a b\n'ü'"),
    generation=7,
    fault=Fault.STUCK,
    before_bytes=1 << 42,
    planned_bytes=1,
    reached_bytes=2,
    expected_bytes=3,
    freed_bytes=4,
    moved_bytes=5,
    promoted_pages=6,
    seconds=7.5,
    because="b",
    detail="d",
    policy_digest="p",
)


def test_looking_creates_nothing(installed: Installed, tmp_path: Path) -> None:
    assert installed.ledger.events() == ()
    assert installed.ledger.reservations(now=NOW, boot_id="boot-1") == ()
    assert list(tmp_path.iterdir()) == []


def test_an_event_comes_back_as_it_was(installed: Installed) -> None:
    bare = event()
    installed.ledger.note(FULL)
    installed.ledger.note(bare)
    assert installed.ledger.events() == (FULL, bare)
    assert installed.said == []


def test_the_newest_come_in_the_order_in_which_they_happened(installed: Installed) -> None:
    for at in (3.0, 1.0, 2.0):  # as the clock was set
        installed.ledger.note(event(NOW + at))
    assert [e.at - NOW for e in installed.ledger.events()] == [3.0, 1.0, 2.0]
    assert [e.at - NOW for e in installed.ledger.events(most=2)] == [1.0, 2.0]
    assert [e.at - NOW for e in installed.ledger.events(since=NOW + 2)] == [3.0, 2.0]


def test_events_of_some_domains_and_of_one_boot(installed: Installed) -> None:
    for about in (event(name="web"), event(name="db"), event(name="w' OR 1=1 --"), event(boot_id="boot-2")):
        installed.ledger.note(about)
    restored = event(kind=RESTORE, about=None)
    installed.ledger.note(restored)
    assert [e.about for e in installed.ledger.events(about=("db",))] == ["db", None]
    assert [e.about for e in installed.ledger.events(about=("w' OR 1=1 --", "db"))] == [
        "db",
        "w' OR 1=1 --",
        None,
    ]
    assert installed.ledger.events(kinds=(RESTORE, "release")) == (restored,)
    assert installed.ledger.events(about=("web",), boot_id="boot-2") == (event(boot_id="boot-2"),)


def test_old_events_are_forgotten(installed: Installed) -> None:
    for days in (0, 1, 90, 91):
        installed.ledger.note(event(NOW + days * DAY))
    assert [e.at for e in installed.ledger.events()] == [NOW + days * DAY for days in (1, 90, 91)]


def test_no_more_events_are_kept_than_fit(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overcommit.records.ledger._MOST_EVENTS", 3)
    for at in range(7):
        installed.ledger.note(event(NOW + at))
    assert [e.at - NOW for e in installed.ledger.events()] == [4, 5, 6]


def test_only_root_may_read_it(installed: Installed, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        installed.ledger.note(event())
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_promise_stands_until_its_time_is_over(installed: Installed) -> None:
    ledger = installed.ledger
    one = ledger.grant(1 << 40, "web", now=NOW, expires_at=NOW + 60, boot_id="boot-1")
    two = ledger.grant(5, None, now=NOW, expires_at=NOW + 90, boot_id="boot-1")
    assert (one.purpose, one.size_bytes, two.purpose) == ("web", 1 << 40, None)
    assert ledger.reservations(now=NOW, boot_id="boot-1") == (one, two)
    assert ledger.reservations(now=NOW + 60, boot_id="boot-1") == (two,)
    assert ledger.reservations(now=NOW, boot_id="boot-2") == ()
    ledger.cancel(two)
    ledger.cancel(two)  # harmless
    assert ledger.reservations(now=NOW, boot_id="boot-1") == (one,)
    three = ledger.grant(5, None, now=NOW + 60, expires_at=NOW + 90, boot_id="boot-1")
    assert three.id > two.id, "the number of another promise is not used again"
    assert ledger.reservations(now=NOW, boot_id="boot-1") == (three,), "what is over is not kept"


RUBBISH = {
    "text": b"this is no database, and never was one" * 200,
    "zeros": b"\0" * 8192,
    "a torn page": None,
    "a newer version": None,
    "other tables": None,
    "an unknown word": None,
}


def spoil(installed: Installed, how: str) -> None:
    content = RUBBISH[how]
    if content is not None:
        installed.path.write_bytes(content)
        return
    for _ in range(100):
        installed.ledger.note(event(detail="x" * 300))
    if how == "a torn page":
        whole = installed.path.read_bytes()
        installed.path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        return
    statement = {
        "a newer version": "PRAGMA user_version = 3",
        "other tables": "DROP TABLE events",
        "an unknown word": "UPDATE events SET status = 'marvellous'",
    }[how]
    connection = sqlite3.connect(installed.path, isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("how", RUBBISH)
def test_a_file_that_cannot_be_understood_is_set_aside_by_whoever_reads(
    installed: Installed, tmp_path: Path, how: str
) -> None:
    spoil(installed, how)
    spoiled = installed.path.read_bytes()
    assert installed.ledger.events() == ()
    assert (tmp_path / "history.db.broken-1").read_bytes() == spoiled
    (sentence,) = installed.said
    assert "renamed to history.db.broken-1" in sentence
    installed.ledger.note(FULL)
    assert installed.ledger.events() == (FULL,)


@pytest.mark.parametrize("how", [how for how in RUBBISH if how != "an unknown word"])
def test_and_by_whoever_writes(installed: Installed, tmp_path: Path, how: str) -> None:
    (tmp_path / "history.db.broken-1").touch()
    spoil(installed, how)
    installed.ledger.note(FULL)
    assert installed.ledger.events() == (FULL,)
    assert (tmp_path / "history.db.broken-2").stat().st_size > 0
    assert len(installed.said) == 1


@pytest.mark.parametrize("room", [0, 4096, 12288, 16384])
def test_a_full_disk_is_said_once_and_keeps_what_was_there(installed: Installed, room: int) -> None:
    installed.ledger.note(FULL)
    big = event(detail="x" * 20000)
    with full_disk(room):
        installed.ledger.note(big)
        installed.ledger.note(big)
        with pytest.raises(HostError, match="cannot keep the history"):
            installed.ledger.grant(1, None, now=NOW, expires_at=NOW + 60, boot_id="boot-1")
    (sentence,) = installed.said
    assert "events from now on will be missing" in sentence
    assert installed.ledger.events() == (FULL,)
    assert installed.ledger.reservations(now=NOW, boot_id="boot-1") == ()
    installed.ledger.note(big)
    assert installed.ledger.events() == (FULL, big)


def test_a_disk_that_was_full_from_the_beginning(installed: Installed) -> None:
    with full_disk(0):
        installed.ledger.note(FULL)
        assert installed.ledger.events() == ()
    installed.ledger.note(FULL)
    assert installed.ledger.events() == (FULL,)


def test_a_directory_that_cannot_be_written(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _flags: int, _mode: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("overcommit.records.database.os.open", refuse)
    installed.ledger.note(FULL)
    assert [
        s.endswith("Read-only file system; what is done now events from now on will be missing")
        for s in installed.said
    ]
    with pytest.raises(HostError, match="Read-only"):
        installed.ledger.record(FULL)


def test_what_cannot_even_be_set_aside_is_said(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(installed, "text")

    def refuse(path: Path, _target: str) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("overcommit.records.database.Path.rename", refuse)
    assert installed.ledger.events() == ()
    installed.ledger.note(FULL)
    assert "cannot be set aside: Read-only file system" in installed.said[0]


def test_a_file_that_somebody_keeps_locked(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overcommit.records.database._LOCK_TIMEOUT_SECONDS", 0.01)
    installed.ledger.note(FULL)
    holder = sqlite3.connect(installed.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert installed.ledger.events() == (FULL,), "reading goes on"
    installed.ledger.note(event())
    holder.execute("COMMIT")
    holder.close()
    assert ["locked" in sentence for sentence in installed.said] == [True]
    assert installed.ledger.events() == (FULL,)


WRITER = """
import sys, pathlib
from overcommit.records.ledger import Ledger
from overcommit.model.history import Event
from overcommit.model.outcome import Status
ledger = Ledger(pathlib.Path(sys.argv[1]), warn=sys.exit)
for number in range(25):
    ledger.note(Event(at=1.7e9, boot_id="b", run=sys.argv[2], kind="balloon", status=Status.DONE))
    assert ledger.events(most=1)
"""


def test_two_processes_begin_and_write_the_same_history(installed: Installed, tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=50)
        assert (writer.returncode, said) == (0, b"")
    runs = [e.run for e in installed.ledger.events()]
    assert (len(runs), runs.count("one")) == (50, 25)
    assert not list(tmp_path.glob("*.broken-*"))


def test_a_writer_that_dies_leaves_what_it_had_written(installed: Installed, tmp_path: Path) -> None:
    script = WRITER.replace("assert ledger", "import os; os.kill(os.getpid(), 9)  #")
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path), "one"], check=False)
    assert ended.returncode == -9
    assert len(installed.ledger.events()) == 1
    installed.ledger.note(event())
    assert len(installed.ledger.events()) == 2


def test_a_history_of_version_1_is_read_and_goes_on_as_version_2(installed: Installed) -> None:
    installed.ledger.note(FULL)
    with sqlite3.connect(installed.path) as connection:
        for statement in (
            "DROP INDEX events_by_kind",
            "DROP INDEX events_by_fault",
            "DROP TABLE kept",
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
    connection.close()
    assert installed.ledger.events() == (FULL,)
    assert installed.ledger.kept("a") is None
    installed.ledger.keep("a", "1")
    installed.ledger.note(event())
    assert installed.ledger.kept("a") == "1"
    assert installed.ledger.events() == (FULL, event())
    assert installed.said == []


def test_what_is_kept_replaces_what_was(installed: Installed) -> None:
    assert installed.ledger.kept("a") is None
    for value in ("1", "2 ü"):
        installed.ledger.keep("a", value)
    installed.ledger.keep("b", "3")
    assert [installed.ledger.kept(name) for name in ("a", "b", "c")] == ["2 ü", "3", None]


def test_what_cannot_be_kept_is_said_and_lost(installed: Installed) -> None:
    installed.ledger.keep("a", "1")
    with full_disk(0):
        installed.ledger.keep("a", "2" * 10_000)
    assert ["next run starts without" in sentence for sentence in installed.said] == [True]
    assert installed.ledger.kept("a") == "1"


def test_faults_and_the_latest_that_was_done_of_each_life(installed: Installed) -> None:
    def about(name: str, at: Wall = NOW, *, kind: str = "balloon", **values: Any) -> Event:
        return event(at, name=name, kind=kind, domain=incarnation(name), **values)

    told = (
        about("web", NOW - 5, fault=Fault.PAIN, status=Status.PARTIAL),
        about("web"),
        about("web", kind="release"),
        about("db"),
    )
    others = (
        about("old", NOW - 90, fault=Fault.STUCK),
        about("future", NOW + 1),
        about("far", boot_id="boot-2"),
        about("web", kind="pageout"),
        about("web", status=Status.PARTIAL),
    )
    for one in (about("web"), about("db"), *told, *others):
        installed.ledger.note(one)
    kinds = ("balloon", "release")
    assert installed.ledger.faults(boot_id="boot-1", kinds=kinds, since=NOW - 60, until=NOW) == told
