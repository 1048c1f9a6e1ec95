"""What goes to stderr: progress, warnings, errors. Data goes to stdout and nowhere else."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

_QUIET_REPEAT_SECONDS = 10.0


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
            click.echo(sentence, err=True)

    def progress(self, sentence: str) -> None:
        """Where the current step stands; only the latest matters."""
        if self._quiet:
            return
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


def fail(message: str, hint: str | None, **style: Any) -> None:
    """An error: one line (or one per fault of a policy) plus a hint."""
    for line in message.splitlines():
        click.echo(f"{click.style('error:', fg='red', **style)} {line}", err=True)
    if hint:
        click.echo(f"hint:  {hint}", err=True)
