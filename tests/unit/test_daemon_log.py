"""The daemon's log: each event is one entry of the journal or one line, whatever the names in it are."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.daemon import journald
from overcommit.daemon import main as program
from overcommit.daemon.event_log import OVER_SECONDS, RESTATED_SECONDS, EventLog
from overcommit.daemon.journald import datagram
from overcommit.daemon.notify import ServiceManager
from overcommit.errors import Complaint, PolicyError, Refused
from overcommit.model import events
from overcommit.model.facts import Incarnation
from overcommit.model.log_event import LogEvent
from overcommit.model.moments import Monotonic
from overcommit.testing import FakeClock, FakeHost

NAME = "a\x1b[2Jb\u202ec\x85d\u2028e\ud800"
SHOWN = "a\\x1b[2Jb\\u202ec\\x85d\\u2028e\\ud800"


def of(name: str) -> LogEvent:
    return events.domain_fault(Incarnation(uuid="u", name=name, pid=1, start_time=1), "why", 60.0)


def parsed(data: bytes) -> list[tuple[str, bytes]]:
    """As journald reads it; every field must be of the form that has a length."""
    fields = []
    while data:
        name, _, rest = data.partition(b"\n")
        assert b"=" not in name, "a field without a length"
        (length,) = struct.unpack("<Q", rest[:8])
        value, end, data = rest[8 : 8 + length], rest[8 + length : 9 + length], rest[9 + length :]
        assert (len(value), end) == (length, b"\n")
        fields.append((name.decode(), value))
    return fields


def test_an_event_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    event = events.quarantine_released(NAME, 1, ())
    assert journald.to_stderr(event)
    assert journald.to_journal_stream(event)
    clock, journal = capfd.readouterr().err.splitlines()
    assert clock[8:] == f" release {SHOWN} by order of uid 1"
    assert journal == f"<5>release {SHOWN} by order of uid 1"


def test_the_journal_gets_fields() -> None:
    assert parsed(datagram(of("web"))) == [
        ("MESSAGE", b"web: why; nothing is taken from it for 1min"),
        ("MESSAGE_ID", b"adbbe939bcce483c89ae8095f9d3f0c9"),
        ("PRIORITY", b"4"),
        ("SYSLOG_IDENTIFIER", b"overcommitd"),
        ("OVERCOMMIT_EVENT", b"domain-fault"),
        ("OVERCOMMIT_DOMAIN", b"web"),
        ("OVERCOMMIT_DOMAIN_UUID", b"u"),
        ("OVERCOMMIT_SECONDS", b"60"),
    ]


FORGED = "a\nPRIORITY=0\nMESSAGE=all is well\n\0MESSAGE_ID\n\x05\0\0\0\0\0\0\0"


@pytest.mark.parametrize("name", [FORGED, NAME, "n" * 65536, "\u202e" * 65536, "x=y", "", "\0"])
def test_no_name_forges_a_field(name: str) -> None:
    fields = parsed(datagram(of(name)))
    assert [field for field, _ in fields] == [field for field, _ in parsed(datagram(of("web")))]
    for _, value in fields:
        text = value.decode()
        assert text.isprintable()
        assert len(text) <= 1000


@given(st.text())
def test_no_name_forges_a_field_whatever_it_is(name: str) -> None:
    assert dict(parsed(datagram(of(name))))["PRIORITY"] == b"4"
    assert len(parsed(datagram(of(name)))) == 8


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """Who is behind the journal's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(tmp_path / "socket"))
        ours.setblocking(False)
        yield ours


def received(journal: socket.socket) -> list[dict[str, bytes]]:
    """What is in its queue."""
    entries = []
    with contextlib.suppress(BlockingIOError):
        while True:
            entries.append(dict(parsed(journal.recv(1 << 16))))
    return entries


def test_a_journal_that_does_not_answer_is_not_waited_for(
    journal: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is stderr, the journal's as well; what is lost for that is told as soon as that can be."""
    monkeypatch.setattr(journald, "SOCKET", Path(journal.getsockname()))
    monkeypatch.setattr(journald, "stderr_is_journal", lambda _environment: True)
    log = EventLog(journald.writer({}), lambda: Monotonic(0.0))
    stuck, other_end = socket.socketpair()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    before = os.dup(2)
    os.dup2(stuck.fileno(), 2)
    began = time.monotonic()
    try:
        for uid in range(5000):
            log.tell(events.resumed(uid))
        assert time.monotonic() - began < 5.0
        got = [entry["OVERCOMMIT_UID"] for entry in received(journal)]
        assert got == [str(uid).encode() for uid in range(len(got))]
        lines = other_end.recv(1 << 20).decode().splitlines()
        assert lines[0] == f"<5>resumed by order of uid {len(got)}", "stderr takes what the socket does not"
        log.tell(events.resumed(1))
        lost = dict(parsed(journal.recv(1 << 16)))
        assert lost["OVERCOMMIT_EVENT"] == b"log-lost"
        missing = 5000 - len(got) - len(lines)
        assert missing > 0
        assert lost["MESSAGE"].startswith(f"{missing} events before this one are lost".encode())
    finally:
        os.dup2(before, 2)
        os.close(before)
        stuck.close()
        other_end.close()


def test_last_words_are_waited_for_and_not_for_long(
    journal: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journald finds no unit of a sender that has ended before it reads."""
    monkeypatch.setattr(journald, "SOCKET", Path(journal.getsockname()))
    reader = threading.Timer(0.2, lambda: journal.recv(1 << 16))
    reader.start()
    began = time.monotonic()
    journald.last_words(events.failed("error: no", 1))
    assert 0.15 < time.monotonic() - began < 0.9
    reader.join()
    began = time.monotonic()
    journald.last_words(events.failed("error: no", 1))
    assert 0.9 < time.monotonic() - began < 3.0
    assert len(received(journal)) == 1


def test_a_journal_that_is_restarted_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "SOCKET", tmp_path / "socket")
    for _ in range(2):
        assert not journald.to_journal(of("web"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            ours.bind(str(tmp_path / "socket"))
            assert journald.to_journal(of("web"))
        assert not journald.to_journal(of("web"))
        (tmp_path / "socket").unlink()


def test_a_stderr_that_is_closed_ends_nothing() -> None:
    before = os.dup(2)
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 2)
    try:
        assert not journald.to_stderr(of("web"))
        os.close(2)
        assert not journald.to_stderr(of("web"))
        assert not journald.stderr_is_journal({"JOURNAL_STREAM": "1:2"})
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(write)


def test_the_journal_is_where_stderr_leads() -> None:
    """Who redirects it reads the log there."""
    about = os.fstat(2)
    assert journald.stderr_is_journal({"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"})
    assert not journald.stderr_is_journal({"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino + 1}"})
    assert not journald.stderr_is_journal({})


class Kept:
    """A log with a clock of its own, and what it has written."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[LogEvent] = []
        self.log = EventLog(self._write, lambda: Monotonic(self.now))

    def _write(self, event: LogEvent) -> bool:
        self.written.append(event)
        return True

    def tell(self, event: LogEvent, after: float) -> list[str]:
        """What that has it write."""
        self.now += after
        before = len(self.written)
        self.log.tell(event)
        return [each.sentence for each in self.written[before:]]


def test_what_comes_again_is_told_once_and_counted() -> None:
    kept = Kept()
    assert kept.tell(events.lost("DAMON", "is busy for 5 s"), 0) == [
        "lost DAMON: is busy for 5 s; nothing is taken"
    ]
    for seconds in range(1, 60):
        assert kept.tell(events.lost("DAMON", f"is busy for {seconds} s"), 60) == []
    assert kept.tell(events.lost("DAMON", "is busy for 1min 2 s"), 60) == [
        "lost DAMON: is busy for 1min 2 s; nothing is taken (60 times within 1h)"
    ]
    assert kept.written[-1].values["OVERCOMMIT_REPEATED"] == "60"
    assert kept.tell(events.lost("libvirt", "is busy for 5 s"), 60) != [], "another thing"
    assert kept.tell(events.lost("DAMON", "is gone"), 1) != [], "another reason"


def test_what_is_over_is_told_with_its_count_and_is_new_again() -> None:
    kept = Kept()
    for _ in range(4):
        kept.tell(of("web"), 60)
    assert len(kept.written) == 1
    kept.now += OVER_SECONDS - 1
    kept.log.tend()
    assert len(kept.written) == 1
    kept.now += 1
    kept.log.tend()
    assert kept.written[-1].sentence.endswith("(3 times within 3min)")
    assert kept.tell(of("web"), 1) == [of("web").sentence]


def test_what_was_counted_is_told_in_the_end() -> None:
    kept = Kept()
    for _ in range(3):
        kept.tell(of("web"), 1)
    kept.log.close()
    assert [each.repeated for each in kept.written] == [1, 2]


def test_domains_and_orders_are_told_from_each_other() -> None:
    kept = Kept()
    for _ in range(3):
        for number in range(3):
            who = Incarnation(uuid=f"u{number}", name=f"vm{number}", pid=1, start_time=1)
            kept.tell(events.domain_fault(who, "why", 60.0), 1)
        kept.tell(events.resumed(0), 1)
    assert [each.kind.name for each in kept.written].count("domain-fault") == 3
    assert [each.kind.name for each in kept.written].count("resumed") == 3, "each order is told"


def test_what_is_kept_for_counting_is_bounded() -> None:
    kept = Kept()
    for number in range(3000):
        who = Incarnation(uuid=str(number), name="n" * 65536, pid=1, start_time=1)
        kept.tell(events.domain_fault(who, "why", 60.0), 0.001)
    assert len(kept.log._repeated) <= 1000
    assert all(len(each.latest.sentence) <= 2000 for each in kept.log._repeated.values())
    assert all(len(str(value)) <= 2000 for each in kept.written for value in each.fields.values())
    assert RESTATED_SECONDS == 3600.0


def test_what_systemd_shows_is_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(tmp_path / "notify"))
        ours.settimeout(5)
        ServiceManager(FakeClock(FakeHost([])), {"NOTIFY_SOCKET": str(tmp_path / "notify")}).alive(
            f"at {NAME}"
        )
        assert ours.recv(1000).decode().split("\n") == ["WATCHDOG=1", f"STATUS=at {SHOWN}"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            Refused(f"no {NAME}\nerror: none", hint=f"try {NAME}"),
            [f"error: no {SHOWN}\\nerror: none", f"hint:  try {SHOWN}"],
        ),
        (
            PolicyError((Complaint("p.yaml", 1, 2, NAME), Complaint("p.yaml", 3, 4, "no"))),
            [f"error: p.yaml:1:2: {SHOWN}", "error: p.yaml:3:4: no"],
        ),
    ],
)
@pytest.mark.parametrize("journals", [False, True])
def test_why_it_does_not_start_is_a_line_for_each_fault(
    error: Refused,
    said: list[str],
    journals: bool,
    journal: socket.socket,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(program, "overcommitd", refuse)
    monkeypatch.setattr(sys, "argv", ["overcommitd"])
    monkeypatch.setattr(journald, "stderr_is_journal", lambda _environment: journals)
    monkeypatch.setattr(journald, "SOCKET", Path(journal.getsockname()))
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == error.exit_code
    assert capsys.readouterr().err.splitlines() == ([] if journals else said)
    if journals:
        entries = [dict(parsed(journal.recv(1 << 16))) for _ in said]
        assert [entry["MESSAGE"].decode() for entry in entries] == said
        assert {entry["PRIORITY"] for entry in entries} == {b"3"}
        assert {entry["OVERCOMMIT_EXIT_STATUS"] for entry in entries} == {str(error.exit_code).encode()}
