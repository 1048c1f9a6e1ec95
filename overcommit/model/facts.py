"""What was seen of the host and its domains at one moment, before any judgement.

A value that could not be read is a `Gap`: data, never 0 and never an exception that spoils the rest.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from overcommit.model.accounts import Arc, CgroupLimit, Charge, Compressed, HugePages, Zswap
from overcommit.model.blocks import MemoryFacts, Part, VirtioMemDevice, storage_bytes
from overcommit.model.nodes import MemoryNode, NodeBinding
from overcommit.model.ranges import Range, total_size
from overcommit.model.swap import SwapArea, SwapTraffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that could not be read, and why."""

    what: str
    why: str


MIGRATION_AWAY = "a migration to another host"
"""What a domain that leaves is busy with."""


class RunState(enum.Enum):
    """A domain's run state as far as reclaim cares."""

    RUNNING = "running"
    PAUSED = "paused"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """One life of a domain: a restart, or a pid used again, is another incarnation.

    ``start_time`` is field 22 of ``/proc/PID/stat`` in clock ticks since boot.
    """

    uuid: str
    name: str
    pid: int
    start_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What the live domain XML says about memory.

    ``bound``: to chosen nodes of the host, as ``bindings`` say where it is sure. ``maximum_bytes`` is RAM
    with the full size of virtio-mem devices, without NVDIMMs and the like; those are among the ``parts`` too.
    ``os`` is libosinfo's name of the guest's system, ``manager`` who made the domain, where they say so.
    ``agent_connected`` is None where there is no channel for a guest agent. ``claim`` has the sizes that its
    balloon and devices had before us, by the journal's names (`overcommit.apply.claims`).
    """

    maximum_bytes: int
    balloon_model: str
    free_page_reporting: bool = False
    autodeflate: bool = False
    stats_period_seconds: int = 0
    locked: bool = False
    hugepages: bool = False
    launch_security: str | None = None
    bound: bool = False
    bindings: tuple[NodeBinding, ...] = ()
    passthrough: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    claim: Mapping[str, int] = field(default_factory=dict)
    virtio_mem: tuple[VirtioMemDevice, ...] = ()
    os: str | None = None
    manager: str | None = None
    agent_connected: bool | None = None

    @property
    def listed_bytes(self) -> int:
        """What libvirt lists as its memory: NVDIMMs count there."""
        return self.maximum_bytes + storage_bytes(self.parts)

    @property
    def base_bytes(self) -> int:
        """What is no virtio-mem: the most that a balloon can leave the guest."""
        return self.maximum_bytes - sum(device.size_bytes for device in self.virtio_mem)

    @property
    def plugged_bytes(self) -> int:
        """What the guest has by virtio-mem; no balloon counts it."""
        return sum(device.current_bytes for device in self.virtio_mem)

    @property
    def leaving_bytes(self) -> int:
        """What of that it was asked to give, and has not given yet."""
        return sum(max(0, device.current_bytes - device.requested_bytes) for device in self.virtio_mem)

    def device(self, alias: str | None) -> VirtioMemDevice | None:
        """The virtio-mem device of that name; None has none."""
        return next((device for device in self.virtio_mem if device.alias == alias), None)

    @property
    def windows(self) -> bool:
        """Whether the guest is said to be a Windows."""
        return "microsoft.com" in (self.os or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What the guest's agent said when it was asked.

    ``commands`` are those it carries out. ``reclaims`` is whether DAMON_RECLAIM is on in the guest, None
    where its kernel has none. ``trouble``: why it did not say.
    """

    commands: frozenset[str] = frozenset()
    reclaims: bool | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonStats:
    """What the guest's balloon driver last said (untrusted input, rule S8).

    ``actual_bytes`` is what the balloon leaves of the guest's memory, virtio-mem not counted; the guest's
    own figures have both. ``age_seconds`` is host time since the driver answered, None: not since it booted.
    ``usable_bytes`` is its MemAvailable, ``unused_bytes`` its MemFree. ``doubts``: said, but cannot be; None.
    """

    actual_bytes: int
    age_seconds: float | None
    usable_bytes: int | None = None
    unused_bytes: int | None = None
    total_bytes: int | None = None
    cache_bytes: int | None = None
    swap_in_bytes: int | None = None
    swap_out_bytes: int | None = None
    major_faults: int | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Pressure stall information, ratios of time 0..1 and the running total in seconds."""

    some_avg10: float
    some_avg60: float
    some_total_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupSigns:
    """What of a `CgroupMemory` tells how the domain feels, for who looks often."""

    swap_bytes: int
    promoted_pages: int
    pressure: Pressure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupMemory:
    """The domain's cgroup v2 memory figures.

    ``promoted_pages`` came back from swap. ``reclaim``: the kernel can be asked to reclaim from it.
    ``shared``: ``others`` (pids) are charged to it too, so that what is taken from it may be theirs;
    ``common``: domains too. ``charge``: None where the kernel does not tell the kinds apart.
    """

    path: str
    current_bytes: int
    swap_bytes: int
    major_faults: int
    promoted_pages: int
    anon_refaults: int
    reclaim: bool
    shared: bool
    pressure: Pressure | None
    common: bool = False
    others: tuple[int, ...] = ()
    charge: Charge | None = None


_AS_PLACED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """Which parts of guest RAM the host holds in memory, how much that is, and how much is in swap.

    Of what is, ``huge_bytes`` are in huge pages, which were set aside, and ``cached_bytes`` a file's own.
    """

    resident: tuple[Range, ...]
    swapped_bytes: int
    resident_bytes: int = _AS_PLACED
    huge_bytes: int = 0
    cached_bytes: int = 0

    def __post_init__(self) -> None:
        """Add it up once: there may be tens of thousands of parts, and everybody asks for the sum."""
        if self.resident_bytes == _AS_PLACED:
            object.__setattr__(self, "resident_bytes", total_size(self.resident))

    @property
    def without_places(self) -> Residency:
        """The same without what takes memory, for who needs the sums only."""
        return dataclasses.replace(self, resident=())


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFacts(MemoryFacts):
    """One running domain.

    ``residency`` is of what there is to look at. ``placement`` has the guest's bytes by memory node, where
    the host has several, and ``allowed_nodes`` those that QEMU may have memory on; None: not known.
    ``limits`` are of its cgroup and those above, nearest first, of memory; ``swap_limits`` of swap; None:
    not known. ``agent`` is None unless its agent was asked, which its owner must have allowed.
    ``merged_bytes`` of the process are pages that may serve others as well (KSM), None: the kernel does not
    tell.
    """

    incarnation: Incarnation
    state: RunState
    definition: Definition
    busy_with: str | None = None
    balloon: BalloonStats | None = None
    cgroup: CgroupMemory | None = None
    residency: Residency | None = None
    placement: Mapping[int, int] | None = None
    allowed_nodes: frozenset[int] | None = None
    limits: tuple[CgroupLimit, ...] | None = None
    swap_limits: tuple[CgroupLimit, ...] | None = None
    agent: AgentFacts | None = None
    merged_bytes: int | None = None
    gaps: tuple[Gap, ...] = ()

    @property
    def name(self) -> str:
        """The libvirt name."""
        return self.incarnation.name

    @property
    def memory_bytes(self) -> int:
        """How much of the host's memory its RAM can take, huge pages included."""
        return max(0, self.definition.maximum_bytes - self.elsewhere_bytes)

    @property
    def promised_bytes(self) -> int:
        """How much of the host's ordinary memory: huge pages were set aside when the guest began."""
        if not self.blocks and self.definition.hugepages:
            return 0
        return max(0, self.memory_bytes - self.huge_bytes)

    @property
    def held_bytes(self) -> int:
        """What its RAM holds of that, in guest_memfd too; nothing, where it is not known."""
        found = self.residency
        known = max(0, found.resident_bytes - found.huge_bytes - found.cached_bytes) if found else 0
        return known + (self._hidden_bytes if found else 0)

    @property
    def _hidden_bytes(self) -> int:
        charge = self.cgroup.charge if self.cgroup else None
        return charge.hidden_bytes if charge and self.in_guest_memfd else 0

    @property
    def overhead_bytes(self) -> int | None:
        """What QEMU and its helpers cost the host beyond resident guest RAM; None: not known.

        Not counted is what the kernel can drop, such as the cache of a disk image. Huge pages are in no
        process's charge.
        """
        charge = self.cgroup.charge if self.cgroup else None
        theirs = self.cgroup is not None and self.cgroup.shared and not self.only_helpers
        if charge is None or theirs or not self.guest_ram or not self.residency:
            return None
        return max(0, charge.held_bytes + self._hidden_bytes - self.held_bytes)


class KsmRun(enum.Enum):
    """What ``/sys/kernel/mm/ksm/run`` says."""

    STOPPED = 0
    """What is merged stays merged."""
    RUNNING = 1
    UNMERGED = 2
    """Stopped, and all that was merged was given its own pages again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmFacts:
    """Kernel same-page merging (KSM), which is of the host as a whole.

    ``sharing_bytes`` would be needed more if nothing were merged, ``shared_bytes`` hold what is, and
    ``unshared_bytes`` were found to be like no other. ``profit_bytes`` is the kernel's own account of the
    gain, its bookkeeping taken off: it can be negative, and None is a kernel without it (before Linux 6.4).
    ``advisor`` sets ``pages_to_scan`` ("none": nobody), None: a kernel without advisors (before 6.8).
    ``tuner`` is a service that starts and stops KSM by its own rules.
    """

    run: KsmRun
    pages_to_scan: int
    sleep_seconds: float
    shared_bytes: int
    sharing_bytes: int
    unshared_bytes: int
    full_scans: int
    profit_bytes: int | None = None
    advisor: str | None = None
    across_nodes: bool = True
    tuner: str | None = None

    @property
    def gain_bytes(self) -> int:
        """What merging brings the host at present."""
        return self.sharing_bytes if self.profit_bytes is None else self.profit_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The host itself.

    ``mem_available_bytes`` is the kernel's MemAvailable, which knows neither ZFS's cache nor limits of
    cgroups: what guests can get is in the budget. ``lru_bytes`` is what reclaim works on: memory of processes
    and files. The rest is free or the kernel's. ``cpu_pressure`` is of waiting for a CPU. ``migration``:
    DAMON can move a process's memory to another node, None: not tried. ``huge_pages``: None, not known.
    ``arc``, ``zram``, ``zswap``, ``ksm`` and ``swap_traffic``: None: not there, or unreadable (a gap).
    ``swap_unread`` is why ``swap`` is not known. ``swap_leaving_bytes`` are being turned off.
    """

    name: str
    kernel: str
    boot_id: str
    total_bytes: int
    mem_available_bytes: int
    lru_bytes: int
    shmem_bytes: int
    swap: tuple[SwapArea, ...]
    pressure: Pressure | None
    cpu_pressure: Pressure | None = None
    nodes: tuple[MemoryNode, ...] = ()
    migration: bool | None = None
    huge_pages: HugePages | None = None
    arc: Arc | None = None
    zram: Compressed | None = None
    zswap: Zswap | None = None
    ksm: KsmFacts | None = None
    swap_traffic: SwapTraffic | None = None
    swap_leaving_bytes: int = 0
    swap_unread: str | None = None

    def node(self, nid: int) -> MemoryNode | None:
        """The memory node of that number."""
        return next((node for node in self.nodes if node.nid == nid), None)

    @property
    def zram_used_bytes(self) -> int:
        """Memory that zram devices themselves occupy."""
        return self.zram.used_bytes if self.zram else 0

    @property
    def swap_total_bytes(self) -> int:
        """Capacity of all swap areas."""
        return sum(area.size_bytes for area in self.swap)

    @property
    def swap_used_bytes(self) -> int:
        """Bytes in use on all swap areas."""
        return sum(area.used_bytes for area in self.swap)

    @property
    def swap_free_bytes(self) -> int:
        """Room left on all swap areas."""
        return self.swap_total_bytes - self.swap_used_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Host and domains at ``taken_at`` (seconds since the epoch)."""

    taken_at: float
    host: HostFacts
    domains: tuple[DomainFacts, ...]
    gaps: tuple[Gap, ...] = ()

    @property
    def without_places(self) -> Snapshot:
        """The same with the sums only of what lies where, which takes far less memory to keep."""
        thin = (
            dataclasses.replace(domain, residency=domain.residency.without_places)
            if domain.residency
            else domain
            for domain in self.domains
        )
        return dataclasses.replace(self, domains=tuple(thin))
