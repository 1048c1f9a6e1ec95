"""Memory of the whole host: ``/proc/meminfo``, swap areas, zram's memory, pressure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from overcommit.errors import HostError, Unreadable
from overcommit.host.block import unescaped
from overcommit.host.figures import excerpt, number, numbers
from overcommit.host.kernel import Kernel
from overcommit.model.accounts import Compressed
from overcommit.model.facts import Gap, HostFacts, Pressure
from overcommit.model.ranges import Range
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.units import KIB, PAGE_SIZE

_MEMINFO = "/proc/meminfo"
_NEEDED = ("MemTotal", "MemAvailable", "Active", "Inactive", "Unevictable", "Shmem")
_KINDS = {"partition": SwapKind.PARTITION, "file": SwapKind.FILE}
_ZRAM = re.compile(r"(.*/)?zram[0-9]+")
_SOME = re.compile(
    r"^some avg10=([0-9]{1,3}\.[0-9]{1,2}) avg60=([0-9]{1,3}\.[0-9]{1,2}) avg300=\S+ total=([0-9]{1,20})$",
    re.MULTILINE | re.ASCII,
)


def read_host(kernel: Kernel, gaps: list[Gap] | None = None) -> HostFacts:
    """The host's facts. An optional value that cannot be read is added to ``gaps``.

    Raises:
        OSError: ``/proc/meminfo`` cannot be read; without it nothing can be decided.
        Unreadable: ``/proc/meminfo`` does not say how much memory there is.
    """
    gaps = [] if gaps is None else gaps
    meminfo = parse_meminfo(kernel.read(_MEMINFO))
    missing = [name for name in _NEEDED if name not in meminfo]
    if missing:
        raise Unreadable(f"{_MEMINFO} has no {missing[0]}", hint=f"cat {_MEMINFO} shows what it has")
    swap: tuple[SwapArea, ...] = ()
    unread = None
    try:
        swap = read_swaps(kernel)
    except (OSError, Unreadable) as error:
        unread = str(error)
        gaps.append(Gap(what="swap", why=unread))
    # swapoff takes an area off SwapTotal first, and lists it until all is read back (mm/swapfile.c).
    leaving = sum(area.size_bytes for area in swap) - meminfo["SwapTotal"] if "SwapTotal" in meminfo else 0
    zram = None
    try:
        zram = read_zram(kernel, swap)
    except (OSError, Unreadable) as error:
        gaps.append(Gap(what="zram", why=str(error)))
    return HostFacts(
        name=kernel.read("/proc/sys/kernel/hostname").strip(),
        kernel=kernel.read("/proc/sys/kernel/osrelease").strip(),
        boot_id=read_boot_id(kernel),
        total_bytes=meminfo["MemTotal"],
        mem_available_bytes=meminfo["MemAvailable"],
        lru_bytes=sum(meminfo[name] for name in ("Active", "Inactive", "Unevictable")),
        swap=swap,
        swap_leaving_bytes=max(0, leaving),
        zram=zram,
        pressure=read_pressure(kernel, "/proc/pressure/memory"),
        cpu_pressure=read_pressure(kernel, "/proc/pressure/cpu"),
        shmem_bytes=meminfo["Shmem"],
        swap_unread=unread,
    )


def read_zram(kernel: Kernel, areas: Iterable[SwapArea]) -> Compressed | None:
    """The content and memory of the zram devices among swap areas; None: there are none.

    A zram device under a file system is left out, because it holds no guest memory. The figures are
    ``orig_data_size``, ``mem_used_total`` and ``same_pages`` of mm_stat
    (Documentation/admin-guide/blockdev/zram.rst).

    Raises:
        OSError: a device exists, but cannot be read.
        Unreadable: its mm_stat is malformed.
    """
    pools = []
    for area in areas:
        path = f"/sys/block/{area.path.rpartition('/')[2]}/mm_stat"
        if area.kind is SwapKind.ZRAM and kernel.exists(path):
            pools.append(parse_zram(kernel.read(path))[0])
    if not pools:
        return None
    return Compressed(
        stored_bytes=sum(pool.stored_bytes for pool in pools),
        used_bytes=sum(pool.used_bytes for pool in pools),
    )


def parse_zram(text: str) -> tuple[Compressed, int | None]:
    """The content of a zram device by its mm_stat, and its memory limit (None: no limit).

    Raises:
        Unreadable: mm_stat is malformed.
    """
    original, _, taken, limit, _, same, *_ = numbers(text, "mm_stat", at_least=6)
    pool = Compressed(stored_bytes=max(0, original - same * PAGE_SIZE), used_bytes=taken)
    return pool, limit or None


def read_swaps(kernel: Kernel) -> tuple[SwapArea, ...]:
    """The active swap areas; none on a kernel without swap (CONFIG_SWAP), which has no ``/proc/swaps``.

    Raises:
        OSError: the file exists, but cannot be read.
        Unreadable: the file is malformed.
    """
    try:
        return parse_swaps(kernel.read("/proc/swaps"))
    except FileNotFoundError:
        return ()


def read_total(kernel: Kernel) -> int:
    """All memory of the host in bytes.

    Raises:
        OSError: ``/proc/meminfo`` cannot be read.
        Unreadable: the figure is missing.
    """
    return _of_meminfo(kernel, "MemTotal")


def read_swap_free(kernel: Kernel) -> int:
    """Free bytes on all swap areas, without those that are being turned off.

    Raises:
        OSError: ``/proc/meminfo`` cannot be read.
        Unreadable: the figure is missing.
    """
    return _of_meminfo(kernel, "SwapFree")


def _of_meminfo(kernel: Kernel, name: str) -> int:
    found = parse_meminfo(kernel.read(_MEMINFO)).get(name)
    if found is None:
        raise Unreadable(f"{_MEMINFO} has no {name}", hint=f"cat {_MEMINFO} shows what it has")
    return found


def read_system_ram(kernel: Kernel) -> tuple[Range, ...]:
    """Physical addresses of the host's RAM, without holes, from ``/proc/iomem``.

    Raises:
        HostError: no RAM is listed. Only root sees the addresses.
    """
    matches = re.finditer(
        r"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) : System RAM$", kernel.read("/proc/iomem"), re.MULTILINE
    )
    spans = (Range(int(match[1], 16), int(match[2], 16) + 1) for match in matches)
    ram = tuple(span for span in spans if span.size > 0)
    if not any(span.end > 1 for span in ram):
        raise HostError("/proc/iomem names no system RAM", hint="run as root")
    return ram


def read_boot_id(kernel: Kernel) -> str:
    """The random identity of this boot. Records of another boot describe a state that no longer exists."""
    return kernel.read("/proc/sys/kernel/random/boot_id").strip()


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by field name. Fields that are counts are left out."""
    return {
        match[1]: int(match[2]) * KIB
        for match in re.finditer(r"^(\S+):[ \t]+([0-9]{1,17}) kB$", text, re.MULTILINE)
    }


def parse_swaps(text: str) -> tuple[SwapArea, ...]:
    """The active swap areas of ``/proc/swaps`` (sizes there are in KiB), with or without the header.

    White space in names is escaped, and ``(deleted)`` follows the name of a removed file (swap_show in
    mm/swapfile.c). Columns that a later kernel adds are ignored.

    Raises:
        Unreadable: a line does not describe an area.
    """
    areas = []
    for line in text.split("\n"):
        fields = re.findall(r"[^ \t]+", line)
        if not fields or fields[0] == "Filename":
            continue
        if len(fields) < 5 or fields[1] not in _KINDS or not re.fullmatch(r"-?[0-9]{1,10}", fields[4]):
            raise Unreadable(f"/proc/swaps has a line that names no swap area: {excerpt(line)}")
        path, kind = unescaped(fields[0]), _KINDS[fields[1]]
        if kind is SwapKind.PARTITION and _ZRAM.fullmatch(path):
            kind = SwapKind.ZRAM
        size, used = (number(field, "/proc/swaps") * KIB for field in fields[2:4])
        areas.append(
            SwapArea(
                path=path, kind=kind, size_bytes=size, used_bytes=min(used, size), priority=int(fields[4])
            )
        )
    return tuple(areas)


def parse_pressure(text: str) -> Pressure:
    """The ``some`` line of a PSI file. Percent and microseconds become ratios and seconds.

    Raises:
        Unreadable: there is no such line.
    """
    match = _SOME.search(text)
    if match is None:
        raise Unreadable(f"not pressure stall information: {excerpt(text)}")
    return Pressure(
        some_avg10=float(match[1]) / 100,
        some_avg60=float(match[2]) / 100,
        some_total_seconds=int(match[3]) / 1e6,
    )


def read_pressure(kernel: Kernel, path: str) -> Pressure | None:
    """PSI from a file; None where the kernel was booted without PSI, or the file is malformed."""
    try:
        return parse_pressure(kernel.read(path))
    except (OSError, Unreadable):
        return None
