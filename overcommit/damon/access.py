"""The source of windows: DAMON's tracepoint where the kernel allows it, otherwise snapshots by sysfs."""

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
from overcommit.model.moments import Monotonic
from overcommit.units import MIB

_SILENT_WINDOWS = 3
"""After this many windows without data, the kdamond's state is read."""
_MOST_WINDOWS = 8
"""One `collect` processes at most this many windows of all monitors, more than a tick of 5 s brings. On a
host that brings more, the rest is dropped.
"""
_AT_A_TIME = MIB
"""The most text of the trace in memory at a time."""
_OTHERS = 1024
"""Regions of the host's monitor, and of sentinels."""
_FIRST_WINDOW = 1.25
"""A first window may take this many times its length, because sampling itself takes time."""


class AccessSource(Protocol):
    """The windows of the kdamonds of a pool.

    ``what`` is the source's name for people. ``follows_tuning``: it knows the length of each window, so the
    kernel may tune the intervals.
    """

    what: str
    follows_tuning: bool

    @property
    def threads(self) -> tuple[int, ...]:
        """The thread ids of the kdamonds that it reads from; empty where it does not need them."""
        ...

    def begin(self, slot: int, intervals: Intervals) -> None:
        """Expect windows of the slot's kdamond, which has just been started."""
        ...

    def end(self, slot: int) -> None:
        """Expect no more of the slot's kdamond, which is being stopped."""
        ...

    def collect(self) -> None:
        """Read new data of all slots, where that is one operation. Call it before `windows`."""
        ...

    def windows(self, slot: int) -> Sequence[Window]:
        """The windows since the last call, oldest first; often none.

        Raises:
            HostError: the kdamond ended, or the kernel refused.
            Conflict: another tool has the slot.
        """
        ...


def open_source(pool: DamonPool, clock: Clock, regions: Sequence[int]) -> AccessSource:
    """The best source for monitors with at most these numbers of regions."""
    trace = pool.trace(_buffer_bytes(regions))
    if trace is None:
        return SnapshotSource(pool, clock)
    return TraceSource(pool, clock, trace, regions=sum(regions))


def _buffer_bytes(regions: Sequence[int]) -> int:
    """The ring buffer's bytes per CPU.

    Two windows of the largest monitor, and four times a CPU's share of one window of all monitors. A kdamond
    may run on any CPU, and several on one. Lost data is detected, and its window is dropped.
    """
    share = 4 * sum(regions) // (os.cpu_count() or 1)
    return min(EVENT_BYTES * max(2 * max(regions), share), 4 * MIB)


class TraceSource:
    """Every window when it ends, by the tracepoint."""

    what = "tracepoint"
    follows_tuning = True

    def __init__(self, pool: DamonPool, clock: Clock, trace: AccessTrace, *, regions: int) -> None:
        """``regions`` is the most that all monitors may have together."""
        self._pool = pool
        self._clock = clock
        self._trace = trace
        self._most_bytes = _MOST_WINDOWS * LINE_BYTES * (regions + _OTHERS)
        self._assembler = WindowAssembler()
        self._threads: dict[int, int] = {}
        self._ready: dict[int, list[Window]] = {}
        self._silent_until: dict[int, Monotonic] = {}

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

    def _expect(self, slot: int, now: Monotonic, seconds: float) -> None:
        # Tuning may double the interval with each window: after three windows it is four times as long.
        self._silent_until[slot] = now + _SILENT_WINDOWS * max(2 * seconds, 4.0)


class SnapshotSource:
    """One snapshot per aggregation, by sysfs."""

    what = "sysfs"
    follows_tuning = False
    threads: tuple[int, ...] = ()

    def __init__(self, pool: DamonPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._seconds: dict[int, float] = {}
        self._due: dict[int, Monotonic] = {}

    def begin(self, slot: int, intervals: Intervals) -> None:
        """See `AccessSource.begin`."""
        self._seconds[slot] = intervals.aggregation_seconds
        self._due[slot] = self._clock.monotonic() + _FIRST_WINDOW * intervals.aggregation_seconds

    def end(self, slot: int) -> None:
        """See `AccessSource.end`."""
        del self._seconds[slot], self._due[slot]

    def collect(self) -> None:
        """See `AccessSource.collect`. It does nothing: each slot is read by itself."""

    def windows(self, slot: int) -> Sequence[Window]:
        """See `AccessSource.windows`. It returns the latest aggregation if that is a new one."""
        if self._clock.monotonic() < self._due[slot]:
            return ()
        regions = self._pool.access_snapshot(slot)
        now = self._clock.monotonic()
        self._due[slot] = now + self._seconds[slot]
        return (Window(now, self._seconds[slot], regions),)
