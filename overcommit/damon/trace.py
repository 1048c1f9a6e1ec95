"""DAMON's tracepoint: every window of every monitor when it ends, without DAMON's global lock.

A snapshot by sysfs holds that lock until the kdamond answers, and takes three system calls per number. With
many monitors that is too slow. ``damon_aggregated`` (include/trace/events/damon.h, Linux 5.15) reports each
region when an aggregation ends, with exact counts. It goes to an own tracing instance, which other tracing
does not see (Documentation/trace/ftrace.rst, "Instances").
"""

from __future__ import annotations

import errno
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

from overcommit.errors import HostError, Unsupported
from overcommit.host.kernel import Kernel
from overcommit.model.heat import AccessRegion, Window
from overcommit.model.moments import Monotonic
from overcommit.units import KIB

TRACING = "/sys/kernel/tracing"
INSTANCES = f"{TRACING}/instances"
INSTANCE = f"{INSTANCES}/overcommit"
EVENT_BYTES = 80
"""Bytes of one region of one window in the ring buffer: header, event and padding."""
LINE_BYTES = 160
"""The most bytes of its line of text."""
_EVENT = "events/damon/damon_aggregated"
_SAYS = ": damon_aggregated: target_id=0 nr_regions="
"""``kdamond.0-162 [000] ..... 50.137218: damon_aggregated: target_id=0 nr_regions=16 4096-8192: 3 1``"""
_MOST_DIGITS = 10
"""A bound on the digits of a thread id, which is below 2^22."""
_NEW_REGION = functools.partial(tuple.__new__, AccessRegion)
"""A fast constructor. A large host brings thousands of regions a second."""


class AccessTrace:
    """A tracing instance of this program."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def offered(self) -> bool:
        """Whether this kernel can trace DAMON, and the instance's name is free."""
        return self._kernel.exists(f"{TRACING}/{_EVENT}") and not self._kernel.exists(INSTANCE)

    def open(self, buffer_bytes: int) -> None:
        """Make the instance, with a ring buffer of ``buffer_bytes`` per CPU.

        Raises:
            Unsupported: tracing is not available (for example in lockdown).
        """
        try:
            self._kernel.make_directory(INSTANCE)
            self._kernel.write(f"{INSTANCE}/buffer_size_kb", str(-(-buffer_bytes // KIB)))
            self._kernel.write(f"{INSTANCE}/trace_clock", "mono")  # the clock that Python's monotonic() reads
            self._kernel.write(f"{INSTANCE}/{_EVENT}/enable", "1")
        except OSError as error:
            raise Unsupported(f"the kernel refuses to trace DAMON: {error.strerror}") from error

    def read(self, most_bytes: int) -> str:
        """The text since the last call, at most ``most_bytes``.

        Where more arrives than is read, the ring buffer loses the rest.
        """
        return self._kernel.drain(f"{INSTANCE}/trace_pipe", most_bytes)

    def close(self) -> bool:
        """Remove the instance.

        Returns:
            Whether there was one.

        Raises:
            HostError: somebody has one of its files open.
        """
        try:
            self._kernel.remove_directory(INSTANCE)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise HostError(
                f"the tracing instance {INSTANCE} cannot be removed: {error.strerror}",
                hint="close its files in other programs; then: overcommitctl restore",
            ) from error
        return True


def _instant(head: str) -> Monotonic | None:
    """The time in the text before the event's name; None: malformed."""
    try:
        at = float(head[head.rfind(" ") :])
    except ValueError:
        return None
    return Monotonic(at) if math.isfinite(at) else None


class _Seen(NamedTuple):
    """The latest complete window of a kdamond."""

    ended_at: Monotonic
    seconds: float


class WindowAssembler:
    """Assembles the windows of several kdamonds from the trace's lines. Pure: the lines carry the time.

    Only the first target counts; the others are sentinels. A window with missing lines is dropped, with the
    time that it covered. The next window counts for no more than its usual length.
    """

    def __init__(self) -> None:
        self._latest: dict[int, _Seen] = {}
        self._regions: dict[int, list[AccessRegion]] = {}
        self._lost: set[int] = set()

    def begin(self, thread: int, at: Monotonic, *, seconds: float) -> None:
        """Expect a kdamond's first window, which begins at ``at`` and takes about ``seconds``."""
        self._latest[thread] = _Seen(at, seconds)
        self._regions[thread] = []
        self._lost.discard(thread)

    def end(self, thread: int) -> None:
        """Expect no more of this kdamond."""
        self._latest.pop(thread, None)
        self._regions.pop(thread, None)

    def feed(self, text: str) -> Iterator[tuple[int, Window]]:
        """The windows that these lines complete, each with its kdamond's thread id."""
        thread, before = None, ""
        for line in text.split("\n"):
            head, says, tail = line.partition(_SAYS)
            if not says:
                if " EVENTS]" in line and "[LOST " in line:
                    self._lose_all()
                continue
            who = head[: head.rfind("[")]
            if who != before:  # a window's lines mostly follow one another
                thread, before = self._thread_of(who), who
            if thread is None:
                continue
            try:
                count, addresses, accesses, _ = tail.split(" ")
                low, _, high = addresses.partition("-")
                start, end = int(low), int(high[:-1])
                region = _NEW_REGION((start, end, int(accesses)))
                complete = int(count)
            except ValueError:
                continue  # as good as lost
            if not start < end:
                continue
            regions = self._regions[thread]
            if regions and start < regions[-1][1]:
                regions.clear()  # the rest of the window before was lost
                self._lost.add(thread)
            regions.append(region)
            if len(regions) == complete:
                at = _instant(head)
                if at is None:
                    regions.clear()
                    self._lost.add(thread)
                else:
                    yield thread, self._complete(thread, at)

    def _thread_of(self, who: str) -> int | None:
        """The kdamond of lines that begin with ``who`` (``kdamond.0-162``); None: not one of the expected."""
        number = who.rpartition("-")[2].strip()
        thread = int(number) if number.isdecimal() and len(number) <= _MOST_DIGITS else None
        return thread if thread in self._regions else None

    def _lose_all(self) -> None:
        self._lost.update(self._regions)
        for incomplete in self._regions.values():
            incomplete.clear()

    def _complete(self, thread: int, at: Monotonic) -> Window:
        latest = self._latest[thread]
        since = at - latest.ended_at
        seconds = min(since, latest.seconds) if thread in self._lost else since
        window = Window(at, seconds, tuple(self._regions[thread]))
        self._lost.discard(thread)
        self._latest[thread] = _Seen(at, seconds)
        self._regions[thread] = []
        return window
