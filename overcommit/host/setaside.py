"""Memory that MemAvailable says nothing about: set aside as huge pages, or in ZFS's cache."""

from __future__ import annotations

import re

from overcommit.errors import Unreadable
from overcommit.host.figures import number, read_number
from overcommit.host.kernel import Kernel
from overcommit.model.accounts import Arc, HugePages
from overcommit.units import KIB

HUGE_PAGES = "/sys/kernel/mm/hugepages"
ARC = "/proc/spl/kstat/zfs/arcstats"


def read_huge_pages(kernel: Kernel) -> HugePages:
    """All sizes together; a kernel without huge pages (CONFIG_HUGETLBFS) has set none aside.

    ``nr_hugepages`` and ``free_hugepages`` per size, surplus pages counted in
    (Documentation/admin-guide/mm/hugetlbpage.rst). MemTotal counts them, MemAvailable does not, and
    ``HugePages_Total`` in ``/proc/meminfo`` knows the default size only.

    Raises:
        OSError: a size is there, but cannot be read.
        Unreadable: a count of it is no number.
    """
    total = free = 0
    for name in kernel.list(HUGE_PAGES) if kernel.exists(HUGE_PAGES) else ():
        if match := re.fullmatch(r"hugepages-([0-9]{1,12})kB", name):
            size = int(match[1]) * KIB
            total += read_number(kernel, f"{HUGE_PAGES}/{name}/nr_hugepages") * size
            free += read_number(kernel, f"{HUGE_PAGES}/{name}/free_hugepages") * size
    return HugePages(total_bytes=total, free_bytes=free)


def read_arc(kernel: Kernel) -> Arc | None:
    """ZFS's cache, None without ZFS: ``size`` and ``c_min`` of its kstat, in bytes.

    Raises:
        OSError: it is there, but cannot be read.
        Unreadable: it has other rows than OpenZFS 2.x writes.
    """
    if not kernel.exists(ARC):
        return None
    rows = dict(re.findall(r"^(\w+) +[0-9]+ +([0-9]+)$", kernel.read(ARC), re.MULTILINE))
    if not {"size", "c_min"} <= rows.keys():
        raise Unreadable(f"no size and c_min in {ARC}")
    return Arc(size_bytes=number(rows["size"], ARC), minimum_bytes=number(rows["c_min"], ARC))
