"""Memory nodes (NUMA): the free memory of each, and how much of a domain lies on each."""

from __future__ import annotations

import re

from overcommit.errors import Unreadable
from overcommit.host.cgroup import ROOT
from overcommit.host.figures import excerpt, number
from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_meminfo
from overcommit.model.facts import Gap
from overcommit.model.nodes import MemoryNode
from overcommit.units import parse_nodes

_DROPPABLE = ("Active(file)", "Inactive(file)", "SReclaimable")
"""The fields that MemAvailable counts beside free memory (mm/show_mem.c, si_mem_available)."""
DIRECTORY = "/sys/devices/system/node"


def read_nodes(kernel: Kernel) -> tuple[tuple[MemoryNode, ...], tuple[Gap, ...]]:
    """The online nodes with memory, by number, and a gap for each that cannot be read.

    Empty on a kernel without NUMA. See Documentation/ABI/stable/sysfs-devices-node.
    """
    nodes, gaps = [], []
    try:
        names = kernel.list(DIRECTORY)
    except FileNotFoundError:
        names = ()
    for nid in sorted(int(match[1]) for name in names if (match := re.fullmatch(r"node([0-9]{1,5})", name))):
        try:
            text = kernel.read(f"{DIRECTORY}/node{nid}/meminfo")
            figures = parse_meminfo(re.sub(r"^Node \d+ ", "", text, flags=re.MULTILINE))
        except OSError as error:
            gaps.append(Gap(what=f"memory node {nid}", why=str(error)))
            continue
        if not {"MemTotal", "MemFree"} <= figures.keys():
            gaps.append(Gap(what=f"memory node {nid}", why="its meminfo has no MemTotal and MemFree"))
            continue
        node = MemoryNode(
            nid=nid,
            total_bytes=figures["MemTotal"],
            free_bytes=figures["MemFree"],
            droppable_bytes=sum(figures.get(name, 0) for name in _DROPPABLE),
        )
        if node.total_bytes:
            nodes.append(node)
    return tuple(nodes), tuple(gaps)


def read_allowed(kernel: Kernel, pid: int) -> frozenset[int] | None:
    """The nodes that a process may use, by its cpuset; None where the kernel does not tell.

    ``Mems_allowed_list`` of ``/proc/PID/status`` (Documentation/filesystems/proc.rst).

    Raises:
        OSError: the process has exited.
        Unreadable: the value is not a list of nodes.
    """
    match = re.search(r"^Mems_allowed_list:[ \t]*(.*)$", kernel.read(f"/proc/{pid}/status"), re.MULTILINE)
    if match is None:
        return None
    try:
        return parse_nodes(match[1])
    except ValueError as error:
        raise Unreadable(f"Mems_allowed_list of process {pid}: {excerpt(match[1])}") from error


def read_placement(kernel: Kernel, cgroup_path: str) -> dict[int, int]:
    """Bytes of guest memory by node: anonymous and shared memory that is charged to a cgroup.

    Guest RAM is one or the other. QEMU's own anonymous memory, a few MiB, is included. See memory.numa_stat
    in Documentation/admin-guide/cgroup-v2.rst.

    Raises:
        OSError: the cgroup vanished, or the kernel has no NUMA.
        Unreadable: memory.numa_stat is malformed.
    """
    placement: dict[int, int] = {}
    for line in kernel.read(f"{ROOT}{cgroup_path}/memory.numa_stat").split("\n"):
        kind, *figures = line.split(" ")
        for figure in figures if kind in {"anon", "shmem"} else ():
            match = re.fullmatch(r"N([0-9]{1,5})=(.*)", figure)
            if match is None:
                raise Unreadable(f"memory.numa_stat has a figure of no node: {excerpt(figure)}")
            placement[int(match[1])] = placement.get(int(match[1]), 0) + number(match[2], "memory.numa_stat")
    return placement
