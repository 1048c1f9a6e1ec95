"""Any host that can exist, with domains in any state and guests that say anything."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hypothesis import strategies as st

from overcommit.classify.idle import classify
from overcommit.cli import render
from overcommit.cli.tables import plain_lines
from overcommit.model.blocks import Block, VirtioMemDevice
from overcommit.model.facts import (
    AgentFacts,
    BalloonStats,
    Definition,
    DomainFacts,
    Gap,
    Incarnation,
    KsmFacts,
    KsmRun,
    Residency,
    RunState,
    Snapshot,
)
from overcommit.model.heat import RECENT_WINDOWS, Heat, IdleMap, IdleSpan
from overcommit.model.moments import Monotonic
from overcommit.model.part import MemoryPart
from overcommit.model.past import NOTHING_PAST, Left, Past, Quarantine, Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Actuator, Policy, ReclaimMode
from overcommit.model.ranges import Range, intersect, normalise, total_size
from overcommit.plan.eligibility import READS, WRITES
from overcommit.plan.feedback import Feedback
from overcommit.plan.planner import make_plan
from overcommit.units import GIB, MIB, PAGE_SIZE
from tests import scenarios

GAPS = ("balloon", "guest RAM", "residency", "job state", "cgroup")
CLASSES = {
    "careful": {"floor": "80%", "cold_after": "5min", "weight": 4.0},
    "standard": {"floor": "25%", "cold_after": "2min"},
    "greedy": {"floor": "0%", "cold_after": "10s", "weight": 0.5},
    "no-balloon": {"floor": "50%", "cold_after": "1min", "actuators": ["pageout"]},
    "helped": {"floor": "10%", "cold_after": "1min", "guest_help": ["compaction", "damon_reclaim"]},
}


class World(NamedTuple):
    """What the planner is given."""

    snapshot: Snapshot
    heats: dict[str, Heat]
    policy: Policy
    past: Past = NOTHING_PAST
    in_pain: Mapping[Incarnation, str] = MappingProxyType({})
    emergency: bool = False

    def plan(self) -> Plan:
        return make_plan(
            self.snapshot,
            self.heats,
            self.policy,
            past=self.past,
            feedback=Feedback(pains=self.in_pain, emergency=self.emergency),
        )

    def __repr__(self) -> str:
        """As the operator would see it: thousands of ranges explain nothing."""
        swap = f"swap {self.snapshot.host.swap_used_bytes} of {self.snapshot.host.swap_total_bytes}"
        said = [(d.name, d.balloon, [g.what for g in d.gaps]) for d in self.snapshot.domains]
        lines = "\n".join(plain_lines(render.plan_text(self.plan())))
        return f"{self.policy.reclaim}, {swap}, guests {said}\n{lines}\n"


PARTS = st.tuples(
    st.sampled_from([0, 1, 3, 500]),  # extra pages, so that nothing is a whole number of MiB by habit
    st.sampled_from([1500, 700, 300, 20]),  # MiB
    st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.0, 0.5]),  # share of the watch for which it has been idle
    st.sampled_from(["all", "all", "half", "none"]),  # how much of it is resident
    st.integers(0, 2**RECENT_WINDOWS - 1),
)
BLOCKS = st.lists(st.lists(PARTS, min_size=1, max_size=5), min_size=1, max_size=2)
GUEST_SAYS = st.sampled_from([0.9, 0.0, 3.0, 0.6, 0.0, 0.9, 3.0, -1.0, None])
"""The share of its memory that a guest claims it could give."""


def history(blocks: list[list[tuple[int, int, float, str, int]]], window: float) -> tuple[IdleMap, Residency]:
    """An idle map over one span per part, the blocks of RAM a little apart, and what is resident."""
    position, spans, resident = scenarios.RAM_START, [], []
    for block in blocks:
        for pages, mebibytes, idle, kind, recent in block:
            size = mebibytes * MIB + pages * PAGE_SIZE
            spans.append(IdleSpan(position, position + size, Monotonic(window * (1 - idle)), recent))
            held = {"all": size, "half": size // 2 // PAGE_SIZE * PAGE_SIZE, "none": 0}[kind]
            resident.append(Range(position, position + held))
            position += size
        position += 8 * MIB
    idle_map = IdleMap(
        began_at=Monotonic(0.0), updated_at=Monotonic(window), snapshots=int(window // 4), spans=tuple(spans)
    )
    size = sum(span.end - span.start for span in spans)
    swapped = (size - sum(r.size for r in resident)) // 2
    return idle_map, Residency(resident=normalise(resident), swapped_bytes=swapped)


def guests(definition: Definition) -> st.SearchStrategy[BalloonStats]:
    """Whatever a balloon driver may say, true or not."""
    size = definition.base_bytes

    def build(actual: float, usable: float | None, unused: float | None, age: float | None) -> BalloonStats:
        left = round(actual * size)
        said = None if usable is None else round(usable * (left + definition.plugged_bytes))
        empty = None if unused is None or said is None else round(unused * said)
        return BalloonStats(actual_bytes=left, age_seconds=age, usable_bytes=said, unused_bytes=empty)

    ages = st.sampled_from([3.0] * 14 + [100.0, None])
    unused = st.sampled_from([1.0, 0.5, 0.0, None])
    return st.builds(build, st.sampled_from([1.0, 1.0, 0.7, 0.5, 0.0]), GUEST_SAYS, unused, ages)


@st.composite
def devices(draw: st.DrawFn, ram: tuple[Range, ...], residency: Residency) -> tuple[VirtioMemDevice, ...]:
    """The last block of RAM as a virtio-mem device, where there are several; plugged is what is resident."""
    block = draw(st.sampled_from([0, 2 * MIB, 2 * MIB, 128 * MIB]))
    if len(ram) == 1 or block == 0:
        return ()
    size = -(-ram[-1].size // block)
    held = -(-total_size(intersect(residency.resident, ram[-1:])) // block)
    current = draw(st.sampled_from([size, size, held, (size + held) // 2]))
    asked = draw(st.sampled_from([current] * 6 + [0, size]))
    device = VirtioMemDevice(
        alias="virtiomem0",
        size_bytes=size * block,
        block_bytes=block,
        requested_bytes=asked * block,
        current_bytes=current * block,
    )
    return (device,)


AGENTS = st.builds(
    AgentFacts,
    commands=st.sampled_from([WRITES | READS, WRITES | READS, WRITES, frozenset()]),
    reclaims=st.sampled_from([False, True, None]),
    trouble=st.sampled_from([None, None, None, "it hangs"]),
)
"""What an agent may say."""


@st.composite
def domains(draw: st.DrawFn, name: str, policy: Policy) -> tuple[DomainFacts, Heat | None]:
    idle, residency = history(draw(BLOCKS), draw(st.sampled_from([300.0, 1200.0, 600.0, 130.0, 60.0, 0.0])))
    ram = normalise(Range(span.start, span.end) for span in idle.spans)
    plugged = draw(devices(ram, residency))
    if plugged:
        ram = (*ram[:-1], Range(ram[-1].start, ram[-1].start + plugged[0].size_bytes))
    size = sum(block.size for block in ram)
    gaps = {draw(st.sampled_from([""] * 25 + list(GAPS)))} - {""}
    label = draw(st.sampled_from([*CLASSES, "greedy", "standard"]))
    connected = draw(st.sampled_from([True, True, False, None]))
    alone = draw(st.sampled_from([False] * 8 + [True]))
    definition = scenarios.definition(
        size,
        labels={"class": label},
        virtio_mem=plugged,
        agent_connected=connected,
    )
    facts = dataclasses.replace(
        scenarios.domain(name, size=size),
        definition=definition,
        agent=draw(st.none() | AGENTS),
        merged_bytes=draw(st.sampled_from([None, 0, 0, residency.resident_bytes // 5])),
        state=draw(st.sampled_from([RunState.RUNNING] * 20 + [RunState.PAUSED])),
        balloon=None if "balloon" in gaps else draw(guests(definition)),
        blocks=() if "guest RAM" in gaps else tuple(Block(span=span, mergeable=not alone) for span in ram),
        residency=None if gaps & {"guest RAM", "residency"} else residency,
        gaps=tuple(Gap(what=what, why="unreadable") for what in sorted(gaps)),
    )
    if facts.residency is None or draw(st.sampled_from([False] * 12 + [True])):
        return facts, None
    cold_after = policy.class_of(facts).cold_after_seconds
    return facts, classify(idle, residency.resident, cold_after=cold_after)


@functools.cache
def _policy(mode: ReclaimMode, reserve: int, max_used: int, ksm: bool) -> Policy:
    rules = [{"match": {"metadata": {"class": name}}, "class": name} for name in CLASSES]
    swap = {"max_used": f"{max_used}%"}
    host = {"reclaim": mode.value, "reserve": f"{reserve}%", "swap": swap, "ksm": ksm}
    return scenarios.policy({"host": host, "classes": CLASSES, "domains": rules})


def policies(*modes: ReclaimMode) -> st.SearchStrategy[Policy]:
    usual = (ReclaimMode.PROACTIVE, ReclaimMode.ON_PRESSURE)
    choice = st.sampled_from(modes or (*usual, *usual, *usual, ReclaimMode.OFF))
    return st.builds(
        _policy,
        choice,
        st.sampled_from([8, 0, 25, 60]),
        st.sampled_from([60, 100, 90, 10, 0]),
        st.booleans(),
    )


KSM = st.none() | st.builds(
    scenarios.ksm,
    st.sampled_from([KsmRun.STOPPED] * 4 + [KsmRun.RUNNING, KsmRun.UNMERGED]),
    pages_to_scan=st.sampled_from([100, 1, 5000]),
    sharing_bytes=st.sampled_from([0, 300 * MIB]),
    profit_bytes=st.sampled_from([None, 0, -MIB, 300 * MIB]),
    advisor=st.sampled_from([None, "none", "scan-time"]),
    tuner=st.sampled_from([None] * 5 + ["ksmtuned.service"]),
)
"""Any that a kernel can be in, started by whoever."""


@st.composite
def worlds(draw: st.DrawFn, *modes: ReclaimMode) -> World:
    policy = draw(policies(*modes))
    count = draw(st.sampled_from([3, 3, 3, 2, 1, 0]))
    made = [draw(domains(f"vm-{n}", policy)) for n in range(count)]
    known = [facts.residency for facts, _ in made if facts.residency is not None]
    available = draw(st.sampled_from([0, 100, 700, 3000])) * MIB
    total = available + sum(r.resident_bytes for r in known) + draw(st.integers(64 * MIB, 2 * GIB))
    used = sum(r.swapped_bytes for r in known) + draw(st.sampled_from([0, 1, 300])) * MIB
    room = draw(st.sampled_from([10_000, 2000, 1000, 300, 20, 0])) * MIB
    area = scenarios.zram(used + room, used)
    ksm = draw(KSM)
    waiting = scenarios.waiting(draw(st.sampled_from([0.0, 0.2, 0.99])))
    host = scenarios.host(total, available, [area] if area.size_bytes else [], ksm=ksm, cpu_pressure=waiting)
    heats = {facts.incarnation.uuid: heat for facts, heat in made if heat is not None}
    past = draw(pasts([facts for facts, _ in made], ksm))
    hurt = draw(st.sampled_from([0] * 6 + [1, 2]))
    in_pain = {facts.incarnation: "it reads its memory back" for facts, _ in made[:hurt]}
    return World(scenarios.snapshot(host, *(facts for facts, _ in made)), heats, policy, past, in_pain)


def emergencies(*modes: ReclaimMode) -> st.SearchStrategy[World]:
    """The same worlds, planned as if they were near their OOM, however much they have available."""
    return worlds(*modes).map(lambda world: world._replace(emergency=True))


def plenty_of_swap(world: World) -> World:
    """The same host, where it has swap at all, with room in it for every guest."""
    if not world.snapshot.host.swap:
        return world
    room = sum(d.definition.maximum_bytes for d in world.snapshot.domains)
    used = world.snapshot.host.swap_used_bytes
    host = dataclasses.replace(world.snapshot.host, swap=(scenarios.zram(10 * (used + room) + 1, used),))
    budget = dataclasses.replace(world.policy.swap, max_used=1.0)
    policy = dataclasses.replace(world.policy, swap=budget)
    return world._replace(snapshot=dataclasses.replace(world.snapshot, host=host), policy=policy)


@st.composite
def pasts(draw: st.DrawFn, among: list[DomainFacts], ksm: KsmFacts | None) -> Past:
    """Usually nothing; else promises, quarantines, over or not, balloons near where we left them, our KSM."""
    if not draw(st.sampled_from([False, False, True])):
        return NOTHING_PAST
    promise = Reservation(
        id=1,
        purpose=draw(st.sampled_from([None, "vm-0", "vm-9"])),
        size_bytes=draw(st.sampled_from([0, 200, 4000])) * MIB,
        expires_at=scenarios.NOW + draw(st.sampled_from([-1.0, 60.0])),
    )
    quarantines, balloons, resized = [], [], []
    for facts in among:
        if draw(st.booleans()):
            quarantines.append(
                Quarantine(
                    domain=facts.incarnation,
                    actuator=draw(st.sampled_from([Actuator.BALLOON, Actuator.VIRTIO_MEM, Actuator.PAGEOUT])),
                    reason="it gave the host nothing",
                    until=scenarios.NOW + draw(st.sampled_from([-1.0, 600.0])),
                )
            )
        if facts.balloon is not None and draw(st.booleans()):
            left = facts.balloon.actual_bytes + draw(st.sampled_from([0, 0, 50])) * MIB
            balloons.append(
                Left(
                    part=MemoryPart(facts.incarnation),
                    size_bytes=left,
                    baseline_bytes=draw(st.sampled_from([left, facts.definition.base_bytes])),
                    generation=7,
                )
            )
        for device in facts.definition.virtio_mem if draw(st.booleans()) else ():
            at = draw(st.sampled_from([device.requested_bytes] * 4 + [0]))
            resized.append(
                Left(
                    part=MemoryPart(facts.incarnation, device.alias),
                    size_bytes=at,
                    baseline_bytes=draw(st.sampled_from([at, device.size_bytes])),
                    generation=7,
                )
            )
    return Past(
        reservations=(promise,),
        quarantines=tuple(quarantines),
        left=(*balloons, *resized),
        ksm_generation=draw(st.sampled_from([None, 3])) if ksm else None,
    )
