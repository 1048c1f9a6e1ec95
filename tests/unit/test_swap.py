"""What lies under swap and what went there, from the kernel's texts as Linux 6.12 and 7.3 write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_swaps
from overcommit.host.swap import read_areas, read_traffic
from overcommit.model.accounts import Compressed
from overcommit.model.swap import BlockDevice, SwapArea, SwapTraffic
from overcommit.observe.facts import observe_host
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeKernel
from overcommit.units import MIB, PAGE_SIZE

Files = Mapping[str, str | OSError]
KernelWith = Callable[[Files], Kernel]

BLOCK = "/sys/class/block"
STAT = "    1200      30    96000     2400      500      20   204800     9000        0    5000    11400"
VMSTAT = "nr_free_pages 100\npswpin 7\npswpout 3000\nswpin_zero 1\nzswpin 1\nzswpout 5000\nzswpwb 1000\n"


def look(kernel_with: KernelWith, line: str, files: Files) -> tuple[SwapArea, list[str]]:
    """The area of that line, and what of it cannot be read."""
    (area,), gaps = read_areas(
        kernel_with(files), parse_swaps(f"Filename\tType\tSize\tUsed\tPriority\n{line}\n")
    )
    return area, [gap.what for gap in gaps]


def test_a_partition_has_counters_of_its_own_and_its_disk_says_whether_it_turns(
    kernel_with: KernelWith,
) -> None:
    files = {f"{BLOCK}/sda2/stat": STAT, f"{BLOCK}/sda2/../queue/rotational": "1\n"}
    area, gaps = look(kernel_with, "/dev/sda2\tpartition\t8388604\t0\t-2", files)
    assert (gaps, area.priority, area.encrypted) == ([], -2, False)
    assert area.device == BlockDevice(
        name="sda2",
        rotational=True,
        reads=1200,
        read_bytes=96000 * 512,
        read_seconds=2.4,
        writes=500,
        written_bytes=100 * MIB,
        write_seconds=9.0,
    )
    assert area.device.seconds_per_read == 0.002


def test_a_file_has_the_counters_of_its_file_system(kernel_with: KernelWith) -> None:
    files = {
        "/proc/self/mountinfo": "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n",
        "/sys/dev/block/254:1/uevent": "MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\n",
        "/sys/dev/block/254:1/stat": STAT,
        "/sys/dev/block/254:1/../queue/rotational": "0\n",
    }
    area, gaps = look(kernel_with, "/swapfile\tfile\t1048572\t0\t-3", files)
    assert gaps == []
    assert area.device is not None
    assert (area.device.name, area.device.rotational) == ("vda1", False)


def test_zram_holds_memory_and_may_have_a_limit(kernel_with: KernelWith) -> None:
    same = 10 * MIB // PAGE_SIZE
    files = {
        f"{BLOCK}/zram0/stat": STAT,
        f"{BLOCK}/zram0/queue/rotational": "0\n",
        f"{BLOCK}/zram0/mm_stat": f"{100 * MIB} 20000000 {30 * MIB} {64 * MIB} 0 {same} 0 0 0\n",
    }
    area, gaps = look(kernel_with, "/dev/zram0\tpartition\t4194300\t1024\t100", files)
    assert (gaps, area.priority, area.on_disk, area.exposed) == ([], 100, False, False)
    assert area.pool == Compressed(stored_bytes=90 * MIB, used_bytes=30 * MIB)
    assert area.pool_limit_bytes == 64 * MIB
    unlimited = {**files, f"{BLOCK}/zram0/mm_stat": "0 0 0 0 0 0 0 0 0\n"}
    assert (
        look(kernel_with, "/dev/zram0\tpartition\t4194300\t1024\t100", unlimited)[0].pool_limit_bytes is None
    )


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "device of swap on /dev/sda2"),
        ({f"{BLOCK}/sda2/size": "1\n"}, "counters of swap on /dev/sda2"),
        ({f"{BLOCK}/sda2/stat": "1 2\n"}, "counters of swap on /dev/sda2"),
        (
            {
                f"{BLOCK}/sda2/stat": STAT,
                f"{BLOCK}/sda2/../queue/rotational": OSError(5, "input/output error"),
            },
            "counters of swap on /dev/sda2",
        ),
    ],
)
def test_what_cannot_be_read_of_an_area_is_a_gap_and_no_zero(
    kernel_with: KernelWith, files: Files, what: str
) -> None:
    area, gaps = look(kernel_with, "/dev/sda2\tpartition\t8388604\t0\t-2", files)
    assert (gaps, area.device, area.size_bytes) == ([what], None, 8388604 * 1024)


def test_a_page_that_zswap_kept_and_put_out_later_was_paged_out_once(kernel_with: KernelWith) -> None:
    traffic = read_traffic(kernel_with({"/proc/vmstat": VMSTAT}))
    assert traffic == SwapTraffic(paged_out_bytes=7000 * PAGE_SIZE, written_bytes=3000 * PAGE_SIZE)
    assert read_traffic(kernel_with({"/proc/vmstat": "pswpout 3\n"})) == SwapTraffic(
        paged_out_bytes=3 * PAGE_SIZE, written_bytes=3 * PAGE_SIZE
    )
    assert read_traffic(kernel_with({"/proc/vmstat": "nr_free_pages 100\n"})) is None


def test_the_fake_counts_what_goes_out_and_comes_back() -> None:
    guest = FakeGuest("a", "uuid-a", 501, 64 * MIB, resident=set(range(64)))
    host = FakeHost([guest], swap_device="vda2", swap_seconds_per_read=0.048)
    host.page_out(guest, range(8), 8 * MIB)
    guest.hot.add(0)
    FakeClock(host).wait(1.0)
    facts, gaps = observe_host(FakeKernel(host))
    (area,) = facts.swap
    assert gaps == ()
    assert facts.swap_traffic is not None
    assert facts.swap_traffic.written_bytes == 8 * MIB
    assert area.device is not None
    assert (area.device.written_bytes, area.device.read_bytes) == (8 * MIB, MIB)
    assert area.device.seconds_per_read == pytest.approx(0.048)
