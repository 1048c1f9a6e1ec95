"""Who holds the host's memory, from the kernel's texts as Linux 6.12 and OpenZFS 2.2 write them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from overcommit.host.cgroup import groups_above, read_cgroup, read_limit
from overcommit.host.kernel import Kernel, LocalKernel
from overcommit.host.memory import parse_swaps, read_zram
from overcommit.host.setaside import ARC, HUGE_PAGES, read_arc, read_huge_pages
from overcommit.host.swap import ZSWAP, read_areas, read_zswap
from overcommit.model.accounts import Arc, CgroupLimit, Charge, Compressed, HugePages, Zswap
from overcommit.model.swap import SwapKind
from overcommit.observe.facts import observe, observe_host
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import GIB, KIB, MIB, PAGE_SIZE

Files = Mapping[str, str | OSError]
KernelWith = Callable[[Files], Kernel]

ARCSTATS = """\
13 1 0x01 147 39984 5146838493 1004613785822
name                            type data
hits                            4    12345678
c                               4    8589934592
c_min                           4    1073741824
c_max                           4    17179869184
size                            4    9663676416
compressed_size                 4    7000000000
"""
ZSWAP_MEMINFO = "MemTotal:       65808384 kB\nZswap:             10240 kB\nZswapped:          30720 kB\n"
MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw
30 22 0:26 / /sys rw,nosuid shared:2 - sysfs sysfs rw
31 22 8:3 / /swap rw,relatime shared:3 - ext4 /dev/sda3 rw
32 31 8:4 / /swap rw,relatime shared:3 - ext4 /dev/sda4 rw
33 22 0:41 /@swap /pool rw,relatime shared:4 - btrfs /dev/sdb rw
"""


def test_huge_pages_of_all_sizes_are_counted(kernel_with: KernelWith) -> None:
    files = {
        f"{HUGE_PAGES}/hugepages-2048kB/nr_hugepages": "64\n",
        f"{HUGE_PAGES}/hugepages-2048kB/free_hugepages": "16\n",
        f"{HUGE_PAGES}/hugepages-1048576kB/nr_hugepages": "2\n",
        f"{HUGE_PAGES}/hugepages-1048576kB/free_hugepages": "0\n",
    }
    expected = HugePages(total_bytes=2 * GIB + 128 * MIB, free_bytes=32 * MIB)
    assert read_huge_pages(kernel_with(files)) == expected


def test_a_kernel_without_huge_pages_has_none_set_aside(kernel_with: KernelWith) -> None:
    assert read_huge_pages(kernel_with({})) == HugePages(total_bytes=0, free_bytes=0)


def test_arc_gives_up_all_but_its_minimum(kernel_with: KernelWith) -> None:
    arc = read_arc(kernel_with({ARC: ARCSTATS}))
    assert arc == Arc(size_bytes=9 * GIB, minimum_bytes=GIB)
    assert arc.reclaimable_bytes == 8 * GIB
    assert Arc(size_bytes=MIB, minimum_bytes=GIB).reclaimable_bytes == 0


def test_no_zfs_is_no_arc_but_an_unknown_kstat_is_an_error(kernel_with: KernelWith) -> None:
    assert read_arc(kernel_with({})) is None
    with pytest.raises(ValueError, match="no size and c_min"):
        read_arc(kernel_with({ARC: ARCSTATS.replace("c_min ", "floor ")}))


def test_zram_devices_add_up_and_pages_of_one_word_do_not_count(kernel_with: KernelWith) -> None:
    files = {
        "/sys/block/zram0/mm_stat": f"{100 * MIB} 20000000 {30 * MIB} 0 0 {10 * MIB // PAGE_SIZE} 0 0 0\n",
        "/sys/block/zram1/mm_stat": f"{10 * MIB} 4000000 {5 * MIB} 0 0 0 0 0 0\n",
        "/sys/block/sda/size": "1\n",
    }
    swaps = (
        "/dev/zram0 partition 4194300 0 100\n/dev/zram1 partition 4194300 0 100\n/dev/sda2 partition 8 0 -2\n"
    )
    areas = parse_swaps(swaps)
    assert read_zram(kernel_with(files), areas) == Compressed(stored_bytes=100 * MIB, used_bytes=35 * MIB)
    assert read_zram(kernel_with(files), areas[2:]) is None
    assert read_zram(kernel_with({"/sys/block/sda/size": "1\n"}), areas) is None


@pytest.mark.parametrize(("written", "enabled"), [("Y\n", True), ("N\n", False)])
def test_zswap_and_what_it_holds(kernel_with: KernelWith, written: str, enabled: bool) -> None:
    files = {
        f"{ZSWAP}/enabled": written,
        f"{ZSWAP}/max_pool_percent": "20\n",
        "/proc/meminfo": ZSWAP_MEMINFO,
    }
    pool = Compressed(stored_bytes=30 * MIB, used_bytes=10 * MIB)
    assert read_zswap(kernel_with(files)) == Zswap(enabled=enabled, most=0.2, pool=pool)


def test_zswap_is_absent_or_cannot_be_told(kernel_with: KernelWith) -> None:
    assert read_zswap(kernel_with({"/proc/meminfo": ZSWAP_MEMINFO})) is None
    old = {f"{ZSWAP}/enabled": "Y\n", "/proc/meminfo": "MemTotal: 1 kB\n"}
    with pytest.raises(ValueError, match="no Zswap"):
        read_zswap(kernel_with(old))


def encryption(kernel_with: KernelWith, line: str, files: Files) -> tuple[bool | None, bool]:
    """Whether the area of that line is encrypted, and whether there is a gap about that."""
    areas = parse_swaps(f"Filename\tType\tSize\tUsed\tPriority\n{line}\t1024\t0\t-2\n")
    (area,), gaps = read_areas(kernel_with({"/proc/self/mountinfo": MOUNTS, **files}), areas)
    return area.encrypted, any(not gap.what.startswith(("counters", "use")) for gap in gaps)


BLOCK = "/sys/class/block"
LUKS = "CRYPT-LUKS2-0123456789abcdef-cryptswap\n"


@pytest.mark.parametrize(
    ("files", "encrypted"),
    [
        pytest.param({f"{BLOCK}/dm-1/dm/uuid": LUKS}, True, id="dm-crypt"),
        pytest.param(
            {
                f"{BLOCK}/dm-1/dm/uuid": "LVM-abc\n",
                f"{BLOCK}/dm-1/slaves/dm-0/size": "1\n",
                f"{BLOCK}/dm-0/dm/uuid": LUKS,
            },
            True,
            id="LVM on dm-crypt",
        ),
        pytest.param(
            {
                f"{BLOCK}/dm-1/dm/uuid": "LVM-abc\n",
                f"{BLOCK}/dm-1/slaves/dm-0/size": "1\n",
                f"{BLOCK}/dm-1/slaves/sdb1/size": "1\n",
                f"{BLOCK}/dm-0/dm/uuid": LUKS,
                f"{BLOCK}/sdb1/size": "1\n",
            },
            False,
            id="LVM on dm-crypt and on a plain disk",
        ),
        pytest.param({f"{BLOCK}/dm-1/dm/uuid": "LVM-abc\n"}, None, id="LVM over who knows what"),
        pytest.param(
            {f"{BLOCK}/dm-1/dm/uuid": "LVM-abc\n", f"{BLOCK}/dm-1/slaves/sda3/size": "1\n"},
            None,
            id="LVM over a disk",
        ),
    ],
)
def test_swap_on_a_device(kernel_with: KernelWith, files: Files, encrypted: bool | None) -> None:
    assert encryption(kernel_with, "/dev/dm-1\tpartition", files) == (encrypted, False)


def test_swap_on_a_plain_partition_is_not_encrypted_and_on_zram_the_question_is_void(
    kernel_with: KernelWith,
) -> None:
    assert encryption(kernel_with, "/dev/sda2\tpartition", {f"{BLOCK}/sda2/size": "1\n"}) == (False, False)
    assert encryption(kernel_with, "/dev/zram0\tpartition", {f"{BLOCK}/zram0/size": "1\n"}) == (None, False)


@pytest.mark.parametrize(
    ("path", "files", "encrypted"),
    [
        ("/swapfile", {"/sys/dev/block/254:0/dm/uuid": LUKS}, True),
        ("/swap/file", {"/sys/dev/block/8:4/uevent": "DEVNAME=sda4\n"}, False),
        ("/swapfile", {"/sys/dev/block/254:0/dm/uuid": OSError(errno.EIO, "input/output error")}, None),
        ("/pool/file", {}, None),
    ],
    ids=["on an encrypted root", "on the last of two mounts", "unreadable", "on btrfs, over many devices"],
)
def test_swap_in_a_file_is_as_encrypted_as_its_file_system(
    kernel_with: KernelWith, path: str, files: Files, encrypted: bool | None
) -> None:
    assert encryption(kernel_with, f"{path}\tfile", files) == (encrypted, encrypted is None)


def test_a_device_that_is_nowhere_is_a_gap_and_not_unencrypted(kernel_with: KernelWith) -> None:
    assert encryption(kernel_with, "/dev/gone\tpartition", {}) == (None, True)


SLICE = "/sys/fs/cgroup/machine.slice"


def limit_files(most: str, high: str) -> Files:
    return {
        f"{SLICE}/memory.max": f"{most}\n",
        f"{SLICE}/memory.high": f"{high}\n",
        f"{SLICE}/memory.current": f"{3 * GIB}\n",
        # 2 GiB of it are a memfd: page cache by name, but on the anonymous lists, for it must be swapped.
        f"{SLICE}/memory.stat": (
            f"anon {700 * MIB}\nfile {2 * GIB + 300 * MIB}\nshmem {2 * GIB}\n"
            f"inactive_anon {2 * GIB}\nactive_anon {700 * MIB}\n"
            f"inactive_file {100 * MIB}\nactive_file {200 * MIB}\n"
        ),
    }


@pytest.mark.parametrize(
    ("most", "high", "file"),
    [
        (f"{4 * GIB}", "max", "memory.max"),
        ("max", f"{4 * GIB}", "memory.high"),
        (f"{5 * GIB}", f"{4 * GIB}", "memory.high"),
        (f"{4 * GIB}", f"{4 * GIB}", "memory.high"),
    ],
)
def test_the_lower_limit_counts_and_a_memfd_is_no_cache(
    kernel_with: KernelWith, most: str, high: str, file: str
) -> None:
    limit = read_limit(kernel_with(limit_files(most, high)), "/machine.slice", own=False)
    assert limit == CgroupLimit(
        path="/machine.slice",
        file=file,
        limit_bytes=4 * GIB,
        current_bytes=3 * GIB,
        cache_bytes=300 * MIB,
        own=False,
    )
    assert limit.room_bytes == GIB + 300 * MIB


def test_no_limit_and_no_accounting_are_no_limit(kernel_with: KernelWith) -> None:
    assert read_limit(kernel_with(limit_files("max", "max")), "/machine.slice", own=False) is None
    assert read_limit(kernel_with({}), "/machine.slice", own=False) is None


def test_a_group_over_its_limit_has_no_room() -> None:
    over = CgroupLimit(
        path="/x", file="memory.high", limit_bytes=GIB, current_bytes=2 * GIB, cache_bytes=MIB, own=True
    )
    assert over.room_bytes == 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/machine.slice/machine-qemu.scope/libvirt",
            [
                ("/machine.slice/machine-qemu.scope/libvirt", True),
                ("/machine.slice/machine-qemu.scope", True),
                ("/machine.slice", False),
            ],
        ),
        (
            "/machine/qemu-1-web.libvirt-qemu",
            [("/machine/qemu-1-web.libvirt-qemu", True), ("/machine", False)],
        ),
        (
            "/kubepods.slice/kubepods-pod0f6e_3b1c.slice/cri-containerd-9a.scope",
            [
                ("/kubepods.slice/kubepods-pod0f6e_3b1c.slice/cri-containerd-9a.scope", True),
                ("/kubepods.slice/kubepods-pod0f6e_3b1c.slice", True),
                ("/kubepods.slice", False),
            ],
        ),
        (
            "/kubepods/burstable/pod0f6e-3b1c/9a",
            [
                ("/kubepods/burstable/pod0f6e-3b1c/9a", True),
                ("/kubepods/burstable/pod0f6e-3b1c", True),
                ("/kubepods/burstable", False),
                ("/kubepods", False),
            ],
        ),
    ],
    ids=["systemd", "without systemd", "a pod", "a pod without systemd"],
)
def test_a_domain_has_its_scope_to_itself_and_the_slice_with_others(
    path: str, expected: list[tuple[str, bool]]
) -> None:
    assert list(groups_above(path)) == expected


def charged(kernel_with: KernelWith, statistics: str) -> Charge | None:
    group = "/sys/fs/cgroup/machine"
    files = {
        f"{group}/memory.current": f"{GIB}\n",
        f"{group}/memory.stat": statistics,
        f"{group}/cgroup.procs": "7\n",
        "/proc/7/cgroup": "0::/machine\n",
    }
    cgroup = read_cgroup(kernel_with(files), 7)
    assert cgroup is not None
    return cgroup.charge


def test_a_charge_by_kind_has_a_memfd_apart_from_cache(kernel_with: KernelWith) -> None:
    charge = charged(kernel_with, f"anon {MIB}\nfile {700 * MIB}\nkernel {2 * MIB}\nshmem {600 * MIB}\n")
    assert charge == Charge(
        anon_bytes=MIB, shmem_bytes=600 * MIB, cache_bytes=100 * MIB, kernel_bytes=2 * MIB
    )
    assert charge.held_bytes == 603 * MIB


def test_a_charge_that_is_not_told_apart_is_unknown(kernel_with: KernelWith) -> None:
    assert charged(kernel_with, f"anon {MIB}\nfile {MIB}\nshmem 0\n") is None


def guest(name: str, **about: bool | int) -> FakeGuest:
    made = FakeGuest(name, f"uuid-{name}", 501 + len(name), 128 * MIB, resident=set(range(100)))
    for word, value in about.items():
        setattr(made, word, value)
    return made


def test_observe_finds_everything_there_is() -> None:
    host = FakeHost(
        [guest("a", overhead_bytes=40 * MIB), guest("bb", shared=True, overhead_bytes=20 * MIB)],
        swap_device="dm-0",
        swap_encrypted=True,
        zswap=True,
        huge_pages_bytes=GIB,
        arc_bytes=2 * GIB,
        arc_minimum_bytes=GIB,
        slice_limit_bytes=GIB,
    )
    snapshot = observe(FakeKernel(host), FakeHypervisor(host), FakeClock(host))
    assert snapshot.gaps == ()
    facts = snapshot.host
    assert facts.huge_pages == HugePages(total_bytes=GIB, free_bytes=GIB)
    assert facts.arc == Arc(size_bytes=2 * GIB, minimum_bytes=GIB)
    assert facts.zswap is not None
    assert facts.zswap.enabled
    assert facts.zram is None
    assert facts.shmem_bytes == 100 * MIB
    assert [(a.kind, a.encrypted, a.exposed) for a in facts.swap] == [(SwapKind.PARTITION, True, False)]
    plain, memfd = snapshot.domains
    assert (plain.overhead_bytes, memfd.overhead_bytes) == (40 * MIB, 20 * MIB)
    for domain in snapshot.domains:
        (limit,) = domain.limits or ()
        assert (limit.path, limit.limit_bytes, limit.current_bytes) == ("/machine.slice", GIB, 260 * MIB)


def test_what_a_memfd_has_in_swap_is_found_though_the_page_map_does_not_show_it() -> None:
    host = FakeHost([guest("a", shared=True)])
    host.guests[0].swapped = set(range(100, 110))
    kernel = FakeKernel(host)
    assert kernel.residency(host.guests[0].pid, [host.guests[0].ram]).swapped_bytes == 0
    (domain,) = observe(kernel, FakeHypervisor(host), FakeClock(host)).domains
    assert domain.residency is not None
    assert domain.residency.swapped_bytes == 10 * MIB


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (f"{HUGE_PAGES}/hugepages-2048kB/free_hugepages", "huge pages"),
        (ARC, "ZFS's cache"),
        (f"{ZSWAP}/max_pool_percent", "zswap"),
        ("/sys/class/block/dm-0/dm/uuid", "encryption of swap on /dev/dm-0"),
        ("/sys/class/block/dm-0/stat", "counters of swap on /dev/dm-0"),
        ("/proc/vmstat", "what went to swap"),
    ],
)
def test_what_cannot_be_read_of_the_host_is_a_gap(path: str, what: str) -> None:
    host = FakeHost([], swap_device="dm-0", swap_encrypted=True, arc_bytes=GIB)

    def refuse(read: str) -> None:
        if read == path:
            raise OSError(errno.EIO, "input/output error", path)

    host.on_read = refuse
    facts, gaps = observe_host(FakeKernel(host))
    assert [gap.what for gap in gaps] == [what]
    assert facts.total_bytes == 8 * GIB


def test_unreadable_limits_are_a_gap_of_the_domain() -> None:
    host = FakeHost([guest("a")])

    def refuse(read: str) -> None:
        if read.endswith("machine.slice/memory.max"):
            raise OSError(errno.EIO, "input/output error", read)

    host.on_read = refuse
    (domain,) = observe(FakeKernel(host), FakeHypervisor(host), FakeClock(host)).domains
    assert domain.limits is None
    assert [gap.what for gap in domain.gaps] == ["cgroup limits"]


def test_this_machine_can_be_read() -> None:
    """On whatever it has; only that its figures are possible."""
    kernel = LocalKernel()
    if not Path("/proc/meminfo").exists():
        pytest.skip("no /proc")
    facts, _ = observe_host(kernel)
    assert facts.huge_pages is not None
    assert 0 <= facts.huge_pages.free_bytes <= facts.huge_pages.total_bytes <= facts.total_bytes
    assert 0 < facts.shmem_bytes + KIB <= facts.total_bytes
