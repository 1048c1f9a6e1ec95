"""What was read of the host and its domains at one moment, without any judgement.

A value that could not be read is a `Gap`: data, never 0, and never an exception that spoils the rest.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from overcommit.model.accounts import Arc, CgroupLimit, Charge, Compressed, HugePages, Zswap
from overcommit.model.blocks import MemoryFacts, Part, VirtioMemDevice, storage_bytes
from overcommit.model.moments import Wall
from overcommit.model.nodes import MemoryNode, NodeBinding
from overcommit.model.ranges import Range, total_size
from overcommit.model.swap import SwapArea, SwapTraffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A value that could not be read, and why."""

    what: str
    why: str


MIGRATION_AWAY = "a migration to another host"
"""`DomainFacts.busy_with` of a domain that migrates to another host."""


class RunState(enum.Enum):
    """A domain's run state, as far as reclaim depends on it."""

    RUNNING = "running"
    PAUSED = "paused"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """One run of a domain. A restart, or a reused pid, is another incarnation.

    ``start_time`` is field 22 of ``/proc/PID/stat`` (proc_pid_stat(5)) in clock ticks since boot.
    """

    uuid: str
    name: str
    pid: int
    start_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The memory part of the live domain XML.

    ``bound``: memory is bound to nodes of the host; ``bindings`` has those that are certain.
    ``maximum_bytes`` is RAM with the full size of virtio-mem devices, without the NVDIMMs and similar among
    the ``parts``. ``os`` is the guest's system by libosinfo's name, ``manager`` the program that made the
    domain; None: not stated. ``agent_connected`` None: no channel for an agent. ``claim`` has the sizes of
    balloon and devices before this program changed them, by the journal's names (`overcommit.apply.claims`).
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
        """The memory size that libvirt lists; NVDIMMs are included."""
        return self.maximum_bytes + storage_bytes(self.parts)

    @property
    def base_bytes(self) -> int:
        """RAM that is not virtio-mem: the most that a balloon can leave the guest."""
        return self.maximum_bytes - sum(device.size_bytes for device in self.virtio_mem)

    @property
    def plugged_bytes(self) -> int:
        """RAM that the guest has by virtio-mem. The balloon does not count it."""
        return sum(device.current_bytes for device in self.virtio_mem)

    @property
    def leaving_bytes(self) -> int:
        """Plugged bytes that the guest was asked to unplug and still has."""
        return sum(max(0, device.current_bytes - device.requested_bytes) for device in self.virtio_mem)

    def device(self, alias: str | None) -> VirtioMemDevice | None:
        """The virtio-mem device with that alias; None: there is none."""
        return next((device for device in self.virtio_mem if device.alias == alias), None)

    @property
    def windows(self) -> bool:
        """Whether the definition says that the guest is Windows."""
        return "microsoft.com" in (self.os or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What the guest's agent answered.

    ``commands`` are those that it carries out. ``reclaims``: DAMON_RECLAIM is on; None: not in its kernel.
    ``trouble``: why there is no answer.
    """

    commands: frozenset[str] = frozenset()
    reclaims: bool | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonStats:
    """The last statistics of the guest's balloon driver (untrusted input, rule S8).

    ``actual_bytes`` is the guest's memory less the balloon, without virtio-mem; the guest's other figures
    include virtio-mem. ``age_seconds`` is host time since the driver's answer; None: none since the boot.
    ``usable_bytes`` is MemAvailable, ``unused_bytes`` MemFree. ``doubts`` names implausible figures; those
    are None.
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
    """Pressure stall information: ratios and total seconds of stall (Documentation/accounting/psi.rst)."""

    some_avg10: float
    some_avg60: float
    some_total_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupSigns:
    """The figures of a `CgroupMemory` that show pressure on a domain; cheap enough to read every tick."""

    swap_bytes: int
    promoted_pages: int
    pressure: Pressure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupMemory:
    """Memory figures of the domain's cgroup (v2).

    ``promoted_pages`` came back from swap. ``reclaim``: it has ``memory.reclaim``. ``shared``: other
    processes (``others``, pids) are charged to it, so that memory taken from it may be theirs; ``common``:
    other domains too. ``charge`` None: the kernel does not tell the kinds apart.
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
    """Which parts of guest RAM are in memory, how much that is, and how much is in swap.

    Of the resident bytes, ``huge_bytes`` were set aside, and ``cached_bytes`` are pages of a file itself.
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
        """The same with the sums only, which takes little memory."""
        return dataclasses.replace(self, resident=())


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFacts(MemoryFacts):
    """One running domain.

    ``residency`` covers the ranges to monitor. ``placement`` has the guest's bytes by memory node, where the
    host has several; ``allowed_nodes`` are those that QEMU may use; None: not known. ``limits`` (of memory)
    and ``swap_limits`` are those of its cgroup and the cgroups above, nearest first; None: not known.
    ``agent`` is None unless its class allowed to ask. ``merged_bytes`` may be merged by KSM; None: the kernel
    does not tell.
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
        """The most of the host's memory that its RAM can occupy, huge pages included."""
        return max(0, self.definition.maximum_bytes - self.elsewhere_bytes)

    @property
    def promised_bytes(self) -> int:
        """The most of the host's ordinary memory that its RAM can occupy.

        Huge pages were set aside before.
        """
        if not self.blocks and self.definition.hugepages:
            return 0
        return max(0, self.memory_bytes - self.huge_bytes)

    @property
    def held_bytes(self) -> int:
        """Ordinary memory that its RAM occupies now, guest_memfd included; 0 where it is not known."""
        found = self.residency
        known = max(0, found.resident_bytes - found.huge_bytes - found.cached_bytes) if found else 0
        return known + (self._hidden_bytes if found else 0)

    @property
    def _hidden_bytes(self) -> int:
        charge = self.cgroup.charge if self.cgroup else None
        return charge.hidden_bytes if charge and self.in_guest_memfd else 0

    @property
    def overhead_bytes(self) -> int | None:
        """Memory of QEMU and helpers beyond guest RAM, without cache and huge pages; None: not known."""
        charge = self.cgroup.charge if self.cgroup else None
        theirs = self.cgroup is not None and self.cgroup.shared and not self.only_helpers
        if charge is None or theirs or not self.guest_ram or not self.residency:
            return None
        return max(0, charge.held_bytes + self._hidden_bytes - self.held_bytes)


class KsmRun(enum.Enum):
    """The values of ``/sys/kernel/mm/ksm/run``."""

    STOPPED = 0
    """No scan; merged pages stay merged."""
    RUNNING = 1
    UNMERGED = 2
    """No scan, and all merged pages are separate again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmFacts:
    """Kernel same-page merging (KSM) of the host (Documentation/admin-guide/mm/ksm.rst).

    ``sharing_bytes`` is what merging saves, ``shared_bytes`` holds the merged pages, ``unshared_bytes`` equal
    no other page. ``profit_bytes`` is ``general_profit``: the gain less bookkeeping, possibly negative; None:
    before Linux 6.4. ``advisor`` sets ``pages_to_scan`` ("none": nothing does); None: before Linux 6.8.
    ``tuner`` is a service that starts and stops KSM.
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
        """Bytes that merging saves the host now."""
        return self.sharing_bytes if self.profit_bytes is None else self.profit_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The host.

    ``mem_available_bytes`` is MemAvailable, which counts neither ZFS's cache nor limits of cgroups.
    ``lru_bytes`` is memory of processes and files. ``cpu_pressure`` is time spent waiting for a CPU.
    ``migration``: DAMON can move a process's memory to another node; None: not tried. ``arc``, ``zram``,
    ``zswap``, ``ksm``, ``swap_traffic`` and ``huge_pages`` None: not there, or not readable (a gap).
    ``swap_unread`` is why ``swap`` is not known. ``swap_leaving_bytes`` are on areas that are being turned
    off.
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
        """The memory node with that number; None: there is none."""
        return next((node for node in self.nodes if node.nid == nid), None)

    @property
    def zram_used_bytes(self) -> int:
        """Memory that zram devices occupy."""
        return self.zram.used_bytes if self.zram else 0

    @property
    def swap_total_bytes(self) -> int:
        """Size of all swap areas."""
        return sum(area.size_bytes for area in self.swap)

    @property
    def swap_used_bytes(self) -> int:
        """Bytes in use on all swap areas."""
        return sum(area.used_bytes for area in self.swap)

    @property
    def swap_free_bytes(self) -> int:
        """Free bytes on all swap areas."""
        return self.swap_total_bytes - self.swap_used_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Host and domains at ``taken_at`` (seconds since the epoch)."""

    taken_at: Wall
    host: HostFacts
    domains: tuple[DomainFacts, ...]
    gaps: tuple[Gap, ...] = ()

    @property
    def without_places(self) -> Snapshot:
        """The same without the address ranges, which takes far less memory."""
        thin = (
            dataclasses.replace(domain, residency=domain.residency.without_places)
            if domain.residency
            else domain
            for domain in self.domains
        )
        return dataclasses.replace(self, domains=tuple(thin))
