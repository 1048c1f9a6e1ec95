"""How long the pure core takes: a plan for many domains, on this machine, without a host VM.

``python -m integration.bench.scale`` prints CPU time and memory for each mode and number of domains.
"""

from __future__ import annotations

import argparse
import random
import time
import tracemalloc
from typing import TYPE_CHECKING

from overcommit.model.accounts import CgroupLimit, Charge
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
        ram=(Range(_START, _START + size),),
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
    return Snapshot(taken_at=1.7e9, host=host, domains=facts), heats


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


def main() -> None:
    """Print a line per number of domains and mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, nargs="+", default=[100, 1000, 10_000])
    arguments = parser.parse_args()
    print("domains  mode         actions  plan CPU   JSON CPU   JSON size  peak memory of planning")
    for count in arguments.domains:
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


if __name__ == "__main__":
    main()
