"""The daemon's log and what systemd shows of it: one line for each sentence, whatever the names in it are."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from overcommit.daemon import main as program
from overcommit.daemon import service
from overcommit.daemon.notify import ServiceManager
from overcommit.errors import Complaint, PolicyError, Refused
from overcommit.testing import FakeClock, FakeHost

NAME = "a\x1b[2Jb\u202ec\x85d\u2028e\ud800"
SHOWN = "a\\x1b[2Jb\\u202ec\\x85d\\u2028e\\ud800"


def test_a_sentence_is_one_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    for say in (service._say, service._say_to_journal):
        say(f"release {NAME} by order of uid 1")
        logged = capsys.readouterr().err
        assert logged.endswith(f"release {SHOWN} by order of uid 1\n")
        assert logged.count("\n") == 1


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
def test_why_it_does_not_start_is_a_line_for_each_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Refused, said: list[str]
) -> None:
    def refuse(_arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(program, "overcommitd", refuse)
    monkeypatch.setattr(sys, "argv", ["overcommitd"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == error.exit_code
    assert capsys.readouterr().err.splitlines() == said
