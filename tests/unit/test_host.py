"""What the host kernel's text files mean. The texts are as Linux 6.12 writes them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from overcommit.errors import Gone, HostError
from overcommit.host import kernel as kernel_module
from overcommit.host.cgroup import read_cgroup
from overcommit.host.kernel import Kernel, LocalKernel
from overcommit.host.memory import (
    parse_meminfo,
    parse_pressure,
    parse_swaps,
    read_host,
    read_system_ram,
)
from overcommit.host.process import read_start_time, runs_domain
from overcommit.model.ranges import Range, total_size
from overcommit.model.swap import SwapKind
from overcommit.units import GIB, KIB, MIB, PAGE_SIZE

KernelWith = Callable[[Mapping[str, str | OSError]], Kernel]

MEMINFO = """\
MemTotal:       65808384 kB
MemFree:         1203456 kB
MemAvailable:   20402176 kB
Active:         30011236 kB
Inactive:       12058624 kB
Unevictable:        4096 kB
Shmem:           3145728 kB
SwapTotal:       8388604 kB
SwapFree:        8388604 kB
AnonPages:      41034112 kB
HugePages_Total:       0
HugePages_Free:        0
Hugepagesize:       2048 kB
DirectMap1G:    60817408 kB
"""
SWAPS = """\
Filename				Type		Size		Used		Priority
/dev/zram0                              partition	4194300		1024		100
/dev/nvme0n1p3                          partition	8388604		0		-2
/swap/file                              file		1048572		512		-3
"""
PRESSURE = """\
some avg10=1.53 avg60=0.87 avg300=0.12 total=4200000
full avg10=0.00 avg60=0.00 avg300=0.00 total=123
"""
HOST = {
    "/proc/meminfo": MEMINFO,
    "/proc/swaps": SWAPS,
    "/proc/pressure/memory": PRESSURE,
    "/proc/sys/kernel/hostname": "kvm1\n",
    "/proc/sys/kernel/osrelease": "6.12.41+deb13-amd64\n",
    "/proc/sys/kernel/random/boot_id": "7d4a6c1e-0000-4000-8000-000000000001\n",
}


def test_meminfo_is_in_bytes_and_counts_are_left_out() -> None:
    fields = parse_meminfo(MEMINFO)
    assert fields["MemTotal"] == 65808384 * KIB
    assert fields["Hugepagesize"] == 2 * MIB
    assert "HugePages_Total" not in fields


def test_swap_areas_are_told_apart() -> None:
    assert [(a.path, a.kind, a.used_bytes) for a in parse_swaps(SWAPS)] == [
        ("/dev/zram0", SwapKind.ZRAM, MIB),
        ("/dev/nvme0n1p3", SwapKind.PARTITION, 0),
        ("/swap/file", SwapKind.FILE, 512 * KIB),
    ]


def test_no_swap_is_no_area() -> None:
    assert parse_swaps("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n") == ()


def test_pressure_becomes_ratios_and_seconds() -> None:
    pressure = parse_pressure(PRESSURE)
    assert pressure.some_avg10 == pytest.approx(0.0153)
    assert pressure.some_avg60 == pytest.approx(0.0087)
    assert pressure.some_total_seconds == pytest.approx(4.2)


@pytest.mark.parametrize("text", ["", "full avg10=0.00 avg60=0.00 avg300=0.00 total=123\n", "no"])
def test_what_is_not_pressure_is_an_error_not_a_zero(text: str) -> None:
    with pytest.raises(ValueError, match="not pressure"):
        parse_pressure(text)


def test_host_is_read_in_one_go(kernel_with: KernelWith) -> None:
    zram = {
        "/sys/block/zram0/mm_stat": "1048576 300000 409600 0 409600 0 0 0 0\n",
        "/sys/block/sda/size": "1",
    }
    host = read_host(kernel_with(HOST | zram))
    assert (host.name, host.kernel) == ("kvm1", "6.12.41+deb13-amd64")
    assert host.boot_id == "7d4a6c1e-0000-4000-8000-000000000001"
    assert host.total_bytes == 65808384 * KIB
    assert host.mem_available_bytes == 20402176 * KIB
    assert host.swap_total_bytes == (4194300 + 8388604 + 1048572) * KIB
    assert host.swap_free_bytes == host.swap_total_bytes - MIB - 512 * KIB
    assert host.zram_used_bytes == 409600  # what zram holds compressed, not what was put in
    assert host.shmem_bytes == 3 * GIB


@pytest.mark.parametrize(
    "absence",
    [FileNotFoundError(errno.ENOENT, "none"), OSError(errno.EOPNOTSUPP, "psi=0")],
    ids=["no file", "switched off at boot"],
)
def test_missing_pressure_is_a_gap(kernel_with: KernelWith, absence: OSError) -> None:
    assert read_host(kernel_with(HOST | {"/proc/pressure/memory": absence})).pressure is None


def test_without_meminfo_nothing_can_be_decided(kernel_with: KernelWith) -> None:
    with pytest.raises(PermissionError):
        read_host(kernel_with(HOST | {"/proc/meminfo": PermissionError(errno.EACCES, "no")}))


SCOPE = "/machine.slice/machine-qemu\\x2d3\\x2dweb.scope"
STAT = "anon 912261120\nfile 4096\npgmajfault 17\nworkingset_refault_anon 5\nworkingset_refault_file 9\n"


def cgroup_files(group: str) -> dict[str, str | OSError]:
    directory = f"/sys/fs/cgroup{group}"
    return {
        f"{directory}/memory.current": f"{GIB}\n",
        f"{directory}/memory.stat": STAT,
        f"{directory}/memory.swap.current": f"{MIB}\n",
        f"{directory}/memory.pressure": PRESSURE,
        f"{directory}/cgroup.procs": "7\n",
    }


@pytest.mark.parametrize(("processes", "shared"), [("7\n", False), ("7\n8\n", True), ("", True)])
def test_a_cgroup_with_other_processes_is_shared(
    kernel_with: KernelWith, processes: str, shared: bool
) -> None:
    """Also one without any: then its children's charge goes there, and nobody knows how many there are."""
    files = cgroup_files("/machine") | {
        "/sys/fs/cgroup/machine/cgroup.procs": processes,
        "/proc/7/cgroup": "0::/machine/web\n",
    }
    cgroup = read_cgroup(kernel_with(files), 7)
    assert cgroup is not None
    assert cgroup.shared is shared


def test_charge_of_a_threaded_child_is_found_at_its_ancestor(kernel_with: KernelWith) -> None:
    membership = {"/proc/7/cgroup": f"0::{SCOPE}/libvirt/emulator\n"}
    cgroup = read_cgroup(kernel_with(cgroup_files(SCOPE) | membership), 7)
    assert cgroup is not None
    assert (cgroup.path, cgroup.current_bytes, cgroup.swap_bytes) == (SCOPE, GIB, MIB)
    assert (cgroup.major_faults, cgroup.anon_refaults) == (17, 5)
    assert cgroup.pressure is not None


def test_what_came_back_from_swap_is_counted_in_pages_where_the_kernel_does(kernel_with: KernelWith) -> None:
    files = cgroup_files("/qemu") | {"/proc/7/cgroup": "0::/qemu\n"}
    before = read_cgroup(kernel_with(files), 7)
    files["/sys/fs/cgroup/qemu/memory.stat"] = STAT + "pswpin 40\n"
    since = read_cgroup(kernel_with(files), 7)
    assert before is not None
    assert since is not None
    assert (before.promoted_pages, since.promoted_pages) == (17, 40)


def test_cgroup_without_swap_accounting_and_pressure(kernel_with: KernelWith) -> None:
    files = cgroup_files("/qemu") | {"/proc/7/cgroup": "0::/qemu\n"}
    del files["/sys/fs/cgroup/qemu/memory.swap.current"], files["/sys/fs/cgroup/qemu/memory.pressure"]
    cgroup = read_cgroup(kernel_with(files), 7)
    assert cgroup is not None
    assert (cgroup.swap_bytes, cgroup.pressure) == (0, None)


@pytest.mark.parametrize(
    "membership",
    ["0::/\n", "12:memory:/machine/web\n1:name=systemd:/machine/web\n", "0::/somewhere/uncharged\n"],
    ids=["root group", "cgroup v1", "no memory controller"],
)
def test_no_charged_cgroup_is_a_gap(kernel_with: KernelWith, membership: str) -> None:
    files = cgroup_files("/machine/web") | {"/proc/7/cgroup": membership}
    assert read_cgroup(kernel_with(files), 7) is None


def test_cgroup_v2_is_found_beside_v1(kernel_with: KernelWith) -> None:
    files = cgroup_files("/qemu") | {"/proc/7/cgroup": "4:cpu:/other\n0::/qemu\n"}
    cgroup = read_cgroup(kernel_with(files), 7)
    assert cgroup is not None
    assert cgroup.path == "/qemu"


# A name may hold anything, a closing parenthesis and digits included.
STATISTICS = (
    "4242 ({name}) S 1 4242 4242 0 -1 138412416 9 0 3 0 52 11 0 0 20 0 4 0 86312 2147483648 71 18446744\n"
)


@pytest.mark.parametrize("name", ["qemu-system-x86", "a b", "x) R 1 2", "((((", ""])
def test_start_time_whatever_the_process_is_called(kernel_with: KernelWith, name: str) -> None:
    kernel = kernel_with({"/proc/4242/stat": STATISTICS.format(name=name)})
    assert read_start_time(kernel, 4242) == 86312


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESRCH])
def test_exited_process_is_gone(kernel_with: KernelWith, code: int) -> None:
    with pytest.raises(Gone, match="process 9 has exited"):
        read_start_time(kernel_with({"/proc/9/stat": OSError(code, "gone")}), 9)


def test_unreadable_process_is_not_gone(kernel_with: KernelWith) -> None:
    with pytest.raises(PermissionError):
        read_start_time(kernel_with({"/proc/9/stat": PermissionError(errno.EACCES, "no")}), 9)


UUID = "0b6e9c1a-4a3f-4b43-9a4f-0c6a1a0f1d11"


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["qemu-system-x86_64", "-uuid", UUID, "-S"], True),
        (["qemu-system-x86_64", "-uuid", "another"], False),
        (["qemu-system-x86_64", "-name", UUID], False),  # a name may look like a UUID
        (["qemu-system-x86_64", "-uuid"], False),
        ([], False),
    ],
)
def test_domain_is_proven_by_the_command_line(
    kernel_with: KernelWith, arguments: list[str], runs: bool
) -> None:
    kernel = kernel_with({"/proc/7/cmdline": "\0".join(arguments) + "\0"})
    assert runs_domain(kernel, 7, UUID) is runs


IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
  00001000-00001fff : System RAM
00100000-7ffdffff : System RAM
  01000000-01ffffff : Kernel code
100000000-17fffffff : System RAM
"""


def test_system_ram_is_what_is_named_so_at_the_top_level(kernel_with: KernelWith) -> None:
    ram = read_system_ram(kernel_with({"/proc/iomem": IOMEM}))
    assert ram == (
        Range(0x1000, 0x9FC00),
        Range(0x100000, 0x7FFE0000),
        Range(0x1_0000_0000, 0x1_8000_0000),
    )


@pytest.mark.parametrize("hidden", ["", "00000000-00000000 : System RAM\n"])
def test_addresses_that_are_not_shown_are_no_addresses(kernel_with: KernelWith, hidden: str) -> None:
    with pytest.raises(HostError, match="no system RAM"):
        read_system_ram(kernel_with({"/proc/iomem": hidden}))


def test_a_pipe_is_drained_without_waiting_and_in_bounds(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(pipe, os.O_WRONLY)
    try:
        os.write(writer, b"x" * 1000)
        assert LocalKernel().drain(str(pipe), 1 << 20) == "x" * 1000
        assert LocalKernel().drain(str(pipe), 1 << 20) == ""
        os.write(writer, b"y" * 1000)
        assert LocalKernel().drain(str(pipe), 0) == ""
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("scans", [True, False], ids=["scan", "entries"])
def test_what_is_resident_is_counted_as_it_is_placed(monkeypatch: pytest.MonkeyPatch, scans: bool) -> None:
    """Of our own memory: every other page written to, one only read (the zero page), the rest never."""
    if not scans:
        monkeypatch.setattr(kernel_module, "_PAGEMAP_SCAN", 0)
    pages = 6000  # more regions than one scan brings
    memory = mmap.mmap(-1, 2 * pages * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(pages):
        memory[2 * page * PAGE_SIZE] = 1
    view = ctypes.c_char.from_buffer(memory)
    ram = (Range(ctypes.addressof(view), ctypes.addressof(view) + 2 * pages * PAGE_SIZE),)
    residency = LocalKernel().residency(os.getpid(), ram)
    counted = LocalKernel().count_resident(os.getpid(), ram)
    assert counted == residency.resident_bytes == total_size(residency.resident)
    assert 0.9 * pages * PAGE_SIZE <= counted <= pages * PAGE_SIZE, "the machine may swap"
    assert residency.without_places.resident_bytes == counted
    assert residency.without_places.resident == ()
    with pytest.raises(Gone):
        LocalKernel().count_resident(2**22 + 1, ram)
