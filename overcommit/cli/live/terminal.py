"""The terminal while a view fills it. Keys are read one by one. At the end its former state is restored.

Signals are noted, and handled where the program waits, so that none interrupts a change of the terminal's
state.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from overcommit.cli.live.keys import Key, keys_of
from overcommit.cli.live.screen import Row, Size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

ENDINGS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_NOTED = (*ENDINGS, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
_USUAL = Size(80, 24)
"""The size that is assumed for terminals that do not report one."""
_REST_OF_A_KEY_SECONDS = 0.05
_WOKEN = b"\0"
"""A byte that is no signal's number."""
_IFLAG, _LFLAG, _CC = 0, 3, 6
"""Indices of input modes, local modes and control characters in the result of tcgetattr(3)."""


def can_be_filled(keyboard: TextIO, screen: TextIO) -> bool:
    """Whether a view can be shown there and controlled from there."""
    known = os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
    return keyboard.isatty() and screen.isatty() and known


class Happened(NamedTuple):
    """What ended a wait; all false: `Terminal.wake`, or the time is over.

    ``seen``: the screen must be drawn again. ``ended``: a signal asks to end, or the terminal is gone.
    """

    keys: tuple[Key, ...] = ()
    seen: bool = False
    ended: bool = False


class _Lines:
    """Rows for rich."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, _options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for row in self._rows:
            for text, style in row:
                yield Segment(text, console.get_style(style) if style else None)
            yield Segment.line()


class Terminal:
    """A context in which this program controls the terminal. ``coloured``: it may have colours."""

    def __init__(self, keyboard: TextIO, screen: TextIO, *, coloured: bool) -> None:
        from rich.console import Console

        self._keyboard = keyboard.fileno()
        self._screen = screen.fileno()
        self._console = Console(
            file=screen,
            force_terminal=True,
            color_system="auto" if coloured else "standard",
            no_color=not coloured,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live: Live | None = None
        self._settings: list[Any] | None = None
        self._ended_by: int | None = None
        self._begun = b""
        self._closing = contextlib.ExitStack()
        self._woken, self._wakes = os.pipe()

    def __enter__(self) -> Terminal:
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, self._woken)
            closing.callback(os.close, self._wakes)
            for end in (self._woken, self._wakes):
                os.set_blocking(end, False)
            closing.callback(
                signal.set_wakeup_fd, signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
            )
            for number in _NOTED:
                closing.callback(signal.signal, number, signal.signal(number, self._note))
            closing.callback(self._give_back)
            self._take()
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        """Python wakes the wait (set_wakeup_fd). A second request to end does not wait any more."""
        if number in ENDINGS:
            again, self._ended_by = self._ended_by is not None, number
            if again and self._live is not None:
                raise KeyboardInterrupt

    def _take(self) -> None:
        from rich.live import Live

        self._settings = termios.tcgetattr(self._keyboard)
        self._set_modes()
        live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live = live
        live.start()

    def _set_modes(self) -> None:
        """Read keys one by one without echo. Keys that send signals still do (termios(3): cbreak).

        Ctrl-S would stop all output, and with it this program, even when a signal tells it to end.
        """
        modes = termios.tcgetattr(self._keyboard)
        modes[_IFLAG] &= ~termios.IXON
        modes[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        modes[_CC] = [*modes[_CC]]
        modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(self._keyboard, termios.TCSADRAIN, modes)

    def _give_back(self) -> None:
        """Restore its state. A terminal that is gone is left alone."""
        live, self._live = self._live, None
        with contextlib.suppress(OSError, termios.error):
            try:
                if live is not None:
                    live.stop()
            finally:
                if self._settings is not None:
                    termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._settings)

    def _stop(self) -> None:
        """Stop as any program does. Afterwards the terminal's state is read again."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._note)
        self._take()

    def _continue(self) -> None:
        """Continue after SIGSTOP, which is not reported: a shell has set modes, and written to the screen.

        That screen is still the alternate one. To enter it again would overwrite the saved cursor position.
        """
        self._set_modes()
        self._console.show_cursor(False)

    def wake(self) -> None:
        """End the wait; for other threads."""
        with contextlib.suppress(OSError):  # it is full, or closed: who waits is woken already, or gone
            os.write(self._wakes, _WOKEN)

    def wait(self, seconds: float) -> Happened:
        """Wait for a key, another event, or the end of the time."""
        patience = min(seconds, _REST_OF_A_KEY_SECONDS) if self._begun else seconds
        ready, _, _ = select.select([self._keyboard, self._woken], [], [], max(0.0, patience))
        numbers = b""
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                numbers = os.read(self._woken, 4096)
            self._handle(numbers)
        if self._ended_by is not None:
            return Happened(ended=True)
        if self._keyboard in ready:
            try:
                sent = os.read(self._keyboard, 4096)
            except OSError:  # EIO: the terminal is gone
                sent = b""
            if not sent:
                return Happened(ended=True)
            keys, self._begun = keys_of(self._begun + sent, more=True)
        elif ready:
            keys = []
        else:
            keys, self._begun = keys_of(self._begun, more=False)
        return Happened(tuple(keys), seen=bool(keys) or any(numbers))

    def _handle(self, numbers: bytes) -> None:
        if signal.SIGTSTP in numbers:
            self._stop()
        elif signal.SIGCONT in numbers:
            self._continue()

    @property
    def size(self) -> Size:
        """Its present size."""
        width, height = os.get_terminal_size(self._screen)
        return Size(width, height) if width and height else _USUAL

    def draw(self, rows: Iterable[Row], size: Size) -> None:
        """Draw the whole screen."""
        from rich.console import ConsoleDimensions

        self._console.size = ConsoleDimensions(*size)
        if self._live is not None:
            self._live.update(_Lines(rows), refresh=True)
