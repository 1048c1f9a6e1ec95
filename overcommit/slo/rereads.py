"""Detects a guest that reads dropped file cache again from its disks.

A guest does not report whether its cache is useful. But a guest with room keeps what it reads: its cache
grows by the same amount. What it reads in ten minutes beyond that replaced other cache. If that is much more
than when the guest had all of its memory, it reads again what was taken from it.

Then all memory is given back (`overcommit.plan.rungs.relief`), and nothing is taken from the guest for twice
as long as it had been without: in that time it uses its files again, and reads them into its cache. From then
on its cache must be unused for longer before it is taken. All of this expires within days.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_MINUTE, _DAY = 60.0, 86400.0
SPAN_SECONDS = 10 * _MINUTE
_USUAL_TIMES = 2.0
_LEAST_SHARE = 1 / 8
"""The part of the guest's reserve that it may always read, for example to start a program."""
_SHORTEST_LOOK = _MINUTE
_SHORTEST_REST, _LONGEST_REST = 10 * _MINUTE, 2 * _DAY
_LONGEST_NEED, _NEED_FADES = 7 * _DAY, 7 * _DAY
_WORTH_KEEPING = 1 << 24


class Reading(NamedTuple):
    """Bytes that a guest read from its disks, and by which its cache grew; None: could not be read."""

    read_bytes: int | None
    cache_grown_bytes: int | None

    @property
    def lost_bytes(self) -> float | None:
        """Read bytes that the cache could not keep.

        Negative where the cache grew by more, because its size is reported later than the reads.
        """
        if self.read_bytes is None or self.cache_grown_bytes is None:
            return None
        return float(self.read_bytes - max(0, self.cache_grown_bytes))


class Kept(NamedTuple):
    """The part that outlives the process; bytes and seconds."""

    usual_bytes: float = 0.0
    needed_seconds: float = 0.0
    rest_seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether the values are possible."""
        bounds = (math.inf, _LONGEST_NEED, _LONGEST_REST)
        return all(
            0.0 <= value <= most and math.isfinite(value) for value, most in zip(self, bounds, strict=True)
        )

    @property
    def worthwhile(self) -> bool:
        """Whether there is anything to keep."""
        return self.usual_bytes >= _WORTH_KEEPING or self.needed_seconds > 0 or self.rest_seconds > 0


NOTHING_KEPT = Kept()


class Rereads(NamedTuple):
    """The state of one guest. `after` returns the state of the next tick.

    ``reduced``: the guest has less than its full size, since ``since_seconds``; otherwise it has had all of
    it for so long. ``latest`` are the bytes not kept in the current span (``span_seconds``), ``before`` those
    of the ten minutes before it.
    """

    reduced: bool = False
    since_seconds: float = 0.0
    span_seconds: float = 0.0
    latest: float = 0.0
    before: float = 0.0
    hurts: bool = False
    kept: Kept = NOTHING_KEPT

    @classmethod
    def resume(cls, kept: Kept, *, seconds: float) -> Rereads:
        """The state from what was kept ``seconds`` ago."""
        return cls(kept=_faded(kept, max(0.0, seconds)))

    @property
    def lost_bytes(self) -> float:
        """Bytes not kept in the last ten minutes, or since the guest was made smaller, or whole again."""
        return max(0.0, self.latest + self.before * (1 - self.span_seconds / SPAN_SECONDS))

    def limit_bytes(self, reserve_bytes: int) -> float:
        """The bound of those bytes."""
        return max(_USUAL_TIMES * self.kept.usual_bytes, _LEAST_SHARE * reserve_bytes)

    def after(
        self, reading: Reading, seconds: float, *, reduced: bool, reserve_bytes: int, cache_after: float
    ) -> Rereads:
        """The state after one more tick. ``cache_after`` is the class's value in seconds."""
        now = self._replace(kept=_faded(self.kept, seconds))
        if reduced != now.reduced:
            now = _turned(now, reduced=reduced)
        now = now._replace(since_seconds=now.since_seconds + seconds)
        lost = reading.lost_bytes
        if lost is not None:
            now = _with(now, lost, seconds)
        hurts = reduced and now.lost_bytes > now.limit_bytes(reserve_bytes)
        if hurts and not self.hurts:
            return now._replace(hurts=True, kept=_chastened(now, cache_after))
        return now if hurts == now.hurts else now._replace(hurts=hurts)


NOTHING_REREAD = Rereads()


def _turned(was: Rereads, *, reduced: bool) -> Rereads:
    """Start a new count. Less than ten minutes with all memory is scaled to ten minutes."""
    kept = was.kept
    if reduced and _SHORTEST_LOOK <= was.since_seconds < SPAN_SECONDS:
        usual = was.lost_bytes * SPAN_SECONDS / was.since_seconds
        kept = kept._replace(usual_bytes=max(kept.usual_bytes, usual))
    return Rereads(reduced=reduced, kept=kept)


def _with(was: Rereads, lost: float, seconds: float) -> Rereads:
    if was.span_seconds + seconds <= SPAN_SECONDS:
        return was._replace(span_seconds=was.span_seconds + seconds, latest=was.latest + lost)
    kept = was.kept
    if not was.reduced:
        kept = kept._replace(usual_bytes=max(kept.usual_bytes, was.latest))
    share = min(1.0, SPAN_SECONDS / seconds)
    return was._replace(
        span_seconds=min(seconds, SPAN_SECONDS), latest=lost * share, before=was.latest, kept=kept
    )


def _chastened(was: Rereads, cache_after: float) -> Kept:
    """Require a longer idle time of the cache: the guest needed cache that was unused for ``cache_after``."""
    idle = was.since_seconds + max(
        was.kept.needed_seconds, cache_after if math.isfinite(cache_after) else 0.0
    )
    rest = min(_LONGEST_REST, max(_SHORTEST_REST, 2 * was.since_seconds))
    return was.kept._replace(
        needed_seconds=min(_LONGEST_NEED, 2 * idle), rest_seconds=max(was.kept.rest_seconds, rest)
    )


def _faded(kept: Kept, seconds: float) -> Kept:
    if kept == NOTHING_KEPT:
        return kept
    needed = kept.needed_seconds * math.exp(-seconds / _NEED_FADES)
    return Kept(
        usual_bytes=kept.usual_bytes * math.exp(-seconds / _DAY),
        needed_seconds=needed if needed >= _MINUTE else 0.0,
        rest_seconds=max(0.0, kept.rest_seconds - seconds),
    )
