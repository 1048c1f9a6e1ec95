"""Runs in the host VM: watch one domain as the product does, and say now and then which memory it calls cold.

Without the product's worker process: the CPU of a look is all in one place.
``python watcher.py DOMAIN COLD_AFTER SECONDS EVERY SOURCE``; one JSON line each, addresses in QEMU's address
space.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from overcommit.classify import idle
from overcommit.clock import SystemClock
from overcommit.damon.access import SnapshotSource, open_source
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import monitor_limits
from overcommit.host.kernel import LocalKernel
from overcommit.host.memory import read_boot_id
from overcommit.hypervisor.libvirt_client import LibvirtClient
from overcommit.observe.facts import observe
from overcommit.observe.watch import Watch
from overcommit.records.journal import Journal


def main(name: str, cold_after: float, seconds: float, every: float, source: str) -> None:
    """Print until the time is over."""
    kernel, clock = LocalKernel(), SystemClock()
    hypervisor = LibvirtClient("qemu:///system", read_only=True)
    domain = next(d for d in observe(kernel, hypervisor, clock).domains if d.name == name)
    journal = Journal(Path(tempfile.mkdtemp()))
    journal.lock()
    generation = journal.begin("bench", boot_id=read_boot_id(kernel), started_at=clock.now())
    uuid, pid = domain.incarnation.uuid, domain.incarnation.pid
    with DamonPool(kernel, journal, generation) as pool:
        pool.acquire(1, take_over=True)
        regions = [monitor_limits(domain.ram).maximum]
        chosen = SnapshotSource(pool, clock) if source == "sysfs" else open_source(pool, clock, regions)
        watch = Watch(kernel, hypervisor, pool, clock, chosen)
        watch.add(0, domain)
        end, say_at = time.monotonic() + seconds, time.monotonic()
        looked, threads = 0.0, {pool.sysfs.kdamond_pid(0): 0.0}
        while time.monotonic() < end:
            time.sleep(1)
            before = time.process_time()
            watch.poll()
            looked += time.process_time() - before
            if time.monotonic() < say_at:
                continue
            say_at = time.monotonic() + every
            # tuned by us, a monitor is started anew now and then, in a thread of its own
            thread = pool.sysfs.kdamond_pid(0)
            statistics = kernel.read(f"/proc/{thread}/stat").rpartition(")")[2].split()
            threads[thread] = (int(statistics[11]) + int(statistics[12])) / 100
            seen = watch.idle[uuid]
            heat = idle.classify(seen, kernel.residency(pid, domain.ram).resident, cold_after=cold_after)
            line = {
                "ram": domain.ram,
                "how": watch.how,
                "window_seconds": seen.window_seconds,
                "cold": [piece[:2] for piece in heat.cold_pieces],
                "hot_bytes": heat.hot_bytes,
                "snapshots": seen.snapshots,
                "look_cpu_seconds": looked,
                "kdamond_cpu_seconds": sum(threads.values()),
            }
            print(json.dumps(line), flush=True)
    journal.unlock()


if __name__ == "__main__":
    _, name, cold_after, seconds, every, source = sys.argv
    main(name, float(cold_after), float(seconds), float(every), source)
