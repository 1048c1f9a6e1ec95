"""What many domains cost: ticks of the whole daemon, and plans of the pure core; no host VM is needed.

``python -m integration.bench.scale`` prints, for each number of domains at rest, the CPU time of the program
in a tick, in a tick with a plan, for publishing and for documents that somebody reads (the fakes' own time is
taken off), the calls to libvirt, and sizes; and how each grows: 1.0 is in proportion to the domains, 2.0 with
their square. With ``--before CHECKOUT`` it measures another checkout beside this one, in turns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overcommit.model.accounts import CgroupLimit, Charge
from overcommit.model.blocks import Block
from overcommit.model.facts import (
    BalloonStats,
    CgroupMemory,
    Definition,
    DomainFacts,
    HostFacts,
    Incarnation,
    Pressure,
    Residency,
    RunState,
    Snapshot,
)
from overcommit.model.heat import ColdPiece, Heat, IdleBucket
from overcommit.model.moments import Wall
from overcommit.model.ranges import Range
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.plan import document
from overcommit.plan.planner import make_plan
from overcommit.policy import loader
from overcommit.units import GIB, MIB

if TYPE_CHECKING:
    from overcommit.model.policy import Policy

PIECES = 128
"""Of a domain: what the classifier makes of it at most."""
_START = 0x7F00_0000_0000
_SLICE = CgroupLimit(
    path="/machine.slice",
    file="memory.max",
    limit_bytes=1 << 50,
    current_bytes=0,
    cache_bytes=0,
    own=False,
)


def _domain(number: int, chance: random.Random) -> tuple[DomainFacts, Heat]:
    size = chance.choice((1, 2, 4, 8, 16)) * GIB
    piece = size // PIECES
    cold = sorted(chance.sample(range(PIECES), chance.randrange(PIECES)))
    pieces = tuple(
        ColdPiece(_START + i * piece, _START + (i + 1) * piece, piece, chance.uniform(120, 3600))
        for i in cold
    )
    cold_bytes = len(pieces) * piece
    hot = (size - cold_bytes) // 2
    facts = DomainFacts(
        incarnation=Incarnation(
            uuid=f"{number:032x}", name=f"vm-{number:05d}", pid=number, start_time=number
        ),
        state=RunState.RUNNING,
        definition=Definition(maximum_bytes=size, balloon_model="virtio", stats_period_seconds=5),
        balloon=BalloonStats(
            actual_bytes=size, age_seconds=3.0, usable_bytes=round(chance.uniform(0, 0.9) * size)
        ),
        cgroup=CgroupMemory(
            path=f"/machine.slice/vm-{number}",
            current_bytes=size,
            swap_bytes=0,
            major_faults=0,
            promoted_pages=0,
            anon_refaults=0,
            reclaim=True,
            shared=False,
            pressure=Pressure(some_avg10=0.0, some_avg60=0.0, some_total_seconds=0.0),
            charge=Charge(anon_bytes=size + 80 * MIB, shmem_bytes=0, cache_bytes=0, kernel_bytes=0),
        ),
        limits=(_SLICE,),
        blocks=(Block(span=Range(_START, _START + size)),),
        residency=Residency(resident=(Range(_START, _START + size),), swapped_bytes=0),
    )
    heat = Heat(
        window_seconds=600.0,
        snapshots=150,
        samples=600,
        cold_after_seconds=120.0,
        hot_bytes=hot,
        warm_bytes=size - cold_bytes - hot,
        cold_bytes=cold_bytes,
        cooling_bytes=64 * MIB,
        cold_pieces=pieces,
        histogram=(IdleBucket(0.0, size - cold_bytes), IdleBucket(120.0, cold_bytes)),
    )
    return facts, heat


def _world(count: int) -> tuple[Snapshot, dict[str, Heat]]:
    chance = random.Random(count)
    made = [_domain(number, chance) for number in range(count)]
    total = sum(facts.definition.maximum_bytes for facts, _ in made)
    host = HostFacts(
        name="large",
        kernel="7.3.0",
        boot_id="boot",
        total_bytes=total + total // 10,
        mem_available_bytes=total // 50,
        lru_bytes=total,
        shmem_bytes=0,
        swap=(SwapArea(path="/dev/zram0", kind=SwapKind.ZRAM, size_bytes=total, used_bytes=0),),
        pressure=None,
    )
    facts = tuple(domain for domain, _ in made)
    heats = {domain.incarnation.uuid: heat for domain, heat in made}
    return Snapshot(taken_at=Wall(1.7e9), host=host, domains=facts), heats


def _policy(mode: str) -> Policy:
    return loader.parse(
        f"""
        version: 1
        host: {{reserve: 8%, reclaim: {mode}}}
        classes:
          gold: {{floor: 60%, cold_after: 2min, weight: 4}}
          standard: {{floor: 25%, cold_after: 2min}}
        domains:
          - {{match: {{name: "vm-*7"}}, class: gold}}
        default_class: standard
        """,
        "bench",
    )


CHECKOUT = Path(__file__).parents[2]
TICKS = Path(__file__).with_name("ticks.py")
_COLUMNS = {
    "first": "first tick",
    "tick": "tick",
    "plan": "with plan",
    "publish": "publish",
    "read": "read by all",
    "calls": "calls/tick",
    "plan_calls": "with plan",
    "status_bytes": "status",
    "rss_bytes": "RSS",
}


def _measured(checkout: Path, count: int) -> dict[str, Any]:
    """One number of domains, by the program of a checkout."""
    done = subprocess.run(
        # -P: what lies beside the script is of this checkout
        [sys.executable, "-P", TICKS, str(count)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{checkout}: {count} domains: {done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _shown(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / MIB:.1f} MiB"
    return f"{value:.0f}" if name.endswith("calls") else f"{value * 1000:.1f} ms"


def _growth(before: dict[str, Any] | None, now: dict[str, Any], name: str) -> str:
    """The exponent of the number of domains by which a figure grew."""
    if before is None or not before[name] or not now[name]:
        return ""
    return f"^{math.log(now[name] / before[name]) / math.log(now['domains'] / before['domains']):.2f}"


def ticks(counts: Sequence[int], checkouts: dict[str, Path]) -> None:
    """Print a line for each number of domains and checkout."""
    header = "  ".join(f"{column:>11} {'':>6}" for column in _COLUMNS.values())
    print(f"domains         {header}")
    latest: dict[str, dict[str, Any]] = {}
    for count in counts:
        for what, checkout in checkouts.items():
            figures = _measured(checkout, count)
            cells = (
                f"{_shown(name, figures[name]):>11} {_growth(latest.get(what), figures, name):>6}"
                for name in _COLUMNS
            )
            print(f"{count:7} {what:7}", "  ".join(cells), flush=True)
            latest[what] = figures


def plans(counts: Sequence[int]) -> None:
    """Print a line per number of domains and mode."""
    print("domains  mode         actions  plan CPU   JSON CPU   JSON size  peak memory of planning")
    for count in counts:
        snapshot, heats = _world(count)
        for mode in ("proactive", "on_pressure"):
            policy = _policy(mode)
            began = time.process_time()
            plan = make_plan(snapshot, heats, policy)
            planned = time.process_time() - began
            began = time.process_time()
            text = document.dumps(plan)
            written = time.process_time() - began
            tracemalloc.start()
            make_plan(snapshot, heats, policy)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            print(
                f"{count:7}  {mode:<11}  {len(plan.actions):7}  {planned * 1000:6.0f} ms  "
                f"{written * 1000:6.0f} ms  {len(text) / MIB:5.1f} MiB  {peak / MIB:6.1f} MiB"
            )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, nargs="+", default=[1, 10, 100, 1000, 10_000])
    parser.add_argument("--before", type=Path, help="another checkout, to compare with")
    parser.add_argument("--only", choices=["ticks", "plans"], help="one of the two tables")
    arguments = parser.parse_args()
    if arguments.only != "plans":
        before = {"before": arguments.before.resolve()} if arguments.before else {}
        ticks(arguments.domains, {**before, "now": CHECKOUT})
    if arguments.only != "ticks":
        plans(arguments.domains)


if __name__ == "__main__":
    main()
