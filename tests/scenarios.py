"""Hosts, domains and policies for tests, described in the operator's words.

Everything has a sensible default, so that a test names only what it is about. A host that cannot exist (more
resident memory than RAM, a guest larger than its definition) is refused: a test on it would prove nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import yaml

from overcommit.classify.idle import classify
from overcommit.model.accounts import CgroupLimit, Charge, HugePages
from overcommit.model.blocks import Backing, Block, VirtioMemDevice
from overcommit.model.facts import (
    AgentFacts,
    BalloonStats,
    CgroupMemory,
    Definition,
    DomainFacts,
    Gap,
    HostFacts,
    Incarnation,
    KsmFacts,
    KsmRun,
    Pressure,
    Residency,
    RunState,
    Snapshot,
)
from overcommit.model.heat import RECENT_WINDOWS, Heat, IdleMap, IdleSpan
from overcommit.model.moments import Monotonic, Wall
from overcommit.model.nodes import MemoryNode
from overcommit.model.policy import Policy
from overcommit.model.ranges import Range, intersect, normalise
from overcommit.model.swap import BlockDevice, SwapArea, SwapKind
from overcommit.policy import loader
from overcommit.units import GIB, MIB

RAM_START = 0x7F00_0000_0000
NOW = Wall(1_700_000_000.0)
RESOLUTION = 4.0
"""Seconds of one snapshot's window, as the product's monitor has it."""


class ImpossibleError(ValueError):
    """The scenario describes something that no host can be in."""


def require(possible: bool, why: str) -> None:
    if not possible:
        raise ImpossibleError(why)


def incarnation(name: str = "web", *, pid: int = 4242, start_time: int = 1000) -> Incarnation:
    return Incarnation(uuid=str(uuid5(NAMESPACE_DNS, name)), name=name, pid=pid, start_time=start_time)


MADE_OF = ("shared", "nosharepages", "backing", "source")
"""What ``overrides`` of a domain may say of what its RAM is made of; the rest is of its definition."""


def definition(size: int = GIB, **overrides: Any) -> Definition:
    """A plain guest with a balloon, statistics every 5 s and free page reporting."""
    plain = Definition(
        maximum_bytes=size, balloon_model="virtio", free_page_reporting=True, stats_period_seconds=5
    )
    return dataclasses.replace(plain, **overrides)


def memory_device(alias: str, size: int, **overrides: Any) -> VirtioMemDevice:
    """A virtio-mem device, all of it plugged."""
    plain = VirtioMemDevice(
        alias=alias, size_bytes=size, block_bytes=2 * MIB, requested_bytes=size, current_bytes=size
    )
    return dataclasses.replace(plain, **overrides)


ALL_FREE = -1


def guest_says(
    usable: int | None,
    *,
    unused: int | None = ALL_FREE,
    actual: int = GIB,
    plugged: int = 0,
    age: float | None = 3.0,
    honest: bool = True,
) -> BalloonStats:
    """The guest's last statistics; one that is not ``honest`` may claim more than it has.

    ``unused`` of what is usable holds nothing at all, as a rule all of it; ``plugged`` it has beside
    ``actual``.
    """
    unused = usable if unused == ALL_FREE else unused
    most = actual + plugged
    require(not honest or usable is None or usable <= most, "an honest guest has no more than its size")
    require(not honest or (unused or 0) <= (usable or 0), "what is unused is usable")
    return BalloonStats(actual_bytes=actual, age_seconds=age, usable_bytes=usable, unused_bytes=unused)


def cgroup(
    name: str,
    resident: int,
    swapped: int,
    *,
    reclaim: bool = True,
    shared: bool = False,
    overhead: int = 0,
    cache: int = 0,
    memfd: bool = False,
) -> CgroupMemory:
    """What the kernel charges a calm domain: its RAM, QEMU's own memory, and the cache of its files."""
    return CgroupMemory(
        path=f"/machine.slice/{name}.scope/libvirt",
        current_bytes=resident + overhead + cache,
        swap_bytes=swapped,
        major_faults=0,
        promoted_pages=0,
        anon_refaults=0,
        reclaim=reclaim,
        shared=shared,
        pressure=Pressure(some_avg10=0.0, some_avg60=0.0, some_total_seconds=0.0),
        charge=Charge(
            anon_bytes=overhead if memfd else resident + overhead,
            shmem_bytes=resident if memfd else 0,
            cache_bytes=cache,
            kernel_bytes=0,
        ),
    )


def domain(
    name: str = "web",
    *,
    size: int = GIB,
    resident: int | None = None,
    swapped: int = 0,
    balloon: BalloonStats | None = None,
    gaps: Mapping[str, str] | None = None,
    state: RunState = RunState.RUNNING,
    busy_with: str | None = None,
    memory_reclaim: bool = True,
    shared_cgroup: bool = False,
    placement: Mapping[int, int] | None = None,
    overhead: int = 0,
    cache: int = 0,
    limits: Sequence[CgroupLimit] = (),
    swap_limits: Sequence[CgroupLimit] = (),
    allowed_nodes: frozenset[int] | None = None,
    agent: AgentFacts | None = None,
    merged: int | None = None,
    **overrides: Any,
) -> DomainFacts:
    """A running domain; its resident memory lies at the start of its RAM. ``overrides`` go to its definition.

    Its virtio-mem devices come first: a guest's programs get plugged memory before the other.
    A gap takes away what could not be read, as `overcommit.observe` does it.
    """
    resident = size - swapped if resident is None else resident
    require(resident + swapped <= size, f"{name}: more memory resident and swapped than it has")
    made_of = {word: overrides.pop(word) for word in MADE_OF if word in overrides}
    plain = definition(size, **overrides)
    if balloon is not None:
        most = plain.base_bytes
        require(balloon.actual_bytes <= most, f"{name}: a balloon cannot give more than the definition")
    require(sum((placement or {}).values()) <= resident, f"{name}: more memory on nodes than resident")
    require((merged or 0) <= resident, f"{name}: more memory merged than resident")
    missing = gaps or {}
    blocks = blocks_of_ram(size, plain, **made_of)
    ram, huge = tuple(block.span for block in blocks), bool(blocks) and blocks[-1].huge
    known = not missing.keys() & {"guest RAM", "residency"}
    group = cgroup(
        name,
        0 if huge else resident,
        swapped,
        reclaim=memory_reclaim,
        shared=shared_cgroup,
        overhead=overhead,
        cache=cache,
        memfd=made_of.get("shared", False),
    )
    return DomainFacts(
        incarnation=incarnation(name),
        state=state,
        definition=plain,
        busy_with=busy_with,
        balloon=None if "balloon" in missing else balloon,
        cgroup=None if "cgroup" in missing else group,
        blocks=() if "guest RAM" in missing else blocks,
        residency=Residency(
            resident=first_bytes(ram, resident), swapped_bytes=swapped, huge_bytes=resident if huge else 0
        )
        if known
        else None,
        placement=None if "placement" in missing else placement,
        limits=None if missing.keys() & {"cgroup", "cgroup limits"} else tuple(limits),
        swap_limits=None if missing.keys() & {"cgroup", "cgroup limits"} else tuple(swap_limits),
        allowed_nodes=allowed_nodes,
        agent=agent,
        merged_bytes=merged,
        gaps=tuple(Gap(what=what, why=why) for what, why in missing.items()),
    )


def blocks_of_ram(
    size: int,
    of: Definition,
    *,
    shared: bool = False,
    nosharepages: bool = False,
    backing: str | None = None,
    source: str = "",
) -> tuple[Block, ...]:
    """What the RAM of a domain is made of: each device's on its own, then the rest, a little apart."""
    kind = Backing.HUGETLB if of.hugepages else Backing.SHMEM if shared else Backing.ANONYMOUS
    blocks, start = [], RAM_START
    for alias, amount in (*((d.alias, d.size_bytes) for d in of.virtio_mem), (None, of.base_bytes)):
        block = Block(
            span=Range(start, start + amount),
            backing=Backing[backing.upper()] if backing else kind,
            shared=shared or backing == "file",
            locked=of.locked,
            mergeable=not nosharepages,
            source=source,
            alias=alias,
        )
        blocks.append(block)
        start += amount + 8 * MIB
    require(sum(block.size_bytes for block in blocks) == size, "devices larger than the domain")
    return tuple(blocks)


def first_bytes(ram: Sequence[Range], size: int) -> tuple[Range, ...]:
    """So much of it, from the start."""
    taken = []
    for block in ram:
        part = min(block.size, size)
        size -= part
        taken.append(Range(block.start, block.start + part))
    return normalise(taken)


def heat(facts: DomainFacts, idle: Sequence[tuple[float, int]], *, watched: float, policy: Policy) -> Heat:
    """The product's own judgement of resident memory laid out as (seconds idle, bytes), in this order."""
    require(facts.residency is not None, "heat of memory nobody could find")
    assert facts.residency is not None
    require(
        sum(size for _, size in idle) == facts.residency.resident_bytes,
        f"{facts.name}: the idle times must cover its resident memory of {facts.residency.resident_bytes}",
    )
    spans, left = [], facts.ram
    for seconds, size in idle:
        require(0 <= seconds <= watched, f"idle for {seconds} s, but watched for {watched} s only")
        part = first_bytes(left, size)
        spans += [IdleSpan(*piece, Monotonic(watched - seconds), _recent(seconds)) for piece in part]
        left = tuple(intersect(left, [Range(part[-1].end, facts.ram[-1].end)])) if part else left
    spans += [IdleSpan(*piece, Monotonic(0.0), 0) for piece in left]
    return classify(
        IdleMap(
            began_at=Monotonic(0.0),
            updated_at=Monotonic(watched),
            snapshots=int(watched // RESOLUTION),
            spans=tuple(spans),
        ),
        facts.residency.resident,
        cold_after=policy.class_of(facts).cold_after_seconds,
        unused_after=policy.class_of(facts).cache_after_seconds,
    )


def _recent(seconds: float) -> int:
    """In steady use until ``seconds`` ago: the windows since then saw nothing."""
    return (1 << RECENT_WINDOWS) - 1 & ~0 << int(seconds // RESOLUTION)


def zram(size: int = 4 * GIB, used: int = 0) -> SwapArea:
    require(used <= size, "a swap area cannot hold more than its size")
    return SwapArea(path="/dev/zram0", kind=SwapKind.ZRAM, size_bytes=size, used_bytes=used)


def block_device(name: str = "sdb2", **counts: Any) -> BlockDevice:
    """A device that has done nothing yet; ``counts`` are fields of `BlockDevice`."""
    plain = BlockDevice(
        name=name,
        rotational=False,
        reads=0,
        read_bytes=0,
        read_seconds=0.0,
        writes=0,
        written_bytes=0,
        write_seconds=0.0,
    )
    return dataclasses.replace(plain, **counts)


def node(nid: int, size: int, free: int) -> MemoryNode:
    require(free <= size, "a memory node cannot have more free than it has")
    return MemoryNode(nid=nid, total_bytes=size, free_bytes=free)


def ksm(run: KsmRun = KsmRun.STOPPED, **overrides: Any) -> KsmFacts:
    """A kernel's KSM as it is at boot: 100 pages every 20 ms, if anybody started it."""
    plain = KsmFacts(
        run=run,
        pages_to_scan=100,
        sleep_seconds=0.02,
        shared_bytes=0,
        sharing_bytes=0,
        unshared_bytes=0,
        full_scans=0,
        profit_bytes=0,
        advisor="none",
    )
    return dataclasses.replace(plain, **overrides)


def waiting(share: float) -> Pressure:
    """Pressure that was the same for a minute."""
    return Pressure(some_avg10=share, some_avg60=share, some_total_seconds=0.0)


def host(
    total: int = 8 * GIB,
    available: int = 4 * GIB,
    swap: Sequence[SwapArea] = (zram(),),
    nodes: Sequence[MemoryNode] = (),
    migration: bool | None = None,
    ksm: KsmFacts | None = None,
    cpu_pressure: Pressure | None = None,
    **accounts: Any,
) -> HostFacts:
    """A host without huge pages, ZFS or zswap, and an empty zram; ``accounts`` are fields of `HostFacts`."""
    require(available <= total, "a host cannot have more available than it has")
    require(sum(n.total_bytes for n in nodes) <= total, "more memory on nodes than the host has")
    require(sum(n.free_bytes for n in nodes) <= available, "more free on nodes than the host has available")
    return HostFacts(
        name="kvm1",
        kernel="6.12.0",
        boot_id="boot-1",
        total_bytes=total,
        lru_bytes=total // 2,
        mem_available_bytes=available,
        swap=tuple(swap),
        pressure=None,
        cpu_pressure=cpu_pressure,
        nodes=tuple(nodes),
        migration=migration,
        ksm=ksm,
        **{"shmem_bytes": 0, "huge_pages": HugePages(total_bytes=0, free_bytes=0), **accounts},
    )


def snapshot(facts: HostFacts, *domains: DomainFacts, gaps: Mapping[str, str] | None = None) -> Snapshot:
    known = [d.residency for d in domains if d.residency is not None]
    resident = sum(residency.resident_bytes for residency in known)
    require(resident + facts.mem_available_bytes <= facts.total_bytes, "more memory in use than the host has")
    swapped = sum(residency.swapped_bytes for residency in known)
    require(swapped <= facts.swap_used_bytes, "more guest memory in swap than swap in use")
    return Snapshot(
        taken_at=NOW,
        host=facts,
        domains=domains,
        gaps=tuple(Gap(what=what, why=why) for what, why in (gaps or {}).items()),
    )


def policy(overrides: Mapping[str, Any] | None = None) -> Policy:
    """A small policy, changed by ``overrides`` in the file's own words, through the real loader."""
    plain = {
        "version": 1,
        "classes": {"standard": {"floor": "25%", "cold_after": "2min"}},
        "default_class": "standard",
    }
    return loader.parse(yaml.safe_dump(_merged(plain, overrides or {})), "policy.yaml")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if both and isinstance(old, Mapping) else value
    return merged
