"""The files that say who holds a `FakeHost`'s memory: huge pages, ZFS, zswap, swap's device, cgroups."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from overcommit.host.block import DEVICES
from overcommit.host.cgroup import ROOT as CGROUPS
from overcommit.host.setaside import ARC, HUGE_PAGES
from overcommit.host.swap import ZSWAP
from overcommit.testing.fake_host import FakeGuest, FakeHost
from overcommit.testing.fake_limits import ZSWAP_RATIO, zswapped
from overcommit.units import KIB, MIB, PAGE_SIZE

Files = Mapping[str, Callable[[], str]]

SLICE = "/machine.slice"
_HUGE_PAGE = 2 * MIB
_SECTOR = 512


def host_files(host: FakeHost) -> Files:
    """``/proc`` and ``/sys`` about memory, as far as this host has it."""
    device = f"{DEVICES}/{host.swap_device}"
    files: dict[str, Callable[[], str]] = {
        "/proc/meminfo": lambda: (
            f"MemTotal: {host.total_bytes // KIB} kB\nMemAvailable: {host.available_bytes // KIB} kB\n"
            f"Active: {host.resident_bytes // KIB} kB\nInactive: 0 kB\nUnevictable: 0 kB\n"
            f"Shmem: {sum(len(g.resident) for g in host.guests if g.shared) * MIB // KIB} kB\n"
            f"SwapTotal: {0 if host.swapoff else host.swap_total_bytes // KIB} kB\n"
            f"SwapFree: {0 if host.swapoff else (host.swap_total_bytes - host.swap_used_bytes) // KIB} kB\n"
            f"Zswap: {zswapped(host) // ZSWAP_RATIO // KIB} kB\nZswapped: {zswapped(host) // KIB} kB\n"
        ),
        "/proc/swaps": lambda: (
            "Filename Type Size Used Priority\n"
            f"/dev/{host.swap_device} partition {host.swap_total_bytes // KIB} "
            f"{host.swap_used_bytes // KIB} 100\n"
        ),
        f"{HUGE_PAGES}/hugepages-2048kB/nr_hugepages": lambda: f"{host.huge_pages_bytes // _HUGE_PAGE}\n",
        f"{HUGE_PAGES}/hugepages-2048kB/free_hugepages": lambda: f"{host.huge_pages_bytes // _HUGE_PAGE}\n",
        f"{ZSWAP}/enabled": lambda: "Y\n" if host.zswap else "N\n",
        f"{ZSWAP}/max_pool_percent": lambda: "20\n",
        f"{device}/size": lambda: f"{host.swap_total_bytes // _SECTOR}\n",
        f"{device}/stat": lambda: _disk_statistics(host),
        f"{device}/queue/rotational": lambda: "0\n",
        "/proc/vmstat": lambda: f"pswpin 0\npswpout {host.swapped_out_bytes // PAGE_SIZE}\n",
    }
    if host.swap_on_zram:
        for directory in ("/sys/block/zram0", device):
            files[f"{directory}/mm_stat"] = lambda: (
                f"{host.swap_used_bytes} {host.zram_bytes} {host.zram_bytes} {host.zram_limit_bytes} "
                f"{host.zram_bytes} 0 0 0 0\n"
            )
    if host.swap_encrypted:
        files[f"{device}/dm/uuid"] = lambda: "CRYPT-PLAIN-swap\n"
    if host.arc_bytes:
        files[ARC] = lambda: (
            "13 1 0x01 147 39984 5146838493 1004613785822\nname                            type data\n"
            f"c_min                           4    {host.arc_minimum_bytes}\n"
            f"size                            4    {host.arc_bytes}\n"
        )
    return {**files, **_slice_files(host)}


def _disk_statistics(host: FakeHost) -> str:
    reads, writes = host.swapped_in_bytes // PAGE_SIZE, host.swapped_out_bytes // PAGE_SIZE
    read_ms = round(reads * host.swap_seconds_per_read * 1000)
    sectors = PAGE_SIZE // _SECTOR
    return f"{reads} 0 {reads * sectors} {read_ms} {writes} 0 {writes * sectors} {writes} 0 0 0\n"


def _slice_files(host: FakeHost) -> Files:
    directory = f"{CGROUPS}{SLICE}"
    return {
        f"{directory}/memory.max": lambda: _limit(host.slice_limit_bytes),
        f"{directory}/memory.high": lambda: "max\n",
        f"{directory}/memory.swap.max": lambda: _limit(host.slice_swap_limit_bytes),
        f"{directory}/memory.swap.high": lambda: "max\n",
        f"{directory}/memory.swap.current": lambda: f"{sum(len(g.swapped) for g in host.guests) * MIB}\n",
        f"{directory}/memory.current": lambda: f"{sum(_charged(guest) for guest in host.guests)}\n",
        f"{directory}/memory.zswap.max": lambda: _limit(host.slice_zswap_limit_bytes),
        f"{directory}/memory.zswap.writeback": lambda: f"{int(host.slice_zswap_writeback)}\n",
        f"{directory}/memory.stat": lambda: f"active_file 0\ninactive_file 0\n{_zswap_statistics(host)}",
    }


def _zswap_statistics(host: FakeHost) -> str:
    return f"zswap {zswapped(host) // ZSWAP_RATIO}\nzswapped {zswapped(host)}\n"


def charge_files(guest: FakeGuest) -> Files:
    """The charge of a guest's cgroup, and its limits."""
    directory = f"{CGROUPS}{guest.cgroup}"
    return {
        f"{directory}/memory.current": lambda: f"{_charged(guest)}\n",
        f"{directory}/memory.max": lambda: _limit(guest.limit_bytes),
        f"{directory}/memory.high": lambda: "max\n",
        f"{directory}/memory.swap.max": lambda: _limit(guest.swap_limit_bytes),
        f"{directory}/memory.swap.high": lambda: "max\n",
    }


def _limit(size: int | None) -> str:
    return "max\n" if size is None else f"{size}\n"


def charge_statistics(guest: FakeGuest) -> str:
    """The kinds of charge in memory.stat. A memfd's memory is shared memory, which ``file`` includes."""
    ram = len(guest.resident) * MIB
    anon, shmem = (0, ram) if guest.shared else (ram, 0)
    kinds = f"anon {anon + guest.overhead_bytes}\nfile {shmem}\nshmem {shmem}\nkernel 0\n"
    return f"{kinds}active_file 0\ninactive_file 0\n"


def _charged(guest: FakeGuest) -> int:
    return len(guest.resident) * MIB + guest.overhead_bytes
