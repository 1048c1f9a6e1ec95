"""The latest status document of overcommitd.

The view never waits for overcommitd, and shows the document's age.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from overcommit.cli import status_text
from overcommit.cli.live.recent import Recent
from overcommit.errors import HostError, OvercommitError
from overcommit.model.moments import Monotonic, Wall
from overcommit.units import format_duration
from overcommit.wire.client import find_daemon
from overcommit.wire.protocol import Verb

_ANSWER_SECONDS = 20.0
"""The timeout of one request. After that another one is made."""
_PATIENCE_SECONDS = 3.0
"""After this time without an answer the view says so."""


def ask_daemon() -> dict[str, Any]:
    """The status document of the overcommitd on this host.

    Raises:
        HostError: it does not run, or does not answer.
        OvercommitError: it answered with an error.
    """
    daemon = find_daemon()
    if daemon is None:
        raise HostError("overcommitd is not running", hint="systemctl start overcommitd")
    return daemon.ask(Verb.STATUS, seconds=_ANSWER_SECONDS)


class Latest:
    """Asks in a thread, one request at a time. ``answered`` is called there when an answer has come."""

    def __init__(
        self,
        recent: Recent,
        ask: Callable[[], dict[str, Any]] = ask_daemon,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self.recent = recent
        self.seen: Mapping[str, Any] | None = None
        self.error: OvercommitError | None = None
        """Why there was no answer the last time; None: there was."""
        self._ask = ask
        self._answered = answered
        self._asked_at: Monotonic | None = None
        self._silent_since: Monotonic | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | OvercommitError] = queue.SimpleQueue()
        self._recorded: tuple[int | None, int | None] | None = None

    def ask(self, at: Monotonic) -> None:
        """Ask, unless a request is waiting for its answer."""
        if self._asked_at is None:
            self._asked_at = at
            if self._silent_since is None:
                self._silent_since = at
            threading.Thread(target=self._run, name="ask", daemon=True).start()

    @property
    def waiting(self) -> bool:
        """Whether a request is waiting for its answer."""
        return self._asked_at is not None

    def _run(self) -> None:
        try:
            self._answers.put(self._ask())
        except OvercommitError as error:
            self._answers.put(error)
        except Exception as error:  # noqa: BLE001 - the view goes on, and shows it
            self._answers.put(HostError(f"asking overcommitd failed: {type(error).__name__}: {error}"))
        self._answered()

    def take(self, at: Monotonic, *, seconds: float | None = 0.0) -> bool:
        """Take the answer, waiting at most ``seconds`` for it (None: without a limit).

        Returns:
            Whether it came.
        """
        try:
            answer = self._answers.get(block=seconds != 0.0, timeout=seconds)
        except queue.Empty:
            return False
        self._asked_at = None
        if isinstance(answer, OvercommitError):
            self.error = answer
            return True
        self.seen, self.error, self._silent_since = answer, None, None
        tick = answer["pid"], answer["tick"]
        if tick != self._recorded:  # a loop that hangs shows the same for ever, which is nothing new
            self.recent.record(answer["domains"], at)
            self._recorded = tick
        return True

    def trouble(self, at: Monotonic, now: Wall) -> str | None:
        """Why the known document is not up to date; None: it is."""
        if self._silent_since is not None and at - (self._asked_at or at) > _PATIENCE_SECONDS:
            why = f"overcommitd has not answered for {format_duration(round(at - self._silent_since))}"
        elif self.error is not None:
            why = str(self.error)
        else:
            return None
        if self.seen is None:
            return why
        age = format_duration(round(status_text.age_of(self.seen, now)))
        return f"{why}. What is shown is {age} old"
