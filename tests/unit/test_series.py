"""The minutes of a month, on a real disk: what is kept, thinned and survived."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from overcommit.errors import HostError
from overcommit.model.series import DomainSpan, HostSpan, Span
from overcommit.records.series import Kept, Series
from overcommit.units import GIB, MIB, PAGE_SIZE
from tests.full_disk import full_disk
from tests.scenarios import NOW

START = int(float(NOW)) // 86400 * 86400
FOREVER = float(1 << 40)


def host(**values: Any) -> HostSpan:
    plain: dict[str, Any] = {
        "total_bytes": 64 * GIB,
        "available_bytes": 8 * GIB,
        "available_least_bytes": 8 * GIB,
        "swap_used_bytes": GIB,
        "pool_stored_bytes": GIB,
        "pool_used_bytes": 256 * MIB,
        "merged_bytes": None,
        "psi_some": 0.0125,
    }
    return HostSpan(**{**plain, **values})


def domain(name: str = "web", **values: Any) -> DomainSpan:
    plain: dict[str, Any] = {
        "uuid": f"uuid of {name}",
        "name": name,
        "minutes": 1,
        "memory_bytes": 8 * GIB,
        "resident_bytes": 4 * GIB,
        "swapped_bytes": GIB,
        "balloon_bytes": 0,
        "virtio_mem_bytes": 0,
        "working_set_bytes": 2 * GIB,
        "working_set_most_bytes": 2 * GIB,
        "idle_bytes": (3 * GIB, 2 * GIB, None),
        "promoted_pages": 7,
        "judged_seconds": 60,
        "outside_seconds": 0,
        "pain_most": 0.25,
    }
    return DomainSpan(**{**plain, **values})


def minute(number: int, *domains: DomainSpan, of: HostSpan | None = None) -> Span:
    return Span(
        at=START + 60 * number, seconds=60, minutes=1, host=of or host(), domains=domains or (domain(),)
    )


class Installed:
    def __init__(self, directory: Path, **values: Any) -> None:
        self.path = directory / "series.db"
        self.said: list[str] = []
        self.series = Series(directory, warn=self.said.append, **values)

    @property
    def kept(self) -> Kept:
        kept = self.series.read(since=0.0, until=FOREVER)
        assert kept is not None
        return kept

    @property
    def spans(self) -> list[Span]:
        return list(self.kept.spans)


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few spans of each kind, so that a test need not write a month."""
    from overcommit.records import series

    tiers = (series._Tier(60, 20, 600), series._Tier(600, 12, 3600), series._Tier(3600, 3, None))
    monkeypatch.setattr(series, "_TIERS", tiers)


def test_looking_creates_nothing(installed: Installed, tmp_path: Path) -> None:
    assert installed.series.read(since=0.0, until=FOREVER) is None
    assert list(tmp_path.iterdir()) == []


def test_a_minute_comes_back_as_it_was(installed: Installed) -> None:
    hostile = "<b>'\"; DROP TABLE spans; --\n\u202e"
    gap = domain(
        hostile,
        resident_bytes=None,
        swapped_bytes=None,
        working_set_bytes=None,
        working_set_most_bytes=None,
        idle_bytes=(None, None, None),
        promoted_pages=None,
        pain_most=None,
        judged_seconds=0,
    )
    first, second = minute(0, domain(), gap), minute(1, of=host(merged_bytes=MIB, psi_some=None))
    installed.series.add(first)
    installed.series.add(second)
    assert installed.spans == [first, second]
    assert installed.series.read(since=START + 60, until=FOREVER) == Kept(
        spans=(second,), bytes=installed.kept.bytes
    )
    assert installed.said == []


def test_minutes_are_merged_for_a_reader_who_wants_no_more(installed: Installed) -> None:
    for number in range(12):
        installed.series.add(minute(number, domain(resident_bytes=(number + 1) * GIB, promoted_pages=1)))
    kept = installed.series.read(since=0.0, until=FOREVER, least_seconds=600)
    assert kept is not None
    assert [(span.at - START, span.seconds, span.minutes) for span in kept.spans] == [
        (0, 600, 10),
        (600, 600, 2),
    ]
    first = kept.spans[0].domains[0]
    assert first == domain(minutes=10, resident_bytes=11 * GIB // 2, promoted_pages=10, judged_seconds=600)
    assert len(installed.spans) == 12, "what is kept is as it was"


def test_a_name_that_is_no_unicode_costs_no_minute(installed: Installed) -> None:
    installed.series.add(minute(0, domain("a\udcff", uuid="u")))
    assert installed.spans[0].domains[0].name == "a\\udcff"


def test_a_domain_that_is_renamed_keeps_its_minutes(installed: Installed) -> None:
    installed.series.add(minute(0, domain("old", uuid="u")))
    installed.series.add(minute(1, domain("new", uuid="u")))
    assert [span.domains[0].name for span in installed.spans] == ["new", "new"]


def test_only_root_may_read_it(installed: Installed, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        installed.series.add(minute(0))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.usefixtures("small")
def test_older_minutes_are_merged_and_the_oldest_removed(installed: Installed) -> None:
    for number in range(20 + 120 + 180 + 60):
        installed.series.add(minute(number))
    by_length = {
        length: [span.minutes for span in installed.spans if span.seconds == length]
        for length in (60, 600, 3600)
    }
    assert 20 <= len(by_length[60]) < 30
    assert set(by_length[60]) == {1}
    assert 12 <= len(by_length[600]) < 18
    assert set(by_length[600]) == {10}
    assert by_length[3600] == [60, 60, 60]
    assert sum(span.minutes for span in installed.spans) >= 320


@pytest.mark.usefixtures("small")
def test_what_merged_minutes_say(installed: Installed) -> None:
    for number in range(10):
        last = number == 9
        installed.series.add(
            minute(
                number,
                domain(
                    resident_bytes=None if number % 2 else (number + 1) * GIB,
                    working_set_most_bytes=number * GIB,
                    outside_seconds=30 if last else 0,
                    pain_most=2.5 if last else None,
                ),
                *([domain("db")] if last else []),
                of=host(available_bytes=number * GIB, available_least_bytes=number * GIB),
            )
        )
    for number in range(10, 30):
        installed.series.add(minute(number))
    merged = installed.spans[0]
    assert (merged.at, merged.seconds, merged.minutes) == (START, 600, 10)
    assert merged.host == host(available_bytes=45 * GIB // 10, available_least_bytes=0)
    web, db = merged.domains
    assert db == domain("db")
    assert web == domain(
        minutes=10,
        resident_bytes=5 * GIB,  # of the minutes in which it was known
        working_set_most_bytes=9 * GIB,
        promoted_pages=70,
        judged_seconds=600,
        outside_seconds=30,
        pain_most=2.5,
    )


@pytest.mark.usefixtures("small")
def test_a_domain_of_which_nothing_is_left_is_forgotten(installed: Installed) -> None:
    installed.series.add(minute(0, domain("gone"), domain("web")))
    for number in range(1, 500):
        installed.series.add(minute(number))
    with sqlite3.connect(installed.path) as connection:
        assert connection.execute("SELECT name FROM domains").fetchall() == [("web",)]
    connection.close()


def test_no_more_bytes_than_it_may_have(tmp_path: Path) -> None:
    installed = Installed(tmp_path, most_bytes=MIB)
    many = tuple(domain(f"domain {number}") for number in range(200))
    for number in range(120):
        installed.series.add(minute(number, *many))
    assert installed.path.stat().st_size < MIB + 300 * 1024
    ats = [span.at for span in installed.spans]
    assert 10 < len(ats) < 120, "some are gone"
    assert ats == [START + 60 * number for number in range(120 - len(ats), 120)], "the oldest"


@pytest.mark.usefixtures("small")
def test_a_clock_that_is_set_back_an_hour(installed: Installed) -> None:
    """The hour comes twice: each of its minutes is the mean of both."""
    for number in range(10):
        installed.series.add(minute(number, domain(resident_bytes=GIB)))
    for number in range(-2, 10):
        installed.series.add(minute(number, domain(resident_bytes=3 * GIB)))
    spans = installed.spans
    assert [span.at for span in spans] == [START + 60 * number for number in range(-2, 10)]
    assert [span.minutes for span in spans] == [1, 1, *[2] * 10]
    assert [span.domains[0].resident_bytes for span in spans] == [3 * GIB] * 2 + [2 * GIB] * 10
    assert sum(span.minutes for span in spans) == 22, "nothing is lost"


@pytest.mark.usefixtures("small")
def test_a_clock_that_is_set_back_to_what_was_merged_already(installed: Installed) -> None:
    for number in [*range(120), *range(30)]:
        installed.series.add(minute(number, domain(promoted_pages=1)))
    assert sum(span.minutes for span in installed.spans) == 150
    assert sum(span.domains[0].promoted_pages or 0 for span in installed.spans) == 150
    assert len({(span.at, span.seconds) for span in installed.spans}) == len(installed.spans)


@pytest.mark.usefixtures("small")
def test_a_clock_that_is_wrong_by_years_for_a_while(installed: Installed) -> None:
    ten_years = 10 * 365 * 1440
    for number in [*range(20), *range(ten_years, ten_years + 3), *range(23, 30)]:
        installed.series.add(minute(number))
    assert sum(span.minutes for span in installed.spans) == 30
    now = installed.series.read(since=START, until=START + 60 * 30)
    assert now is not None
    assert sum(span.minutes for span in now.spans) == 27, "what has not come yet is not shown"


@pytest.mark.parametrize("room", [0, 4096, 12288, 24576])
def test_a_full_disk_costs_the_minute_at_hand(installed: Installed, room: int) -> None:
    many = tuple(domain(f"domain {number}") for number in range(500))
    installed.series.add(minute(0))
    with full_disk(room), pytest.raises(HostError, match="cannot keep the series"):
        installed.series.add(minute(1, *many))
    assert installed.spans == [minute(0)]
    installed.series.add(minute(2))
    assert installed.spans == [minute(0), minute(2)]
    assert installed.said == []


def test_a_disk_that_was_full_from_the_beginning(installed: Installed) -> None:
    with full_disk(0), pytest.raises(HostError):
        installed.series.add(minute(0))
    installed.series.add(minute(1))
    assert installed.spans == [minute(1)]


def test_a_file_that_somebody_keeps_locked(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overcommit.records.database._LOCK_TIMEOUT_SECONDS", 0.01)
    installed.series.add(minute(0))
    holder = sqlite3.connect(installed.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(HostError, match="locked"):
        installed.series.add(minute(1))
    assert installed.spans == [minute(0)], "reading goes on"
    holder.close()
    installed.series.add(minute(2))
    assert installed.spans == [minute(0), minute(2)]


def spoil(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA user_version = 2",
        "DROP TABLE figures",
        "DELETE FROM domains",
        "UPDATE spans SET available = NULL",
        "UPDATE spans SET total = 'x'",
    ],
)
def test_a_file_that_cannot_be_understood_is_set_aside(
    installed: Installed, tmp_path: Path, statement: str
) -> None:
    for number in range(2):
        installed.series.add(minute(0))
        spoil(installed.path, statement)
        assert installed.series.read(since=0.0, until=FOREVER) is None
        assert (tmp_path / "series.db.broken-1").exists()
        assert len(installed.said) == number + 1
    assert not (tmp_path / "series.db.broken-2").exists(), "one such file is all that is kept"
    installed.series.add(minute(3))
    assert installed.spans == [minute(3)]


WRITER = """
import pathlib, sys
from overcommit.records.series import Series
from tests.unit.test_series import domain, minute
many = tuple(domain(f"domain {number}") for number in range(300))
series = Series(pathlib.Path(sys.argv[1]), warn=sys.exit)
for number in range(100_000):
    series.add(minute(number, *many))
    print(number, flush=True)
"""


@pytest.mark.parametrize("wait", [0.0, 0.003, 0.011, 0.023, 0.05])
def test_a_writer_that_is_killed_amid_a_write(installed: Installed, tmp_path: Path, wait: float) -> None:
    """A real process and SIGKILL: what it has said to be stored is there, whole, and writing goes on."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            said = writer.stdout.readline()
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        said = (said + writer.stdout.read()).splitlines()[-1]
    last = int(said)
    kept = [(span.at - START) // 60 for span in installed.spans]
    assert kept[: last + 1] == list(range(last + 1))
    assert len(kept) <= last + 2, "and at most the one that it was about to name"
    assert {len(span.domains) for span in installed.spans} == {300}
    installed.series.add(minute(100_000))
    assert len(installed.spans) == len(kept) + 1
    with sqlite3.connect(installed.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert installed.said == []


def test_sizes_are_right_to_the_page(installed: Installed) -> None:
    installed.series.add(minute(0, domain(resident_bytes=3 * PAGE_SIZE + 100)))
    assert installed.spans[0].domains[0].resident_bytes == 3 * PAGE_SIZE
