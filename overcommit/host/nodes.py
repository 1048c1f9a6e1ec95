"""Memory nodes: what each has free, and how much of a domain lies on each."""

from __future__ import annotations

import re

from overcommit.host.cgroup import ROOT
from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_meminfo
from overcommit.model.facts import Gap, MemoryNode

DIRECTORY = "/sys/devices/system/node"


def read_nodes(kernel: Kernel) -> tuple[tuple[MemoryNode, ...], tuple[Gap, ...]]:
    """The nodes that are online and have memory, by number, and those that cannot be read.

    Documentation/ABI/stable/sysfs-devices-node. None at all on a kernel that knows no nodes.
    """
    nodes, gaps = [], []
    try:
        names = kernel.list(DIRECTORY)
    except FileNotFoundError:
        names = ()
    for nid in sorted(int(match[1]) for name in names if (match := re.fullmatch(r"node(\d+)", name))):
        try:
            text = kernel.read(f"{DIRECTORY}/node{nid}/meminfo")
            figures = parse_meminfo(re.sub(r"^Node \d+ ", "", text, flags=re.MULTILINE))
            node = MemoryNode(nid=nid, total_bytes=figures["MemTotal"], free_bytes=figures["MemFree"])
        except (OSError, KeyError) as error:
            gaps.append(Gap(what=f"memory node {nid}", why=str(error)))
            continue
        if node.total_bytes:
            nodes.append(node)
    return tuple(nodes), tuple(gaps)


def read_placement(kernel: Kernel, cgroup_path: str) -> dict[int, int]:
    """Bytes of guest memory by node: what a cgroup is charged for anonymous and shared memory.

    Documentation/admin-guide/cgroup-v2.rst, memory.numa_stat. Guest RAM is one or the other; QEMU's own
    anonymous memory, a few MiB, is counted as well.

    Raises:
        OSError: the cgroup vanished, or its kernel knows no nodes.
    """
    placement: dict[int, int] = {}
    for line in kernel.read(f"{ROOT}{cgroup_path}/memory.numa_stat").splitlines():
        kind, *figures = line.split()
        for figure in figures if kind in {"anon", "shmem"} else ():
            node, _, size = figure.removeprefix("N").partition("=")
            placement[int(node)] = placement.get(int(node), 0) + int(size)
    return placement
