"""Runs in the host VM: types a command into an interactive shell, tabs included, and prints what comes.

``python typist.py SHELL SECONDS KEYS``: a tab is pressed after each word of KEYS, which completes it, and
Return at the end.
"""

from __future__ import annotations

import os
import pty
import select
import sys
import time

#: How each shell is begun: without anybody's own settings, with the completions that packages have installed.
SHELLS = {
    "bash": (["bash", "--norc", "-i"], "source /usr/share/bash-completion/bash_completion\n"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit && compinit -u -D\n"),
    "fish": (["fish", "--private", "-i"], ""),
}
READY, TYPED = "ready to type", "echo ready' to 'type\n"
"""What is typed is shown as well, and must not be taken for what is said."""
#: What fish asks of a terminal before anything else, and what an ordinary one answers.
ASKED, ANSWER = (b"\x1b[c", b"\x1b[0c"), b"\x1b[?62;22c"


class Terminal:
    """A shell at the other end of a pseudo terminal."""

    def __init__(self, shell: list[str], seconds: float) -> None:
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.execvpe(shell[0], shell, {**os.environ, "TERM": "xterm", "LINES": "50", "COLUMNS": "200"})
        self._end = time.monotonic() + seconds
        self.seen = b""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    def read(self) -> bool:
        """Take what has come, for a second at most; whether the shell is still there."""
        if time.monotonic() > self._end:
            raise TimeoutError
        if not select.select([self._terminal], [], [], 1.0)[0]:
            return True
        try:
            came = os.read(self._terminal, 65536)
        except OSError:
            return False
        if any(asked in came for asked in ASKED):
            os.write(self._terminal, ANSWER)
        self.seen += came
        return bool(came)

    def await_words(self, words: str) -> None:
        """Wait until it has shown them."""
        already = len(self.seen)
        while words.encode() not in self.seen[already:] and self.read():
            pass


def main(name: str, seconds: float, keys: str) -> None:
    """Type, and print all that came."""
    shell, begin = SHELLS[name]
    terminal = Terminal(shell, seconds)
    try:
        terminal.type(begin)
        terminal.type(TYPED)
        terminal.await_words(READY)
        terminal.type("\t".join([*keys.split(" "), ""]) + "\n")
        terminal.type("exit\n")
        while terminal.read():
            pass
    except TimeoutError:
        print(f"{name} took too long")
    print(terminal.seen.decode(errors="replace"))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
