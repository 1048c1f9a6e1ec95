"""Writes data to stdout; progress, warnings and errors to stderr.

Colours and control codes go to a terminal only, and not if NO_COLOR is set or ``--no-color`` is given.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click

from overcommit.cli.invoked import completed
from overcommit.cli.tables import Block, Line, drawn, plain_lines
from overcommit.clock import SystemClock
from overcommit.display import plain
from overcommit.model.log_event import LogEvent
from overcommit.model.moments import Monotonic

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_QUIET_REPEAT_SECONDS = 10.0
_monotonic = SystemClock().monotonic


def styled(stream: TextIO) -> bool:
    """Whether colours and control codes may be written there."""
    refused = os.environ.get("NO_COLOR") or "--no-color" in sys.argv or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not refused


def tell(block: Block) -> None:
    """Write a block of text to stdout, its commands completed. JSON is written elsewhere."""
    if isinstance(block, str):
        block = completed(block)
    elif isinstance(block, Line):
        block = dataclasses.replace(block, text=completed(block.text))
    _write(sys.stdout, block)


def _write(stream: TextIO, block: Block) -> None:
    if styled(stream):
        console = _console(stream)
        for line in drawn(block, console.width):
            console.print(line, soft_wrap=True)
    elif isinstance(block, str) or (isinstance(block, Line) and not (block.prose and stream.isatty())):
        click.echo(plain(block if isinstance(block, str) else block.text), file=stream)
    else:
        width = _console(stream).width if stream.isatty() else None
        for text in plain_lines((block,), width):
            click.echo(text, file=stream)


def _console(stream: TextIO) -> Console:
    """A rich console that neither guesses what a text means nor reads markup in it."""
    from rich.console import Console

    coloured = styled(stream)
    return Console(
        file=stream,
        force_terminal=coloured,
        color_system="auto" if coloured else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


class MessageConsole:
    """Progress as one line that updates on a terminal, and as an occasional line elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live: Live | None = None
        self._said_at = Monotonic(0.0)
        self._said = ""

    def tell(self, event: LogEvent) -> None:
        """See `overcommit.model.log_event.Log.tell`."""
        self.say(event.sentence)

    def tend(self) -> None:
        """See `overcommit.model.log_event.Log.tend`. A verb is too short to count repeated events."""

    def say(self, sentence: str) -> None:
        """A step has started or ended."""
        if not self._quiet:
            self.done()
            _write(sys.stderr, completed(sentence))

    def progress(self, sentence: str) -> None:
        """The state of the current step. Only the latest matters."""
        if self._quiet:
            return
        sentence = plain(sentence)
        if styled(sys.stderr):
            self._update(sentence)
        elif _monotonic() - self._said_at >= _QUIET_REPEAT_SECONDS and sentence != self._said:
            click.echo(sentence, err=True)
            self._said_at, self._said = _monotonic(), sentence

    def done(self) -> None:
        """The current step is over. Its progress line is removed."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _update(self, sentence: str) -> None:
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            # It draws only when it is told: a thread of its own would be there when a worker is forked.
            self._live = Live(
                console=_console(sys.stderr),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(Text(sentence, no_wrap=True, overflow="ellipsis"), refresh=True)


def fail(lines: Sequence[str], hint: str | None) -> None:
    """Write an error: a line (or one for each fault of a policy) and a hint."""
    label = "error:"
    for line in lines:
        _write(sys.stderr, Line(f"{label} {line}", "red", len(label)))
    if hint:
        _write(sys.stderr, f"hint:  {completed(hint)}")
