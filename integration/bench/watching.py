"""Runs in the host VM: watch processes as the product does, and say what that costs.

``python watching.py SECONDS TARGETS REGIONS SAMPLING``; the last three are lists with commas (SAMPLING in
milliseconds) of which all combinations are measured; one JSON line each. No guests: a target is a copy
of this process that holds memory and touches a part of it each second.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import json
import math
import mmap
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

from overcommit.clock import SystemClock
from overcommit.damon.access import TraceSource
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import Sentinel, monitor, monitor_intervals
from overcommit.damon.sysfs import DamonSysfs
from overcommit.damon.trace import EVENT_BYTES
from overcommit.damon.tree import Intervals, Kdamond, MonitoringAttributes, RegionLimits, Target
from overcommit.damon.worker import DamonWorker
from overcommit.host.kernel import Kernel, LocalKernel
from overcommit.host.memory import read_boot_id
from overcommit.model.ranges import Range, chop
from overcommit.records.journal import Journal
from overcommit.units import MIB, PAGE_SIZE

MEMORY, TOUCHED = 128 * MIB, 8 * MIB
LOOK_SECONDS = 2.0
LEAST_SNAPSHOTS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The cost of one snapshot of one target, on average.

    The kdamond's is what it spent beyond its share; less than nothing where others took the CPU from it.
    """

    regions: float
    program_ms: float
    worker_ms: float
    kdamond_ms: float
    wall_ms: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One combination: shares of time of a target's kdamond on its CPU and in the queue for it, unasked.

    An emulated CPU's time goes by while others have the real one: ``loop_ms`` tells how much it was worth.
    """

    targets: int
    loop_ms: float
    kdamond_share: float
    queued_share: float
    snapshots: dict[str, Snapshot]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What is being watched, and by what."""

    pool: DamonPool
    worker: DamonWorker
    slots: Sequence[int]
    intervals: Intervals


Source = Callable[[Stage], AbstractContextManager[Callable[[], list[int]]]]
"""A way to snapshots: while it is open, each call takes one of every slot at least; their regions."""


@contextmanager
def from_trace(stage: Stage) -> Iterator[Callable[[], list[int]]]:
    """What the product does where it can: wait until each has had a window, looking now and then."""
    trace = stage.pool.trace(EVENT_BYTES * 1024 * 2 * len(stage.slots))
    assert trace is not None, "no tracing here"
    source = TraceSource(stage.pool, SystemClock(), trace, regions=1024 * len(stage.slots))
    for slot in stage.slots:
        source.begin(slot, stage.intervals)

    def take() -> list[int]:
        regions: list[int] = []
        left = set(stage.slots)
        while left:
            time.sleep(LOOK_SECONDS)
            for slot in stage.slots:
                windows = source.windows(slot)
                regions += [len(window.regions) for window in windows]
                left -= {slot} if windows else set()
        return regions

    yield take
    trace.close()


@contextmanager
def from_sysfs(stage: Stage) -> Iterator[Callable[[], list[int]]]:
    """What the product does elsewhere."""
    sysfs = DamonSysfs(stage.worker)
    yield lambda: [len(sysfs.access_snapshot(slot)) for slot in stage.slots]


SOURCES: dict[str, Source] = {"tracepoint": from_trace, "sysfs": from_sysfs}


def loop_ms() -> float:
    """How long this machine takes for a loop that does nothing: the best of five."""
    times = []
    for _ in range(5):
        before = time.process_time()
        for _ in range(300_000):
            pass
        times.append(time.process_time() - before)
    return 1000 * min(times)


def start_targets(count: int) -> tuple[list[int], Range]:
    """Processes that hold memory, at the same address in each."""
    memory = mmap.mmap(-1, MEMORY, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    there, ready = os.pipe()
    pids = []
    for _ in range(count):
        if (pid := os.fork()) == 0:
            _hold(memory, ready)
        pids.append(pid)
        os.read(there, 1)
    return pids, Range(address, address + MEMORY)


def _hold(memory: mmap.mmap, ready: int) -> NoReturn:
    try:
        memory[::PAGE_SIZE] = bytes(MEMORY // PAGE_SIZE)
        os.write(ready, b"!")
        while True:
            memory[:TOUCHED:PAGE_SIZE] = bytes(TOUCHED // PAGE_SIZE)
            time.sleep(1)
    finally:
        os._exit(1)


def watcher(pid: int, memory: Range, regions: int, intervals: Intervals, sentinel: Sentinel) -> Kdamond:
    """The product's monitor, but with so many regions all the time: none can be merged, and none is split."""
    (context,) = monitor(Target.of(pid, (memory,)), sentinel).contexts
    pieces = tuple(chop((memory,), memory.size // regions // PAGE_SIZE * PAGE_SIZE))
    context = dataclasses.replace(
        context,
        attributes=MonitoringAttributes(
            intervals=intervals,
            regions=RegionLimits(minimum=len(pieces), maximum=len(pieces) + 1),
        ),
        targets=(Target.of(pid, pieces), sentinel.target),
        schemes=(dataclasses.replace(context.schemes[0], apply_seconds=2 * intervals.sample_seconds),),
    )
    return Kdamond(contexts=(context,))


class _Meter:
    """Seconds since it was made."""

    def __init__(self, kernel: Kernel, worker: int, kdamonds: Sequence[int]) -> None:
        self._kernel, self._worker, self._kdamonds = kernel, worker, kdamonds
        self._before = self._now()

    def read(self) -> tuple[float, ...]:
        """This program on a CPU, its worker, the kdamonds together; those in the queue; by the clock."""
        return tuple(now - before for now, before in zip(self._now(), self._before, strict=True))

    def _now(self) -> tuple[float, ...]:
        worker, _ = self._scheduled(self._worker)
        kdamonds, queued = map(sum, zip(*map(self._scheduled, self._kdamonds), strict=True))
        return time.process_time(), worker, kdamonds, queued, time.monotonic()

    def _scheduled(self, pid: int) -> tuple[float, float]:
        """On a CPU and in the queue for one; in nanoseconds there, where ``stat`` counts ticks of 10 ms."""
        running, queued, _ = self._kernel.read(f"/proc/{pid}/schedstat").split()
        return int(running) / 1e9, int(queued) / 1e9


def measure(stage: Stage, seconds: float) -> Row:
    """Let the kdamonds of the slots run for a while with nobody looking, then take snapshots of them."""
    kernel, worker, slots = LocalKernel(), stage.worker, stage.slots
    kdamonds = [stage.pool.sysfs.kdamond_pid(slot) for slot in slots]
    meter = _Meter(kernel, worker.pid, kdamonds)
    time.sleep(seconds)
    _, _, busy, queued, took = meter.read()
    share, loop, snapshots = busy / took, loop_ms(), {}
    for name, source in SOURCES.items():
        with source(stage) as take:
            rounds = math.ceil(LEAST_SNAPSHOTS / len(slots))
            meter = _Meter(kernel, worker.pid, kdamonds)
            seen = [regions for _ in range(rounds) for regions in take()]
            program, working, busy, _, wall = meter.read()
        count = len(seen)
        snapshots[name] = Snapshot(
            regions=sum(seen) / count,
            program_ms=1000 * program / count,
            worker_ms=1000 * working / count,
            kdamond_ms=1000 * (busy - share * wall) / count,
            wall_ms=1000 * wall / count,
        )
    return Row(
        targets=len(slots),
        loop_ms=loop,
        kdamond_share=share / len(slots),
        queued_share=queued / took / len(slots),
        snapshots=snapshots,
    )


def main(seconds: float, targets: list[int], regions: list[int], sampling_ms: list[int]) -> None:
    """Print a line per combination."""
    pids, memory = start_targets(max(targets))
    # Only snapshots go through the worker: to write thousands of regions' addresses so takes minutes.
    worker, kernel = DamonWorker(LocalKernel()), LocalKernel()
    journal = Journal(Path(tempfile.mkdtemp()))
    journal.lock()
    generation = journal.begin("bench", boot_id=read_boot_id(kernel), started_at=SystemClock().now())
    sentinel = Sentinel()
    try:
        with DamonPool(kernel, journal, generation) as pool:
            pool.acquire(len(pids), take_over=True)
            for each, sampling in itertools.product(regions, sampling_ms):
                running, intervals = 0, monitor_intervals(sampling / 1000)
                for count in sorted(targets):
                    for slot in range(running, count):
                        pool.start(slot, watcher(pids[slot], memory, each, intervals, sentinel))
                    running = count
                    stage = Stage(pool=pool, worker=worker, slots=range(count), intervals=intervals)
                    row = measure(stage, seconds)
                    line = {"regions": each, "sampling_ms": sampling, **dataclasses.asdict(row)}
                    print(json.dumps(line), flush=True)
                for slot in range(running):
                    pool.stop(slot)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    journal.unlock()


if __name__ == "__main__":
    main(float(sys.argv[1]), *([int(word) for word in words.split(",")] for words in sys.argv[2:5]))
