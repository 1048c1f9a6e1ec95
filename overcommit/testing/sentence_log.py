"""A log that keeps the sentences of events."""

from __future__ import annotations

from collections.abc import Callable

from overcommit.model.log_event import LogEvent


class SentenceLog:
    """`overcommit.model.log_event.Log` that hands each sentence on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def tell(self, event: LogEvent) -> None:
        """See `Log.tell`."""
        self._say(event.sentence)

    def tend(self) -> None:
        """Nothing is counted."""
