"""What people type for a time, a duration, and a name that there is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from overcommit.cli.moments import parse_moment
from overcommit.control.naming import names_of, nearest
from overcommit.errors import UsageError
from overcommit.model.moments import Wall
from overcommit.units import parse_spoken_duration


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


NOW = Wall(datetime(2026, 10, 26, 0, 30, tzinfo=UTC).timestamp())
"""Half past one of a Monday there; the day before had 25 hours."""


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", "2026-10-25T22:30:00"),
        ("90 min", "2026-10-25T23:00:00"),
        ("1d", "2026-10-25T00:30:00"),
        ("today", "2026-10-25T23:00:00"),
        (" Yesterday ", "2026-10-24T22:00:00"),
        ("2026-10-24", "2026-10-23T22:00:00"),
        ("2026-10-25T12:00", "2026-10-25T11:00:00"),
        ("2026-10-25 12:00:30", "2026-10-25T11:00:30"),
        ("2026-10-25T12:00Z", "2026-10-25T12:00:00"),
        ("2026-10-25T12:00+02:00", "2026-10-25T10:00:00"),
    ],
)
def test_a_moment_is_read(text: str, at: str) -> None:
    assert parse_moment(text, NOW) == Wall(datetime.fromisoformat(f"{at}Z").timestamp())


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "7", "2h ago", "2026-13-01", "9" * 400, "-2h", "\0", "0001-01-01"]
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 2h, today, yesterday, 2026-11-29"):
        parse_moment(text, NOW)


def test_what_has_not_come_yet() -> None:
    with pytest.raises(ValueError, match="2026-10-27 is in the future"):
        parse_moment("2026-10-27", NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m", 60),
        ("1 min", 60),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30min", 5400),
        ("2 Hours", 7200),
        ("90s", 90),
    ],
)
def test_a_duration_as_people_say_it(text: str, seconds: float) -> None:
    assert parse_spoken_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "1x", "-1m", "1h-2m", "1 h 5", "1e3s", "1h;2m"])
def test_what_is_no_duration_even_so(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 90s, 5min or 2h"):
        parse_spoken_duration(text)


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("wbe", ["web", "db"], "web"),
        ("WEB", ["web", "db"], "web"),
        ("web1", ["web-1", "web-22"], "web-1"),
        ("database", ["db", "customers-database-prod"], "customers-database-prod"),
        ("xyz", ["web", "db"], None),
        ("", ["web"], None),
        ("web", [], None),
    ],
)
def test_what_was_meant(word: str, known: list[str], near: str | None) -> None:
    assert nearest(word, known) == near


def test_a_domain_is_meant_by_its_name_or_its_uuid() -> None:
    running = {"uuid-1": "web", "uuid-2": "uuid-1"}
    assert names_of(("web", "uuid-2"), running) == ("web", "uuid-1")
    assert names_of(("uuid-1",), running) == ("web",), "a UUID is the UUID of one, whatever others are called"
    with pytest.raises(UsageError, match="no running domain 'wbe'") as caught:
        names_of(("web", "wbe"), running)
    assert caught.value.hint == "did you mean web?"
    with pytest.raises(UsageError) as caught:
        names_of(("x",), {str(n): f"guest{n:02}" for n in range(30)})
    assert caught.value.hint == f"running: {', '.join(f'guest{n:02}' for n in range(10))} and 20 more"
