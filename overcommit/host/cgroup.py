"""Memory figures of a process's cgroup (v2).

Libvirt puts QEMU's threads into threaded children of ``…scope/libvirt``, which have no memory files. Their
memory is charged to the nearest ancestor that has them.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from overcommit.errors import Unreadable
from overcommit.host.figures import number, numbers, read_number, row, rows, rows_named
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_pressure, read_total
from overcommit.host.swap import read_zswap
from overcommit.model.accounts import CgroupLimit, Charge, Compressed, Zswap, kept_share
from overcommit.model.facts import CgroupMemory, CgroupSigns

ROOT = "/sys/fs/cgroup"
_STAT = "memory.stat"
_KINDS = frozenset({"anon", "file", "shmem", "kernel"})
_POD = re.compile(r"/(?:kubepods[a-z-]*-)?pod[0-9a-f_-]+(?:\.slice)?$")
"""The cgroup of a pod, by either of kubelet's cgroup drivers."""
_POOL = "zswap"
_PROMOTED = ("pswpin", "pgmajfault")
"""Counters of promotions. ``pswpin`` is per cgroup since Linux 6.13; before that a major fault is the closest
counter.
"""
_SWAPPINESS = ("max", "200")
"""Reclaim anonymous memory only (``max``: Linux 6.16) or almost only (200: Linux 6.9), so that QEMU's code
and files stay.
"""


def read_cgroup(kernel: Kernel, pid: int) -> CgroupMemory | None:
    """The memory figures of the process's domain cgroup; None without cgroup v2 or outside of any cgroup.

    Raises:
        OSError: the process or the cgroup vanished meanwhile.
        Unreadable: one of the cgroup's files is malformed, or it is outside of our cgroup namespace.
    """
    path = _charged_group(kernel, kernel.read(f"/proc/{pid}/cgroup"))
    if path is None:
        return None
    directory = ROOT + path
    statistics = _statistics(kernel, directory)
    signs = _signs(kernel, directory, statistics)
    # In the root of a threaded subtree, as libvirt makes it, this names the processes of all of it.
    processes = numbers(kernel.read(f"{directory}/cgroup.procs"), "cgroup.procs", at_least=0)
    return CgroupMemory(
        path=path,
        current_bytes=read_number(kernel, f"{directory}/memory.current"),
        swap_bytes=signs.swap_bytes,
        major_faults=_counted(statistics, "pgmajfault"),
        promoted_pages=signs.promoted_pages,
        anon_refaults=_counted(statistics, "workingset_refault_anon"),
        reclaim=kernel.exists(f"{directory}/memory.reclaim"),
        shared=processes != (pid,),
        common=pid not in processes,
        others=tuple(each for each in processes if each != pid),
        pressure=signs.pressure,
        charge=_charge(statistics),
    )


def read_signs(kernel: Kernel, path: str) -> CgroupSigns:
    """The pressure figures of the cgroup that `read_cgroup` found.

    Raises:
        OSError: the cgroup vanished.
        Unreadable: one of its files is malformed.
    """
    directory = ROOT + path
    statistics = rows_named(kernel.read(f"{directory}/{_STAT}"), _PROMOTED)
    return _signs(kernel, directory, statistics)


def read_limit(kernel: Kernel, path: str, *, own: bool) -> CgroupLimit | None:
    """The memory limit of a cgroup; None: no limit.

    It is the lower of ``memory.high``, above which the kernel reclaims and throttles, and ``memory.max``, at
    which it kills (Documentation/admin-guide/cgroup-v2.rst).

    Raises:
        OSError: the cgroup vanished.
        Unreadable: one of its files is malformed.
    """
    limit = _lowest(kernel, path, ("memory.max", "memory.high"), own=own)
    if limit is None:
        return None
    statistics = _statistics(kernel, ROOT + path)
    return dataclasses.replace(
        limit,
        current_bytes=read_number(kernel, f"{ROOT}{path}/memory.current"),
        # Shared memory, which is no cache to drop, lies on the anonymous lists.
        cache_bytes=row(statistics, "active_file", _STAT) + row(statistics, "inactive_file", _STAT),
    )


def read_swap_limit(kernel: Kernel, path: str, *, own: bool) -> CgroupLimit | None:
    """The swap limit of a cgroup; None: no limit.

    At ``memory.swap.max`` anonymous memory is no longer swapped out. Above ``memory.swap.high`` each further
    allocation of the cgroup is throttled (Documentation/admin-guide/cgroup-v2.rst).

    Raises:
        OSError: the cgroup vanished.
        Unreadable: one of its files is malformed.
    """
    limit = _lowest(kernel, path, ("memory.swap.max", "memory.swap.high"), own=own)
    if limit is None:
        return None
    return dataclasses.replace(limit, current_bytes=read_number(kernel, f"{ROOT}{path}/memory.swap.current"))


def read_zswap_limit(kernel: Kernel, path: str, pool: Compressed, *, own: bool) -> CgroupLimit | None:
    """How much compressed memory of a cgroup zswap may hold (``memory.zswap.max``); None: no limit.

    Above the limit zswap takes nothing, and what it refuses goes to the swap device
    (Documentation/admin-guide/cgroup-v2.rst).

    Raises:
        OSError: the cgroup vanished.
        Unreadable: one of its files is malformed.
    """
    limit = _lowest(kernel, path, ("memory.zswap.max",), own=own)
    if limit is None:
        return None
    statistics = rows(kernel.read(f"{ROOT}{path}/{_STAT}"))
    used = row(statistics, "zswap", _STAT)
    of_group = Compressed(stored_bytes=row(statistics, "zswapped", _STAT), used_bytes=used)
    return dataclasses.replace(
        limit, current_bytes=used, share=kept_share(of_group if of_group.tells else pool)
    )


class Limits(NamedTuple):
    """The limits of a domain's cgroup and of those above, nearest first."""

    memory: tuple[CgroupLimit, ...]
    swap: tuple[CgroupLimit, ...]


NO_LIMITS = Limits((), ())


class OfOne(NamedTuple):
    """The limits of one cgroup. ``off_disk``: zswap must not write back to a swap device."""

    memory: CgroupLimit | None
    swap: CgroupLimit | None
    off_disk: bool


def read_limits(
    kernel: Kernel, path: str, known: dict[str, OfOne] | None = None, *, common: bool = False
) -> Limits:
    """The limits of a domain's cgroup and of those above it.

    ``known`` caches cgroups that were read already; new ones are added to it. ``common``: the cgroup holds
    other domains too.

    Raises:
        OSError: the cgroup vanished.
        Unreadable: one of its files is malformed.
    """
    known = {} if known is None else known
    above = groups_above(path, common=common)
    for group, own in above:
        if group not in known:
            known[group] = OfOne(
                memory=read_limit(kernel, group, own=own),
                swap=read_swap_limit(kernel, group, own=own),
                off_disk=_stays_off_disk(kernel, group),
            )
    found = [known[group] for group, _ in above]
    swap = [each.swap for each in found]
    off_disk = next((group for group, _ in above if known[group].off_disk), None)
    zswap = read_zswap(kernel) if off_disk is not None else None
    if off_disk is not None and zswap is not None and zswap.enabled:
        limits = [read_zswap_limit(kernel, group, zswap.pool, own=own) for group, own in above]
        whole = _whole_pool(zswap, read_total(kernel))
        swap = [
            _tighter(limit, other and dataclasses.replace(other, off_disk=off_disk))
            for limit, other in zip((*swap, None), (*limits, whole), strict=True)
        ]
    return Limits(
        memory=tuple(each.memory for each in found if each.memory is not None),
        swap=tuple(limit for limit in swap if limit is not None),
    )


def _stays_off_disk(kernel: Kernel, path: str) -> bool:
    """Whether ``memory.zswap.writeback`` is 0 (since Linux 6.8): what zswap refuses stays in memory.

    It applies to the cgroups below too. It has no effect while zswap is off
    (Documentation/admin-guide/cgroup-v2.rst).
    """
    try:
        return read_number(kernel, f"{ROOT}{path}/memory.zswap.writeback") == 0
    except FileNotFoundError:
        return False


def _whole_pool(zswap: Zswap, total_bytes: int) -> CgroupLimit:
    """The limit of zswap's pool for the whole host, as a limit that all cgroups share."""
    return CgroupLimit(
        path=_POOL,
        file="max_pool_percent",
        limit_bytes=round(zswap.most * total_bytes),
        current_bytes=zswap.pool.used_bytes,
        cache_bytes=0,
        own=False,
        share=kept_share(zswap.pool),
    )


def _tighter(one: CgroupLimit | None, other: CgroupLimit | None) -> CgroupLimit | None:
    """The limit of one cgroup that leaves less room. Each paged-out page counts for both."""
    return min(
        (limit for limit in (one, other) if limit is not None),
        key=lambda limit: limit.room_bytes,
        default=None,
    )


def _lowest(kernel: Kernel, path: str, names: Iterable[str], *, own: bool) -> CgroupLimit | None:
    """The lowest limit that one of the files sets, with nothing charged yet; None: no limit.

    A missing file belongs to a level without accounting.
    """
    limits = []
    for name in names:
        try:
            limits.append((kernel.read(f"{ROOT}{path}/{name}").strip(), name))
        except FileNotFoundError:
            continue
    figures = [(number(limit, f"{ROOT}{path}/{name}"), name) for limit, name in limits if limit != "max"]
    if not figures:
        return None
    size, file = min(figures)
    return CgroupLimit(path=path, file=file, limit_bytes=size, current_bytes=0, cache_bytes=0, own=own)


def groups_above(path: str, *, common: bool = False) -> tuple[tuple[str, bool], ...]:
    """A domain's cgroup and those above it, nearest first, each with whether it is the domain's own.

    The scope that systemd made for the domain is its own, and so is the pod that it runs in. ``common``: the
    cgroup holds other domains too, and none is its own.
    """
    groups: list[tuple[str, bool]] = []
    own = not common
    while path:
        own = own and (not groups or path.endswith(".scope") or _POD.search(path) is not None)
        groups.append((path, own))
        path = path.rpartition("/")[0]
    return tuple(groups)


def reclaim(kernel: Kernel, path: str, most_bytes: int) -> None:
    """Have the kernel reclaim up to ``most_bytes`` of a cgroup's least recently used anonymous memory.

    The kernel checks each page's accessed bits, the guest's included, before it takes the page. It may find
    less than it was asked for; that is not an error here. The amount taken has to be read elsewhere. See
    memory.reclaim in Documentation/admin-guide/cgroup-v2.rst.

    Raises:
        OSError: the cgroup vanished, or the kernel refused.
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


def reclaims_anonymous_only(kernel: Kernel, path: str) -> bool:
    """Whether a reclaim of this cgroup can be limited to anonymous memory: ``swappiness=max``, Linux 6.16.

    It is asked to reclaim nothing.

    Raises:
        OSError: the cgroup vanished, or the kernel refused for another reason.
    """
    try:
        kernel.write(f"{ROOT}{path}/memory.reclaim", f"0 swappiness={_SWAPPINESS[0]}")
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def _signs(kernel: Kernel, directory: str, statistics: Mapping[str, str]) -> CgroupSigns:
    try:
        swap_bytes = read_number(kernel, f"{directory}/memory.swap.current")
    except FileNotFoundError:  # swap is not accounted for
        swap_bytes = 0
    promoted = next((name for name in _PROMOTED if name in statistics), _PROMOTED[-1])
    return CgroupSigns(
        swap_bytes=swap_bytes,
        promoted_pages=_counted(statistics, promoted),
        pressure=read_pressure(kernel, f"{directory}/memory.pressure"),
    )


def _statistics(kernel: Kernel, directory: str) -> dict[str, str]:
    return rows(kernel.read(f"{directory}/{_STAT}"))


def _counted(statistics: Mapping[str, str], name: str) -> int:
    """A counter; 0 where this kernel does not have it."""
    return row(statistics, name, _STAT) if name in statistics else 0


def _charge(statistics: Mapping[str, str]) -> Charge | None:
    """The charge by kind, where the kernel names all kinds (``kernel``: since Linux 5.18).

    ``file`` includes shared memory, because shared memory is page cache.
    """
    if not statistics.keys() >= _KINDS:
        return None
    anon, file, shmem, kernel = (row(statistics, name, _STAT) for name in ("anon", "file", "shmem", "kernel"))
    told = statistics.keys() >= {"active_file", "inactive_file"}
    listed = sum(row(statistics, name, _STAT) for name in ("active_file", "inactive_file")) if told else file
    return Charge(
        anon_bytes=anon,
        shmem_bytes=shmem,
        cache_bytes=max(0, file - shmem),
        kernel_bytes=kernel,
        # guest_memfd's pages are page cache that the kernel keeps off the lists (virt/kvm/guest_memfd.c).
        hidden_bytes=max(0, file - shmem - listed),
    )


def _charged_group(kernel: Kernel, membership: str) -> str | None:
    match = re.search(r"^0::(/.*)$", membership, re.MULTILINE)
    path = match[1] if match else ""
    if ".." in path.split("/"):  # cgroup_namespaces(7)
        raise Unreadable("its cgroup is outside of this program's cgroup namespace")
    while path and path != "/":
        if kernel.exists(f"{ROOT}{path}/memory.current"):
            return path
        path = path.rsplit("/", 1)[0]
    return None
