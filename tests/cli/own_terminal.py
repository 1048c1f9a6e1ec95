"""A real terminal with a shell that has one job: the program under test, which it stops and continues."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

_SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    for number in (1, 2):
        os.dup2(0, number)
    program = "from overcommit.cli.main import main; main()"
    os.execv(sys.executable, [sys.executable, "-c", program, *sys.argv[1:]])
print("runs", job, flush=True)
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        break
    os.tcsetpgrp(0, os.getpid())
    print("stopped", os.WSTOPSIG(status), flush=True)
    os.read(int(os.environ["CONTINUE"]), 1)
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_HOME = "\x1b[H"
LEFT = "\x1b[?1049l"
ENTERED = "\x1b[?1049h"
CURSOR_SHOWN = "\x1b[?25h"
_PATIENCE_SECONDS = 30.0


class OwnTerminal:
    """The program runs in it from the beginning; ``sent`` is all that it wrote."""

    def __init__(self, *arguments: str, width: int = 80, height: int = 24, **environment: str) -> None:
        self._ours, self.theirs = pty.openpty()
        self.resize(width, height)
        self.before = self.modes()
        released, self._release = os.pipe()
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _SHELL, *arguments],
            stdin=self.theirs,
            stdout=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm-256color", "CONTINUE": str(released), **environment},
            start_new_session=True,
            pass_fds=(released,),
            text=True,
        )
        os.close(released)
        self.sent = ""
        self.pid = int(self.told("runs"))

    def modes(self) -> list[Any]:
        """The settings of the terminal."""
        return termios.tcgetattr(self.theirs)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def go_on(self) -> None:
        """What ``fg`` does."""
        os.write(self._release, b"\n")

    def told(self, word: str) -> str:
        """What the shell says of its job; meanwhile the job may write."""
        assert self._shell.stdout is not None
        line = ""
        ends = time.monotonic() + _PATIENCE_SECONDS
        while not line and time.monotonic() < ends:
            self._read()
            if select.select([self._shell.stdout], [], [], 0.0)[0]:
                line = self._shell.stdout.readline()
        said, _, rest = line.partition(" ")
        assert said == word, (line, self.screen())
        return rest.strip()

    def ended(self) -> int:
        """The exit status."""
        status = int(self.told("ended"))
        self._read()
        return status

    def _read(self) -> None:
        while select.select([self._ours], [], [], 0.05)[0]:
            self.sent += os.read(self._ours, 1 << 16).decode(errors="replace")

    def screen(self) -> list[str]:
        """What was drawn last, without colours."""
        return _CONTROL.sub("", self.sent.rpartition(_HOME)[2]).replace("\r", "").split("\n")

    def await_screen(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """The first screen of which that holds."""
        ends = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < ends:
            self._read()
            if holds(self.screen()):
                return self.screen()
        raise AssertionError("\n".join(self.screen()))

    def await_line(self, beginning: str) -> list[str]:
        """The first screen that has a line that begins so."""
        return self.await_screen(lambda lines: any(line.startswith(beginning) for line in lines))

    def close(self) -> None:
        """End all that runs in it."""
        if self._shell.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            os.close(self._release)
            self._shell.wait()
        else:
            os.close(self._release)
        assert self._shell.stdout is not None
        self._shell.stdout.close()
        os.close(self._ours)
        os.close(self.theirs)
