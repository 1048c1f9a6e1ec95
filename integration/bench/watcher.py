"""Runs in the host VM: watch one domain as the product does, and say now and then which memory it calls cold.

Without the product's worker process: a snapshot's CPU is that of reading and parsing it, all in one place.
``python watcher.py DOMAIN COLD_AFTER SECONDS EVERY``; one JSON line each, addresses in QEMU's address space.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from overcommit.classify import idle
from overcommit.clock import SystemClock
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import MONITOR_INTERVALS, Sentinel, monitor
from overcommit.damon.tree import Target
from overcommit.host.kernel import LocalKernel
from overcommit.host.memory import read_boot_id
from overcommit.hypervisor.libvirt_client import LibvirtClient
from overcommit.journal import Journal
from overcommit.observe.facts import observe


def main(name: str, cold_after: float, seconds: float, every: float) -> None:
    """Print until the time is over."""
    kernel, clock = LocalKernel(), SystemClock()
    snapshot = observe(kernel, LibvirtClient("qemu:///system", read_only=True), clock)
    domain = next(d for d in snapshot.domains if d.name == name)
    journal = Journal(Path(tempfile.mkdtemp()))
    journal.lock()
    generation = journal.begin("bench", boot_id=read_boot_id(kernel), started_at=clock.now())
    pid, window = domain.incarnation.pid, MONITOR_INTERVALS.aggregation_seconds
    with DamonPool(kernel, journal, generation) as pool:
        pool.claim(1, take_over=True)
        pool.start(0, monitor(Target.of(pid, domain.ram), Sentinel()))
        thread = pool.sysfs.kdamond_pid(0)
        seen = idle.begin(domain.ram, clock.monotonic())
        end, say_at = time.monotonic() + seconds, time.monotonic()
        own_cpu, regions = 0.0, 0
        while time.monotonic() < end:
            time.sleep(window)
            before = time.process_time()
            accessed = pool.sysfs.access_snapshot(0)
            seen = idle.update(seen, accessed, clock.monotonic(), window=window)
            own_cpu, regions = time.process_time() - before, len(accessed)
            if time.monotonic() < say_at:
                continue
            say_at = time.monotonic() + every
            statistics = kernel.read(f"/proc/{thread}/stat").rpartition(")")[2].split()
            heat = idle.classify(seen, kernel.residency(pid, domain.ram).resident, cold_after=cold_after)
            line = {
                "ram": domain.ram,
                "window_seconds": seen.window_seconds,
                "cold": [piece[:2] for piece in heat.cold_pieces],
                "hot_bytes": heat.hot_bytes,
                "regions": regions,
                "snapshot_cpu_seconds": own_cpu,
                "kdamond_cpu_seconds": (int(statistics[11]) + int(statistics[12])) / 100,
            }
            print(json.dumps(line), flush=True)
    journal.unlock()


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:5]))
