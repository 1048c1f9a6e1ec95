"""Where windows come from: the tracepoint where the kernel lets us have it, else snapshots by sysfs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from overcommit.clock import Clock
from overcommit.damon.pool import DamonPool
from overcommit.damon.trace import EVENT_BYTES, LINE_BYTES, AccessTrace, WindowAssembler
from overcommit.damon.tree import Intervals
from overcommit.errors import HostError
from overcommit.model.heat import Window
from overcommit.units import MIB

_SILENT_WINDOWS = 3
"""A kdamond that has not been heard of for so many windows is asked whether it is on."""
_MOST_WINDOWS = 8
"""A look takes in so many windows of all at most, more than come in a tick of 5 s.

A host that brings more is too busy to look at each.
"""
_AT_A_TIME = MIB
"""So much text of them is in memory, at most."""
_OTHERS = 1024
"""Regions of the host's monitor, and sentinels."""
_FIRST_WINDOW = 1.25
"""A first window is given that many times its length: sampling itself takes time too."""


class AccessSource(Protocol):
    """Hands out what the kdamonds of a pool see.

    ``what`` names it for people; ``follows_tuning``: it knows how long each window was, so that the kernel
    may tune the intervals.
    """

    what: str
    follows_tuning: bool

    @property
    def threads(self) -> tuple[int, ...]:
        """Of the kdamonds that it reads from; none where it does not need to know them."""
        ...

    def begin(self, slot: int, intervals: Intervals) -> None:
        """The slot's kdamond has just been started."""
        ...

    def end(self, slot: int) -> None:
        """It is being stopped."""
        ...

    def collect(self) -> None:
        """Take in what has come for all slots, where that is one thing; to be called before `windows`."""
        ...

    def windows(self, slot: int) -> Sequence[Window]:
        """What was collected since the last call, oldest first; often nothing.

        Raises:
            HostError: the kdamond ended, or the kernel refused.
            Conflict: another tool has the slot.
        """
        ...


def open_source(pool: DamonPool, clock: Clock, regions: Sequence[int]) -> AccessSource:
    """The best source for monitors with at most so many regions each."""
    trace = pool.trace(_buffer_bytes(regions))
    if trace is None:
        return SnapshotSource(pool, clock)
    return TraceSource(pool, clock, trace, regions=sum(regions))


def _buffer_bytes(regions: Sequence[int]) -> int:
    """For each CPU: two windows of the largest monitor, and four times its share of a window of all.

    A kdamond may run anywhere, and several on one CPU. What does not fit is lost, noticed and made up for.
    """
    share = 4 * sum(regions) // (os.cpu_count() or 1)
    return min(EVENT_BYTES * max(2 * max(regions), share), 4 * MIB)


class TraceSource:
    """Every window, as it ends."""

    what = "tracepoint"
    follows_tuning = True

    def __init__(self, pool: DamonPool, clock: Clock, trace: AccessTrace, *, regions: int) -> None:
        """``regions``: how many all monitors may have together."""
        self._pool = pool
        self._clock = clock
        self._trace = trace
        self._most_bytes = _MOST_WINDOWS * LINE_BYTES * (regions + _OTHERS)
        self._assembler = WindowAssembler()
        self._threads: dict[int, int] = {}
        self._ready: dict[int, list[Window]] = {}
        self._silent_until: dict[int, float] = {}

    @property
    def threads(self) -> tuple[int, ...]:
        """See `AccessSource.threads`."""
        return tuple(self._threads.values())

    def begin(self, slot: int, intervals: Intervals) -> None:
        """See `AccessSource.begin`."""
        thread, now = self._pool.sysfs.kdamond_pid(slot), self._clock.monotonic()
        self._threads[slot] = thread
        self._ready[thread] = []
        self._assembler.begin(thread, now, seconds=intervals.aggregation_seconds)
        self._expect(slot, now, intervals.aggregation_seconds)

    def end(self, slot: int) -> None:
        """See `AccessSource.end`."""
        thread = self._threads.pop(slot)
        self._ready.pop(thread, None)
        self._assembler.end(thread)

    def collect(self) -> None:
        """See `AccessSource.collect`."""
        left = self._most_bytes
        while left > 0:
            text = self._trace.read(min(left, _AT_A_TIME))
            for thread, window in self._assembler.feed(text):
                self._ready[thread].append(window)
            if len(text) < _AT_A_TIME:
                break
            left -= len(text)

    def windows(self, slot: int) -> Sequence[Window]:
        """See `AccessSource.windows`."""
        thread, now = self._threads[slot], self._clock.monotonic()
        ready, self._ready[thread] = self._ready[thread], []
        if ready:
            self._expect(slot, now, ready[-1].seconds)
        elif now > self._silent_until[slot]:
            self._pool.require((slot,))
            if not self._pool.sysfs.running(slot):
                raise HostError(f"kdamond {slot} ended")
            self._expect(slot, now, 0.0)
        return ready

    def _expect(self, slot: int, now: float, seconds: float) -> None:
        # What tuning may double between two windows is four times as long after three.
        self._silent_until[slot] = now + _SILENT_WINDOWS * max(2 * seconds, 4.0)


class SnapshotSource:
    """One snapshot for each aggregation, by sysfs."""

    what = "sysfs"
    follows_tuning = False
    threads: tuple[int, ...] = ()

    def __init__(self, pool: DamonPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._seconds: dict[int, float] = {}
        self._due: dict[int, float] = {}

    def begin(self, slot: int, intervals: Intervals) -> None:
        """See `AccessSource.begin`."""
        self._seconds[slot] = intervals.aggregation_seconds
        self._due[slot] = self._clock.monotonic() + _FIRST_WINDOW * intervals.aggregation_seconds

    def end(self, slot: int) -> None:
        """See `AccessSource.end`."""
        del self._seconds[slot], self._due[slot]

    def collect(self) -> None:
        """See `AccessSource.collect`: each slot is asked by itself."""

    def windows(self, slot: int) -> Sequence[Window]:
        """See `AccessSource.windows`: the latest aggregation, once it is another one."""
        if self._clock.monotonic() < self._due[slot]:
            return ()
        regions = self._pool.access_snapshot(slot)
        now = self._clock.monotonic()
        self._due[slot] = now + self._seconds[slot]
        return (Window(now, self._seconds[slot], regions),)
