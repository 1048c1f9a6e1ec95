"""The log of the daemon: a repeated event is logged once, then counted, and logged with its count."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from overcommit.daemon.journald import Writer
from overcommit.model import events
from overcommit.model.log_event import Field, LogEvent
from overcommit.model.moments import Monotonic
from overcommit.plan.main_job import briefly
from overcommit.units import format_duration

RESTATED_SECONDS = 3600.0
"""An event that still repeats after this time is logged once more, with its count."""
OVER_SECONDS = 600.0
"""An event that has not repeated for this time is over: its count is logged, and the next one is new."""
_MOST_KEPT = 1000

_Key = tuple[str, ...]


@dataclass(slots=True)
class _Repeated:
    """``latest`` came at ``at``, the ``count``-th since one was logged at ``told_at`` (monotonic seconds)."""

    latest: LogEvent
    told_at: Monotonic
    at: Monotonic
    count: int = 0


class EventLog:
    """Takes events from any thread. Never waits for readers of the log."""

    def __init__(self, write: Writer, monotonic: Callable[[], Monotonic]) -> None:
        self._write_out = write
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._repeated: dict[_Key, _Repeated] = {}
        self._lost = 0

    def tell(self, event: LogEvent) -> None:
        """Log an event, or count it if an event that differs only in its figures was logged recently."""
        with self._lock:
            now = self._monotonic()
            self._end_what_is_over(now)
            if not event.kind.once:
                self._write(event)
                return
            key = _key(event)
            known = self._repeated.get(key)
            if known is None:
                self._write(event)
                self._keep(key, _Repeated(event, told_at=now, at=now))
                return
            known.latest, known.at, known.count = event, now, known.count + 1
            if now - known.told_at >= RESTATED_SECONDS:
                self._tell_count(known)
                known.told_at, known.count = now, 0

    def tend(self) -> None:
        """Log the counts of events that are over. Call it regularly."""
        with self._lock:
            self._end_what_is_over(self._monotonic())

    def close(self) -> None:
        """Log all counts that were not logged yet. No event may follow."""
        with self._lock:
            self._end_what_is_over(Monotonic(math.inf))

    def _end_what_is_over(self, now: Monotonic) -> None:
        over = [key for key, known in self._repeated.items() if now - known.at >= OVER_SECONDS]
        for known in sorted((self._repeated.pop(key) for key in over), key=lambda each: each.at):
            self._tell_count(known)

    def _tell_count(self, known: _Repeated) -> None:
        if known.count:
            within = format_duration(max(1.0, known.at - known.told_at))
            self._write(known.latest.counted(known.count, within))

    def _keep(self, key: _Key, repeated: _Repeated) -> None:
        if len(self._repeated) >= _MOST_KEPT:
            self._tell_count(
                self._repeated.pop(min(self._repeated, key=lambda each: self._repeated[each].at))
            )
        self._repeated[key] = repeated

    def _write(self, event: LogEvent) -> None:
        if self._lost and self._write_out(events.log_lost(self._lost)):
            self._lost = 0
        if not self._write_out(event):
            self._lost += 1


def _key(event: LogEvent) -> _Key:
    """What distinguishes events. Figures do not, because they differ each time."""
    about = (str(event.fields.get(name, "")) for name in (Field.DOMAIN, Field.DOMAIN_UUID, Field.MECHANISM))
    return event.kind.name, *about, re.sub(r"\.\.\.( \.\.\.)+", "...", briefly(event.sentence))
