"""``overcommitctl top``: in a real terminal, for programs, and where there is no terminal."""

from __future__ import annotations

import copy
import json
import signal
import socket
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overcommit.wire.server import ControlServer
from tests.cli.conftest import Run
from tests.cli.own_terminal import CURSOR_SHOWN, ENTERED, LEFT, OwnTerminal
from tests.faults.daemon import Disk, World

REFUSED, USAGE, FAILED, INTERRUPTED = 4, 64, 1, 130
Status = dict[str, Any]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Status:
    """What a daemon tells that has worked on two fake guests for some minutes."""
    disk = Disk()
    with disk.in_place():
        daemon = World(tmp_path_factory.mktemp("world")).daemon()
        daemon.run_for(120.0)
        status = daemon.server.status
        daemon.stop()
    return status


class Daemon:
    """The real control socket, with what a test wants to be told there."""

    def __init__(self, path: Path, status: Status) -> None:
        self.path = path
        self.status = copy.deepcopy(status)
        self.start()

    def start(self) -> None:
        self.server = ControlServer(self.path, None, lambda: None)
        self.tell()

    def tell(self, **changed: Any) -> None:
        """Publish the next tick."""
        self.status |= {"tick": self.status["tick"] + 1, "ticked_at": time.time()} | changed
        self.server.publish(json.dumps(self.status).encode(), None)

    def stop(self) -> None:
        self.server.close()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Status) -> Iterator[Daemon]:
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    daemon = Daemon(tmp_path / "run" / "control.sock", recorded)
    yield daemon
    daemon.stop()


Open = Callable[..., OwnTerminal]


@pytest.fixture
def terminal(daemon: Daemon) -> Iterator[Open]:
    """Runs ``top`` in a terminal of its own."""
    del daemon
    opened: list[OwnTerminal] = []

    def begin(*options: str, **environment: Any) -> OwnTerminal:
        opened.append(OwnTerminal("top", "--interval", "0.5", *options, **environment))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def assert_given_back(terminal: OwnTerminal) -> None:
    """As it was before: modes, screen and cursor."""
    assert terminal.modes() == terminal.before
    assert terminal.sent.count(ENTERED) == terminal.sent.count(LEFT) > 0
    assert CURSOR_SHOWN in terminal.sent.rpartition("\x1b[?25l")[2]


def selected(lines: list[str]) -> str:
    (line,) = [line for line in lines if line.startswith(">")]
    return line[2:].split()[0]


def test_keys_change_what_is_seen_and_q_ends(terminal: Open, daemon: Daemon) -> None:
    opened = terminal()
    lines = opened.await_line("2 domains by slo")
    assert len(lines) == 24
    assert lines[0].startswith("overcommitd (pid ")
    assert not opened.modes()[3] & (termios.ICANON | termios.ECHO)
    assert selected(lines) == "free"
    opened.press(b"n")
    opened.await_line("2 domains by name")
    opened.press(b"\x1b[B")
    opened.await_line("> free")
    opened.press(b"\x1b[A")
    opened.await_line("> cold")
    opened.press(b"\r")
    opened.await_line("cold  (class all")
    opened.press(b"\x1b")
    opened.await_line("2 domains by name")
    opened.press(b"?")
    opened.await_line("What the columns say")
    opened.press(b"?s")
    assert selected(opened.await_line("2 domains by slo")) == "cold", "it is followed"
    daemon.tell(sentence="active; it took more")
    opened.await_line("active; it took more")
    opened.press(b"q")
    assert opened.ended() == 0
    assert_given_back(opened)


def test_a_new_size_of_the_window_is_obeyed(terminal: Open) -> None:
    opened = terminal("--interval", "60s")
    assert not any("class" in line for line in opened.await_line("2 domains by slo"))
    opened.resize(120, 40)
    lines = opened.await_screen(lambda lines: len(lines) == 40)
    assert any("class" in line for line in lines)
    opened.resize(40, 8)
    assert max(map(len, opened.await_screen(lambda lines: len(lines) == 8))) <= 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_and_the_terminal_is_given_back(terminal: Open, number: int) -> None:
    opened = terminal()
    opened.await_line("2 domains")
    assert opened.modes() != opened.before
    opened.kill(number)
    assert opened.ended() == INTERRUPTED
    assert_given_back(opened)


def test_ctrl_c_ends_it_and_says_nothing(terminal: Open) -> None:
    opened = terminal()
    opened.await_line("2 domains")
    opened.press(b"\x03")
    assert opened.ended() == INTERRUPTED
    assert_given_back(opened)
    assert "error" not in opened.sent


def test_while_it_is_stopped_the_terminal_is_the_shell_s(terminal: Open) -> None:
    opened = terminal()
    opened.await_line("2 domains")
    opened.press(b"\x1a")
    assert int(opened.told("stopped")) == signal.SIGTSTP
    assert_given_back(opened)
    opened.go_on()
    opened.sent = opened.sent.replace("2 domains", "")
    opened.await_line("2 domains")
    opened.press(b"n")
    opened.await_line("2 domains by name")
    opened.press(b"q")
    assert opened.ended() == 0
    assert_given_back(opened)


def test_a_stop_of_which_nobody_is_told_is_mended_afterwards(terminal: Open) -> None:
    opened = terminal()
    opened.await_line("2 domains")
    opened.kill(signal.SIGSTOP)
    assert int(opened.told("stopped")) == signal.SIGSTOP
    termios.tcsetattr(opened.theirs, termios.TCSANOW, opened.before)
    opened.go_on()
    opened.press(b"n")
    opened.await_line("2 domains by name")
    assert not opened.modes()[3] & termios.ECHO
    opened.kill(signal.SIGTERM)
    assert opened.ended() == INTERRUPTED
    assert opened.modes() == opened.before


def test_ctrl_s_freezes_nothing(terminal: Open) -> None:
    opened = terminal()
    opened.await_line("2 domains")
    opened.press(b"\x13n")
    opened.await_line("2 domains by name")
    opened.kill(signal.SIGTERM)
    assert opened.ended() == INTERRUPTED
    assert_given_back(opened)


def test_an_error_gives_the_terminal_back_before_it_is_told(terminal: Open, daemon: Daemon) -> None:
    opened = terminal()
    opened.await_line("2 domains")
    nameless = [{k: v for k, v in domain.items() if k != "name"} for domain in daemon.status["domains"]]
    daemon.tell(domains=nameless)
    assert opened.ended() == FAILED
    assert_given_back(opened)
    assert "error:" in opened.sent.rpartition(LEFT)[2]


def silent(path: Path) -> socket.socket:
    """A daemon that takes questions and answers none."""
    listening = socket.socket(socket.AF_UNIX)
    path.unlink(missing_ok=True)
    listening.bind(str(path))
    listening.listen(8)
    return listening


def test_what_is_known_stays_with_its_age_while_the_daemon_is_silent_or_gone(
    terminal: Open, daemon: Daemon
) -> None:
    opened = terminal()
    opened.await_line("2 domains")
    daemon.stop()
    lines = opened.await_line("overcommitd is not running. What is shown is ")
    assert any(line.startswith(">") for line in lines)
    with silent(daemon.path):
        opened.await_line("overcommitd has not answered for ")
        opened.press(b"n")
        opened.await_line("2 domains by name")
    daemon.start()
    daemon.tell(sentence="active; it is back")
    lines = opened.await_line("active; it is back")
    assert lines[0].startswith("overcommitd (pid ")
    opened.press(b"q")
    assert opened.ended() == 0


def test_it_ends_after_so_many_times(terminal: Open) -> None:
    opened = terminal("--count", "2")
    assert opened.ended() == 0
    assert_given_back(opened)


@pytest.mark.parametrize(("options", "environment"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"})])
def test_without_colours_what_matters_is_still_marked(
    terminal: Open, daemon: Daemon, options: list[str], environment: dict[str, str]
) -> None:
    coloured = terminal()
    daemon.status["domains"][0] |= {"pain": 1.5, "feels": "it hurts"}
    daemon.tell()
    coloured.await_line(">!cold")
    assert "\x1b[1;7;31m" in coloured.sent
    plain = terminal(*options, **environment)
    plain.await_line(">!cold")
    assert "\x1b[1;7m" in plain.sent
    assert "31m" not in plain.sent


def test_a_hostile_name_reaches_no_terminal(terminal: Open, daemon: Daemon) -> None:
    daemon.status["domains"][0] |= {"name": "\x1b]0;owned\x07\x1b[31m\u202e", "class": "\x9b2J", "pain": 9.0}
    daemon.tell()
    opened = terminal(width=200)
    lines = opened.await_screen(
        lambda lines: any(r"\x1b]0;owned\x07\x1b[31m\u202e" in line for line in lines)
    )
    assert any(r"\x9b2J" in line for line in lines)
    opened.press(b"d")
    opened.await_screen(lambda lines: any(r"\x1b]0;owned\x07" in line and "(class" in line for line in lines))
    for escape in ("\x1b]", "\x07", "\x9b", "\u202e"):
        assert escape not in opened.sent


def test_a_terminal_that_cannot_be_filled_gets_one_table(terminal: Open) -> None:
    opened = terminal(TERM="dumb")
    assert opened.ended() == 0
    assert "\x1b" not in opened.sent
    assert "2 domains by slo" in opened.sent


@pytest.mark.usefixtures("daemon")
def test_without_a_terminal_it_prints_one_table(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(daemon.path.parent))
    ended = run("top", "--sort", "name")
    assert (ended.status, ended.err) == (0, "")
    *head, cold, free = ended.out.splitlines()
    assert head[0].startswith("overcommitd (pid ")
    assert head[-2] == "2 domains by name"
    assert head[-1].split() == ["domain", "class", "resident", "taken", "read", "back/min", "slo", "now"]
    assert (cold.split()[0], free.split()[0]) == ("cold", "free")
    daemon.tell(ticked_at=time.time() - 90)
    late, mode, *_ = run("top", "--count", "2", "--interval", "0.5").out.splitlines()
    assert "is late: it last looked at the host 1min 3" in late
    assert mode.startswith("1min 3")


@pytest.mark.usefixtures("daemon")
def test_for_programs_it_writes_an_object_per_line(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(daemon.path.parent))
    daemon.tell(ticked_at=time.time() - 30)
    ended = run("top", "--json", "--count", "2", "--interval", "500ms")
    assert (ended.status, ended.err) == (0, "")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line["kind"] == "top"
        assert 30 <= line["age_seconds"] < 60
        assert line["trouble"] is None
        assert line["status"] == daemon.status
    assert lines[0]["at"] < lines[1]["at"]


def test_for_programs_it_goes_on_without_the_daemon_and_says_so(terminal: Open, daemon: Daemon) -> None:
    opened = terminal("--json", width=500)
    opened.await_screen(lambda _: opened.sent.count('"trouble": null') >= 2)
    daemon.stop()
    opened.await_screen(lambda _: "overcommitd is not running. What is shown is" in opened.sent)
    assert "\x1b" not in opened.sent
    opened.press(b"\x03")
    assert opened.ended() == INTERRUPTED


def test_without_a_daemon_there_is_nothing_to_watch(run: Run) -> None:
    for options in ((), ("--json",)):
        ended = run("top", *options)
        assert (ended.status, ended.out) == (REFUSED, "")
        assert ended.err.splitlines() == [
            "error: overcommitd is not running: there is nothing to watch",
            "hint:  overcommitctl status",
        ]


@pytest.mark.parametrize(("option", "value"), [("--interval", "0.1"), ("--interval", "x"), ("--count", "0")])
def test_no_interval_of_nothing_and_no_count_of_none(run: Run, option: str, value: str) -> None:
    ended = run("top", option, value)
    assert (ended.status, ended.out) == (USAGE, "")
    assert option in ended.err
