"""What goes to stderr: progress, warnings, errors. Data goes to stdout and nowhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from overcommit.shown import plain

_QUIET_REPEAT_SECONDS = 10.0


def tell(line: str) -> None:
    """A line of text on stdout; what is for programs goes there by itself."""
    click.echo(plain(line))


class Talk:
    """Progress as one line that updates on a terminal, as a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._open = False
        self._said_at = 0.0
        self._said = ""

    def say(self, sentence: str) -> None:
        """A step that has begun or ended."""
        if not self._quiet:
            self._close_line()
            click.echo(plain(sentence), err=True)

    def progress(self, sentence: str) -> None:
        """Where the current step stands; only the latest matters."""
        if self._quiet:
            return
        sentence = plain(sentence)
        if self._terminal:
            click.echo(f"\r\x1b[K{sentence}", err=True, nl=False)
            self._open = True
        elif time.monotonic() - self._said_at >= _QUIET_REPEAT_SECONDS and sentence != self._said:
            click.echo(sentence, err=True)
            self._said_at, self._said = time.monotonic(), sentence

    def done(self) -> None:
        """The current step is over; wipe its progress."""
        self._close_line()

    def _close_line(self) -> None:
        if self._open:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._open = False


def fail(lines: Sequence[str], hint: str | None) -> None:
    """An error: a line (or one for each fault of a policy) and a hint."""
    for line in lines:
        click.echo(f"{click.style('error:', fg='red')} {plain(line)}", err=True)
    if hint:
        click.echo(f"hint:  {plain(hint)}", err=True)
