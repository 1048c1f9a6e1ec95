"""The kernel's generations of pages (multi-gen LRU), and how to have it walk page tables for them.

``/sys/kernel/debug/lru_gen``, Documentation/admin-guide/mm/multigen_lru.rst: for each cgroup and memory node,
generations with their number, age in milliseconds, and anonymous and file pages. ``+ cgroup node generation
swappiness force`` walks the page tables of a cgroup, moves what was accessed to its youngest generation, and
begins a new one. Nothing is taken by that, and there is nothing to undo.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from overcommit.errors import Unreadable
from overcommit.host.kernel import Kernel
from overcommit.model.page_ages import Generation
from overcommit.units import PAGE_SIZE

PATH = "/sys/kernel/debug/lru_gen"
_SWAPPINESS = 200
"""Anonymous pages are to be walked, whatever the host's own setting says."""
_COLUMNS = 4


class Generations(NamedTuple):
    """Of one cgroup on one memory node, oldest first; the ``youngest`` has this number."""

    cgroup_id: int
    node: int
    youngest: int
    pages: tuple[Generation, ...]


def read_generations(kernel: Kernel, cgroups: Collection[str]) -> dict[str, list[Generations]]:
    """The generations of these cgroups, by path below the root of the hierarchy; others are left out.

    Raises:
        OSError: the kernel has no such file, debugfs is not mounted, or locked down.
        Unreadable: the file is not what it should be.
    """
    found: dict[str, list[Generations]] = {}
    cgroup: tuple[int, str] | None = None
    try:
        for line in kernel.read(PATH).splitlines():
            kind, _, rest = line.strip().partition(" ")
            if kind == "memcg":
                number, _, path = rest.strip().partition(" ")
                cgroup = (int(number), path.strip())
            elif cgroup is None or cgroup[1] not in cgroups:
                continue
            elif kind == "node":
                found.setdefault(cgroup[1], []).append(Generations(cgroup[0], int(rest), 0, ()))
            else:
                nodes = found[cgroup[1]]
                nodes[-1] = _with_row(nodes[-1], line)
    except (ValueError, KeyError, IndexError) as error:
        raise Unreadable(f"{PATH} is not what it should be: {error}") from error
    return found


def _with_row(known: Generations, line: str) -> Generations:
    columns = line.split()
    if len(columns) < _COLUMNS:
        raise ValueError(f"a generation has {len(columns)} columns")
    number, age_milliseconds, anon = int(columns[0]), int(columns[1]), int(columns[2])
    generation = Generation(age_milliseconds / 1000, max(0, anon) * PAGE_SIZE)
    return known._replace(youngest=number, pages=(*known.pages, generation))


def walk(kernel: Kernel, generations: Generations) -> None:
    """Have the kernel walk the page tables of a cgroup, and begin a generation.

    Where another walk was faster, there may be one generation more: Linux 7.3 takes older numbers too.

    Raises:
        OSError: it refuses: the cgroup is gone, or the kernel is locked down.
    """
    cgroup, node, youngest = generations.cgroup_id, generations.node, generations.youngest
    kernel.write(PATH, f"+ {cgroup} {node} {youngest} {_SWAPPINESS} 1\n")
