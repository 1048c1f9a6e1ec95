"""Memory nodes, in the words of Linux 6.12 and 7.3."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

import pytest

from overcommit.host.kernel import Kernel
from overcommit.host.nodes import DIRECTORY, read_nodes, read_placement
from overcommit.model.facts import Gap
from overcommit.model.nodes import MemoryNode
from overcommit.units import KIB

KernelWith = Callable[[Mapping[str, str | OSError]], Kernel]

MEMINFO = """
Node {0} MemTotal:        {1} kB
Node {0} MemFree:         {2} kB
Node {0} MemUsed:            9940 kB
Node {0} HugePages_Total:     0
"""
NUMA_STAT = """\
anon N0=109879296 N1=4096
file N0=58003456 N1=0
shmem N0=8192 N1=1000
anon_thp N0=2097152 N1=0
shmem_thp N0=4096 N1=4096
inactive_anon N0=1 N1=2
"""


def node(nid: int, total: int, free: int) -> dict[str, str | OSError]:
    return {f"{DIRECTORY}/node{nid}/meminfo": MEMINFO.format(nid, total, free)}


def test_nodes_are_read_in_bytes_and_by_number(kernel_with: KernelWith) -> None:
    others = {f"{DIRECTORY}/online": "0-10\n", f"{DIRECTORY}/power/control": "auto\n"}
    nodes, gaps = read_nodes(kernel_with(node(10, 4000, 3000) | node(2, 1031204, 1021264) | others))
    assert gaps == ()
    assert nodes == (
        MemoryNode(nid=2, total_bytes=1031204 * KIB, free_bytes=1021264 * KIB),
        MemoryNode(nid=10, total_bytes=4000 * KIB, free_bytes=3000 * KIB),
    )


def test_a_node_without_memory_is_none(kernel_with: KernelWith) -> None:
    nodes, _ = read_nodes(kernel_with(node(0, 4000, 3000) | node(1, 0, 0)))
    assert [n.nid for n in nodes] == [0]


@pytest.mark.parametrize(
    "content", [OSError(errno.EIO, "input/output error"), "Node 1 MemTotal: 5 kB\n"], ids=["EIO", "cut off"]
)
def test_a_node_that_cannot_be_read_is_a_gap_and_not_empty(
    kernel_with: KernelWith, content: str | OSError
) -> None:
    unreadable = {f"{DIRECTORY}/node1/meminfo": content}
    nodes, gaps = read_nodes(kernel_with(node(0, 4000, 3000) | unreadable))
    assert [n.nid for n in nodes] == [0]
    assert [gap.what for gap in gaps] == ["memory node 1"]
    assert isinstance(gaps[0], Gap)
    assert gaps[0].why


def test_a_kernel_that_knows_no_nodes_has_none(kernel_with: KernelWith) -> None:
    assert read_nodes(kernel_with({})) == ((), ())


def test_placement_is_anonymous_and_shared_memory_and_nothing_counted_twice(kernel_with: KernelWith) -> None:
    kernel = kernel_with({"/sys/fs/cgroup/a/b/memory.numa_stat": NUMA_STAT})
    assert read_placement(kernel, "/a/b") == {0: 109879296 + 8192, 1: 4096 + 1000}


def test_placement_that_cannot_be_read_is_an_error_not_a_zero(kernel_with: KernelWith) -> None:
    with pytest.raises(FileNotFoundError):
        read_placement(kernel_with({}), "/a/b")
