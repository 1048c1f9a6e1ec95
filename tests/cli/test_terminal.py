"""Colours and progress: for a terminal only, and for none that refuses them."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from overcommit.cli.console import MessageConsole, fail, tell
from overcommit.cli.tables import Line, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In place of stdout and stderr, which pytest puts back between a fixture and its test."""
    shown = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, shown)
    monkeypatch.setattr(sys, "argv", ["overcommitctl", "doctor"])
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return shown


def speak() -> None:
    tell(Line("ok       memory: 2 GiB", "green", 2))
    tell(table(("domain", "size"), [("[red]x[/red]", "1 B")]))
    fail(["it broke"], "mend it")
    speaking = MessageConsole(quiet=False)
    speaking.progress("half")
    speaking.done()


def test_a_terminal_gets_colours_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    speak()
    shown = terminal.getvalue()
    assert "\x1b[32mok\x1b[0m       memory: 2 GiB\n" in shown
    assert "\x1b[31merror:\x1b[0m it broke\n" in shown
    assert "[red]x[/red]" in shown
    assert "half" in shown
    assert shown.endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[?25h" in shown, "the cursor is back"


@pytest.mark.parametrize("refused", ["NO_COLOR", "--no-color", "dumb"])
def test_a_terminal_that_refuses_colours_gets_no_control_code(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    terminal = at_terminal(monkeypatch)
    if refused == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    elif refused == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(sys, "argv", ["overcommitctl", "doctor", "--no-color"])
    speak()
    assert "\x1b" not in terminal.getvalue()
    assert "ok       memory: 2 GiB\n" in terminal.getvalue()
    assert "half\n" in terminal.getvalue()


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"])
def test_a_pipe_gets_no_control_code_whatever_is_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    speak()
    ended = capsys.readouterr()
    assert "\x1b" not in ended.out + ended.err
    assert "connecting" not in ended.err


def test_a_progress_that_something_else_follows_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    speaking = MessageConsole(quiet=False)
    speaking.progress("half")
    speaking.say("done")
    assert "\x1b[?25h" in terminal.getvalue()
    assert terminal.getvalue().endswith("done\n")


def loaded(code: str) -> set[str]:
    """The packages that are there when a Python has run the code."""
    said = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*{{m.partition('.')[0] for m in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stdout.splitlines()[-1].split())


def test_help_does_not_wait_for_rich() -> None:
    asked = "sys.argv = ['overcommitctl', 'plan', '--help']\nfrom overcommit.cli.main import main"
    ran = f"{asked}\ntry:\n    main()\nexcept SystemExit:\n    pass"
    assert "rich" not in loaded(ran)
    assert "rich" in loaded("import rich.console"), "it would be seen"


def test_the_daemon_never_loads_rich() -> None:
    assert "rich" not in loaded(
        "import overcommit.daemon.main, overcommit.daemon.service, overcommit.daemon.loop"
    )


def test_on_a_real_terminal_a_verb_speaks_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    try:
        ran = subprocess.run(
            [sys.executable, "-c", "from overcommit.cli.main import main; main()", "plam"], stderr=theirs
        )
        assert ran.returncode == 64
        assert b"\x1b[31merror:\x1b[0m No such command" in os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
