"""A process's cgroup v2 memory figures.

Libvirt puts QEMU's threads into threaded children of ``…scope/libvirt``, which carry no memory files:
the charge goes to the nearest ancestor that has them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_pressure
from overcommit.model.accounts import CgroupLimit, Charge
from overcommit.model.facts import CgroupMemory, CgroupSigns

ROOT = "/sys/fs/cgroup"
_SWAPPINESS = ("max", "200")
"""Anonymous memory only (``max``: Linux 6.16), or as good as only (6.9): QEMU's code and files shall stay."""


def read_cgroup(kernel: Kernel, pid: int) -> CgroupMemory | None:
    """The memory figures of the process's domain cgroup; None without cgroup v2 or outside any group.

    Raises:
        OSError: the process or the cgroup vanished while being read.
    """
    path = _charged_group(kernel, kernel.read(f"/proc/{pid}/cgroup"))
    if path is None:
        return None
    directory = ROOT + path
    statistics = _statistics(kernel, directory)
    signs = _signs(kernel, directory, statistics)
    return CgroupMemory(
        path=path,
        current_bytes=int(kernel.read(f"{directory}/memory.current")),
        swap_bytes=signs.swap_bytes,
        major_faults=int(statistics.get("pgmajfault", "0")),
        promoted_pages=signs.promoted_pages,
        anon_refaults=int(statistics.get("workingset_refault_anon", "0")),
        reclaim=kernel.exists(f"{directory}/memory.reclaim"),
        # In the root of a threaded subtree, as libvirt makes it, this names the processes of all of it.
        shared=kernel.read(f"{directory}/cgroup.procs").split() != [str(pid)],
        pressure=signs.pressure,
        charge=_charge(statistics),
    )


def read_signs(kernel: Kernel, path: str) -> CgroupSigns:
    """What a domain feels now, by the cgroup that `read_cgroup` found it in.

    Raises:
        OSError: the cgroup vanished.
    """
    directory = ROOT + path
    return _signs(kernel, directory, _statistics(kernel, directory))


def read_limit(kernel: Kernel, path: str, *, own: bool) -> CgroupLimit | None:
    """What a cgroup may be charged at most, None: as much as there is.

    Above ``memory.high`` the kernel reclaims and throttles, at ``memory.max`` it kills
    (Documentation/admin-guide/cgroup-v2.rst): a guest gets no further than the lower of the two.

    Raises:
        OSError: the cgroup vanished.
    """
    directory = ROOT + path
    limits = []
    for name in ("memory.max", "memory.high"):
        try:
            limits.append((kernel.read(f"{directory}/{name}").strip(), name))
        except FileNotFoundError:  # memory is not accounted for at this level
            continue
    numbers = [(int(limit), name) for limit, name in limits if limit != "max"]
    if not numbers:
        return None
    limit, name = min(numbers)
    statistics = _statistics(kernel, directory)
    return CgroupLimit(
        path=path,
        file=name,
        limit_bytes=limit,
        current_bytes=int(kernel.read(f"{directory}/memory.current")),
        # Shared memory, which is no cache to drop, lies on the anonymous lists.
        cache_bytes=int(statistics["active_file"]) + int(statistics["inactive_file"]),
        own=own,
    )


def groups_above(path: str) -> tuple[tuple[str, bool], ...]:
    """A domain's cgroup and those it lies in, nearest first, with whether it is the domain's own.

    The scope that systemd made for a domain is its own as well as what libvirt made below.
    """
    groups: list[tuple[str, bool]] = []
    own = True
    while path:
        own = own and (not groups or path.endswith(".scope"))
        groups.append((path, own))
        path = path.rpartition("/")[0]
    return tuple(groups)


def reclaim(kernel: Kernel, path: str, most_bytes: int) -> None:
    """Have the kernel take up to that much of a group's least recently used anonymous memory.

    It looks at each page's accessed bits (a guest's too) before it takes it, and may find less than was
    asked: that is no error here, and what was taken must be read elsewhere.
    Documentation/admin-guide/cgroup-v2.rst, memory.reclaim.

    Raises:
        OSError: the group vanished, or the kernel refused.
    """
    for swappiness in _SWAPPINESS:
        try:
            kernel.write(f"{ROOT}{path}/memory.reclaim", f"{most_bytes} swappiness={swappiness}")
        except OSError as error:
            if error.errno == errno.EINVAL and swappiness != _SWAPPINESS[-1]:
                continue
            if error.errno != errno.EAGAIN:
                raise
        return


def _signs(kernel: Kernel, directory: str, statistics: Mapping[str, str]) -> CgroupSigns:
    try:
        swap_bytes = int(kernel.read(f"{directory}/memory.swap.current"))
    except FileNotFoundError:  # swap is not accounted for
        swap_bytes = 0
    # Counted per group since Linux 6.13; before that a major fault is the nearest thing.
    promoted = statistics.get("pswpin") or statistics.get("pgmajfault", "0")
    return CgroupSigns(
        swap_bytes=swap_bytes,
        promoted_pages=int(promoted),
        pressure=read_pressure(kernel, f"{directory}/memory.pressure"),
    )


def _statistics(kernel: Kernel, directory: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in kernel.read(f"{directory}/memory.stat").splitlines())


def _charge(statistics: Mapping[str, str]) -> Charge | None:
    """By kind, where the kernel names them all (``kernel``: since Linux 5.18).

    ``file`` counts shared memory in, as it has page cache.
    """
    try:
        anon, file, shmem, kernel = (int(statistics[name]) for name in ("anon", "file", "shmem", "kernel"))
    except KeyError:
        return None
    return Charge(anon_bytes=anon, shmem_bytes=shmem, cache_bytes=max(0, file - shmem), kernel_bytes=kernel)


def _charged_group(kernel: Kernel, membership: str) -> str | None:
    match = re.search(r"^0::(/.*)$", membership, re.MULTILINE)
    path = match[1] if match else ""
    while path and path != "/":
        if kernel.exists(f"{ROOT}{path}/memory.current"):
            return path
        path = path.rsplit("/", 1)[0]
    return None
