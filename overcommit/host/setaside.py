"""Memory that MemAvailable does not count as available: huge pages, and ZFS's cache."""

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
    """The huge pages of all sizes; 0 on a kernel without huge pages (CONFIG_HUGETLBFS).

    ``nr_hugepages`` and ``free_hugepages`` per size, surplus pages included
    (Documentation/admin-guide/mm/hugetlbpage.rst). MemTotal counts them, MemAvailable does not.
    ``HugePages_Total`` in ``/proc/meminfo`` has the default size only.

    Raises:
        OSError: a size exists, but cannot be read.
        Unreadable: a count is not a number.
    """
    total = free = 0
    for name in kernel.list(HUGE_PAGES) if kernel.exists(HUGE_PAGES) else ():
        if match := re.fullmatch(r"hugepages-([0-9]{1,12})kB", name):
            size = int(match[1]) * KIB
            total += read_number(kernel, f"{HUGE_PAGES}/{name}/nr_hugepages") * size
            free += read_number(kernel, f"{HUGE_PAGES}/{name}/free_hugepages") * size
    return HugePages(total_bytes=total, free_bytes=free)


def read_arc(kernel: Kernel) -> Arc | None:
    """ZFS's cache; None without ZFS. The figures are ``size`` and ``c_min`` of its kstat, in bytes.

    Raises:
        OSError: the kstat exists, but cannot be read.
        Unreadable: the kstat does not have the rows of OpenZFS 2.x.
    """
    if not kernel.exists(ARC):
        return None
    rows = dict(re.findall(r"^(\w+) +[0-9]+ +([0-9]+)$", kernel.read(ARC), re.MULTILINE))
    if not {"size", "c_min"} <= rows.keys():
        raise Unreadable(f"no size and c_min in {ARC}")
    return Arc(size_bytes=number(rows["size"], ARC), minimum_bytes=number(rows["c_min"], ARC))
