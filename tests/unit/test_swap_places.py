"""Where swap lies on hosts as distributions set them up, and what of that can be told.

Each layout is what sysfs and ``/proc`` show there; names and sizes are invented.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from overcommit.cli.accounts import swap_finding
from overcommit.errors import Unreadable
from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_swaps, read_host, read_swap_free, read_zram
from overcommit.host.swap import read_areas
from overcommit.model.accounts import Compressed, kept_share
from overcommit.model.facts import Gap, HostFacts
from overcommit.model.swap import SwapArea, SwapHazard, SwapKind, SwapTraffic
from overcommit.observe.facts import observe_host
from overcommit.plan.notes import swap_place_notes
from overcommit.plan.swap_watch import SwapWatch, to_disk
from overcommit.units import GIB, KIB, MIB
from tests import scenarios
from tests.unit.test_host import HOST
from tests.unit.test_swap import STAT

Files = Mapping[str, str | OSError]
KernelWith = Callable[[Files], Kernel]

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
BLOCK = "/sys/class/block"
NUMBER = "/sys/dev/block"
MOUNTINFO = "/proc/self/mountinfo"
LUKS = "CRYPT-LUKS2-0123456789abcdef-luks\n"


class Place(NamedTuple):
    """A line of ``/proc/swaps`` with its files, and what is right."""

    line: str
    files: Files
    encrypted: bool | None
    devices: tuple[str, ...]
    hazard: SwapHazard | None


def disk(*names: str) -> dict[str, str | OSError]:
    return {f"{BLOCK}/{name}/size": "1\n" for name in names}


def over(name: str, *parts: str) -> dict[str, str | OSError]:
    return {f"{BLOCK}/{name}/slaves/{part}/size": "1\n" for part in parts}


def mounted(*lines: str) -> dict[str, str | OSError]:
    return {MOUNTINFO: "".join(f"{line}\n" for line in lines)}


PLACES = {
    "a partition of a SATA disk": Place("/dev/sda2 partition", disk("sda2"), False, ("sda2",), None),
    "a partition of an NVMe disk": Place(
        "/dev/nvme0n1p3 partition",
        {**disk("nvme0n1p3"), f"{BLOCK}/nvme0n1p3/../device/transport": "pcie\n"},
        False,
        ("nvme0n1p3",),
        None,
    ),
    "a DASD of a mainframe": Place("/dev/dasdb1 partition", disk("dasdb1"), False, ("dasdb1",), None),
    "a volume of ZFS": Place("/dev/zd0 partition", disk("zd0"), None, ("zd0",), SwapHazard.ZFS),
    "a partition of a volume of ZFS": Place(
        "/dev/zd16p1 partition", disk("zd16p1"), None, ("zd16p1",), SwapHazard.ZFS
    ),
    "a random key on each boot": Place(
        "/dev/dm-0 partition",
        {f"{BLOCK}/dm-0/dm/uuid": "CRYPT-PLAIN-swap\n", **over("dm-0", "sda3"), **disk("sda3")},
        True,
        ("sda3",),
        None,
    ),
    "LVM over LUKS, as installers do": Place(
        "/dev/dm-2 partition",
        {
            f"{BLOCK}/dm-2/dm/uuid": "LVM-q\n",
            **over("dm-2", "dm-0"),
            f"{BLOCK}/dm-0/dm/uuid": LUKS,
            **over("dm-0", "nvme0n1p3"),
            **disk("nvme0n1p3"),
        },
        True,
        ("nvme0n1p3",),
        None,
    ),
    "LUKS over LVM": Place(
        "/dev/dm-3 partition",
        {
            f"{BLOCK}/dm-3/dm/uuid": LUKS,
            **over("dm-3", "dm-1"),
            f"{BLOCK}/dm-1/dm/uuid": "LVM-q\n",
            **over("dm-1", "sda3"),
        },
        True,
        ("sda3",),
        None,
    ),
    "LVM over a disk": Place(
        "/dev/dm-1 partition",
        {f"{BLOCK}/dm-1/dm/uuid": "LVM-q\n", **over("dm-1", "sda3"), **disk("sda3")},
        None,
        ("sda3",),
        None,
    ),
    "integrity without a cipher": Place(
        "/dev/dm-0 partition",
        {f"{BLOCK}/dm-0/dm/uuid": "CRYPT-INTEGRITY-swap\n", **over("dm-0", "sda3")},
        False,
        ("sda3",),
        None,
    ),
    "a mirror of two disks": Place(
        "/dev/md1 partition",
        {**over("md1", "nvme0n1p2", "nvme1n1p2"), **disk("nvme0n1p2", "nvme1n1p2")},
        False,
        ("nvme0n1p2", "nvme1n1p2"),
        None,
    ),
    "a mirror of two encrypted disks": Place(
        "/dev/md1 partition",
        {
            **over("md1", "dm-0", "dm-1"),
            f"{BLOCK}/dm-0/dm/uuid": LUKS,
            **over("dm-0", "sda2"),
            f"{BLOCK}/dm-1/dm/uuid": LUKS,
            **over("dm-1", "sdb2"),
        },
        True,
        ("sda2", "sdb2"),
        None,
    ),
    "a mirror of which one half was forgotten": Place(
        "/dev/md1 partition",
        {**over("md1", "dm-0", "sdb2"), f"{BLOCK}/dm-0/dm/uuid": LUKS, **over("dm-0", "sda2")},
        False,
        ("sda2", "sdb2"),
        None,
    ),
    "bcache, its cache and its disk": Place(
        "/dev/bcache0 partition", over("bcache0", "sdb", "nvme0n1p4"), False, ("nvme0n1p4", "sdb"), None
    ),
    "two paths to one disk of a SAN": Place(
        "/dev/dm-0 partition",
        {f"{BLOCK}/dm-0/dm/uuid": "mpath-36\n", **over("dm-0", "sdc", "sdd")},
        False,
        ("sdc", "sdd"),
        None,
    ),
    "iSCSI": Place(
        "/dev/sdb partition",
        {**disk("sdb"), f"{BLOCK}/sdb/device/../../iscsi_session/session1/state": "LOGGED_IN\n"},
        None,
        ("sdb",),
        SwapHazard.NETWORK,
    ),
    "NVMe over TCP": Place(
        "/dev/nvme1n1p1 partition",
        {**disk("nvme1n1p1"), f"{BLOCK}/nvme1n1p1/../device/transport": "tcp\n"},
        None,
        ("nvme1n1p1",),
        SwapHazard.NETWORK,
    ),
    "NVMe over RDMA by two paths": Place(
        "/dev/nvme1n1 partition",
        {
            **disk("nvme1n1"),
            f"{BLOCK}/nvme1n1/device/nvme1/transport": "rdma\n",
            f"{BLOCK}/nvme1n1/device/nvme2/transport": "rdma\n",
        },
        None,
        ("nvme1n1",),
        SwapHazard.NETWORK,
    ),
    "LUKS over NVMe over TCP": Place(
        "/dev/dm-0 partition",
        {
            f"{BLOCK}/dm-0/dm/uuid": LUKS,
            **over("dm-0", "nvme1n1"),
            f"{BLOCK}/nvme1n1/device/transport": "tcp\n",
        },
        True,
        ("nvme1n1",),
        SwapHazard.NETWORK,
    ),
    "nbd": Place("/dev/nbd0 partition", disk("nbd0"), None, ("nbd0",), SwapHazard.NETWORK),
    "Ceph": Place("/dev/rbd1p1 partition", disk("rbd1p1"), None, ("rbd1p1",), SwapHazard.NETWORK),
    "a loop device": Place("/dev/loop4 partition", disk("loop4"), None, ("loop4",), SwapHazard.LOOP),
    "Ubuntu's file on LVM": Place(
        "/swap.img file",
        {
            **mounted("29 1 252:0 / / rw,relatime shared:1 - ext4 /dev/mapper/ubuntu--vg-ubuntu--lv rw"),
            f"{NUMBER}/252:0/uevent": "DEVNAME=dm-0\n",
            f"{NUMBER}/252:0/dm/uuid": "LVM-q\n",
            f"{NUMBER}/252:0/slaves/sda3/size": "1\n",
        },
        None,
        ("sda3",),
        None,
    ),
    "a file on a mount with a space in its name": Place(
        "/mnt/my\\040disk/swap\\040file file",
        {
            **mounted(
                "29 1 8:2 / / rw shared:1 - ext4 /dev/sda2 rw",
                "61 29 8:17 / /mnt/my\\040disk rw,nosuid - xfs /dev/sdb1 rw,inode64",
            ),
            f"{NUMBER}/8:17/uevent": "DEVNAME=sdb1\n",
            f"{NUMBER}/8:2/dm/uuid": LUKS,
        },
        False,
        ("sdb1",),
        None,
    ),
    "a file that was removed since": Place(
        "/swapfile\\040(deleted) file",
        {
            **mounted("29 1 8:2 / / rw - ext4 /dev/root rw"),
            f"{NUMBER}/8:2/uevent": "DEVNAME=sda2\n",
        },
        False,
        ("sda2",),
        None,
    ),
    "a file on btrfs on an encrypted disk": Place(
        "/swap/swapfile file",
        {
            **mounted(
                "29 1 0:26 /@ / rw,relatime shared:1 - btrfs /dev/mapper/luks-root rw,subvol=/@",
                "54 29 0:26 /@swap /swap rw,relatime - btrfs /dev/mapper/luks-root rw,subvol=/@swap",
            ),
            f"{BLOCK}/dm-0/dm/name": "luks-root\n",
            f"{BLOCK}/dm-0/dm/uuid": LUKS,
            **over("dm-0", "nvme0n1p2"),
        },
        True,
        ("nvme0n1p2",),
        SwapHazard.BTRFS,
    ),
    "a file on btrfs on a bare disk": Place(
        "/swapfile file",
        {**mounted("29 1 0:26 /@ / rw - btrfs /dev/vda2 rw"), **disk("vda2")},
        False,
        ("vda2",),
        SwapHazard.BTRFS,
    ),
    "a file of ext4 on a volume of ZFS": Place(
        "/data/swapfile file",
        {
            **mounted("29 1 230:16 / /data rw - ext4 /dev/zd16 rw"),
            f"{NUMBER}/230:16/uevent": "DEVNAME=zd16\n",
        },
        None,
        ("zd16",),
        SwapHazard.ZFS,
    ),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_where_swap_lies(kernel_with: KernelWith, place: Place) -> None:
    (area,), gaps = read_areas(kernel_with(place.files), parse_swaps(f"{HEAD}{place.line} 8388604 0 -2\n"))
    assert [gap for gap in gaps if not gap.what.startswith("counters")] == []
    assert (area.encrypted, area.devices, area.hazard) == (place.encrypted, place.devices, place.hazard)


@pytest.mark.parametrize(
    ("mount", "hazard"),
    [
        ("29 1 0:23 / / rw - nfs4 server:/export/root rw", SwapHazard.NETWORK),
        ("29 1 0:23 / / rw - zfs rpool/ROOT/pve-1 rw", SwapHazard.ZFS),
        ("29 1 0:23 / / rw - ceph mon:/ rw", SwapHazard.NETWORK),
        ("29 1 0:23 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/b", None),
    ],
)
def test_a_file_on_no_block_device_of_this_host(
    kernel_with: KernelWith, mount: str, hazard: SwapHazard | None
) -> None:
    (area,), gaps = read_areas(kernel_with(mounted(mount)), parse_swaps("/swapfile file 8388604 0 -2\n"))
    kind = mount.split(" - ")[1].split()[0]
    assert gaps == (
        Gap(
            what="device of swap on /swapfile",
            why=f"it is on {kind}, which has no block device on this host",
        ),
    )
    assert (area.encrypted, area.exposed, area.hazard) == (None, False, hazard)


def zram(written_back: str = "0 0 0\n", backing: str = "/dev/sdb1\n") -> Files:
    return {
        f"{BLOCK}/zram0/mm_stat": f"{GIB} 400000000 {512 * MIB} 0 0 0 0 0 0\n",
        f"{BLOCK}/zram0/stat": STAT,
        f"{BLOCK}/zram0/queue/rotational": "0\n",
        f"{BLOCK}/zram0/backing_dev": backing,
        f"{BLOCK}/zram0/bd_stat": written_back,
    }


def zram_area(kernel_with: KernelWith, files: Files) -> SwapArea:
    (area,), gaps = read_areas(kernel_with(files), parse_swaps("/dev/zram0 partition 8388604 0 100\n"))
    assert gaps == ()
    return area


def test_zram_with_a_backing_device_is_on_that_disk(kernel_with: KernelWith) -> None:
    area = zram_area(kernel_with, zram("5242880 7 6242880\n"))
    assert (area.on_disk, area.encrypted, area.exposed) == (True, False, True)
    assert (area.backing, area.backing_held_bytes) == ("/dev/sdb1", 20 * GIB)
    assert area.backing_written_bytes == 6242880 * 4 * KIB, "in 4 KiB, whatever a page is"
    ciphered = zram_area(kernel_with, {**zram(), f"{BLOCK}/sdb1/dm/uuid": LUKS})
    assert (ciphered.on_disk, ciphered.encrypted, ciphered.exposed) == (True, True, False)
    untold = zram_area(kernel_with, zram(backing="/dev/loop0\n"))
    assert (untold.on_disk, untold.encrypted, untold.hazard) == (True, None, SwapHazard.LOOP)


@pytest.mark.parametrize("backing", ["none\n", None])
def test_zram_without_one_is_memory(kernel_with: KernelWith, backing: str | None) -> None:
    files = {path: text for path, text in zram().items() if backing or not path.endswith(("_dev", "bd_stat"))}
    area = zram_area(kernel_with, files | ({f"{BLOCK}/zram0/backing_dev": backing} if backing else {}))
    assert (area.on_disk, area.encrypted, area.backing) == (False, None, None)


def test_what_zram_writes_back_was_written_to_a_disk(kernel_with: KernelWith) -> None:
    """100 MiB went into zram, as its counters say, and 40 MiB of it on to the disk."""
    before = scenarios.host(swap=[zram_area(kernel_with, {**zram(), f"{BLOCK}/zram0/stat": "0 " * 11})])
    after = scenarios.host(swap=[zram_area(kernel_with, zram(f"0 0 {40 * MIB // (4 * KIB)}\n"))])
    pages = SwapTraffic(paged_out_bytes=100 * MIB, written_bytes=100 * MIB)
    none = SwapTraffic(paged_out_bytes=0, written_bytes=0)
    first, second = with_traffic(before, none), with_traffic(after, pages)
    watch = SwapWatch.begin(first).after(second, 60.0)
    assert watch.flow is not None
    assert watch.flow.written_bytes == 40 * MIB
    assert to_disk(second) == 40 * MIB


def with_traffic(host: HostFacts, traffic: SwapTraffic) -> HostFacts:
    return dataclasses.replace(host, swap_traffic=traffic)


def test_only_zram_that_is_swap_tells_how_well_guests_compress(kernel_with: KernelWith) -> None:
    files = {
        "/sys/block/zram0/mm_stat": "1073741824 500000000 511000000 0 0 0 0 0 0\n",
        "/sys/block/zram1/mm_stat": "8589934592 800000000 858993459 0 0 0 0 0 0\n",
    }
    areas = parse_swaps(f"{HEAD}/dev/zram0 partition 4194300 1048576 100\n")
    pool = read_zram(kernel_with(files), areas)
    assert pool == Compressed(stored_bytes=GIB, used_bytes=511000000)
    assert kept_share(pool) == pytest.approx(0.476, abs=0.001)


def test_two_zram_devices_of_one_priority_add_up(kernel_with: KernelWith) -> None:
    """Zram-generator makes one for each processor on some images."""
    files = {f"/sys/block/zram{n}/mm_stat": f"{GIB} 1 {256 * MIB} 0 0 0 0 0 0\n" for n in range(4)}
    swaps = "".join(f"/dev/zram{n} partition 1048572 1048572 100\n" for n in range(4))
    assert read_zram(kernel_with(files), parse_swaps("/mnt/zram1 file 1024 0 -2\n")) is None
    pool = read_zram(kernel_with(files), parse_swaps(swaps))
    assert pool == Compressed(stored_bytes=4 * GIB, used_bytes=GIB)


def test_a_file_that_is_named_like_zram_is_a_file() -> None:
    kinds = [area.kind for area in parse_swaps("/swap/zram0 file 1024 0 -2\n/dev/zram0 partition 1024 0 5\n")]
    assert kinds == [SwapKind.FILE, SwapKind.ZRAM]


@pytest.mark.parametrize(
    ("text", "path", "priority"),
    [
        (
            f"{HEAD}/dev/sda2                               partition\t8388604\t\t1024\t\t-2\n",
            "/dev/sda2",
            -2,
        ),
        ("/dev/sda2 partition 8388604 1024 -2\n", "/dev/sda2", -2),
        ("/dev/sda2 partition 8388604 1024 -2", "/dev/sda2", -2),
        ("\n/dev/sda2 partition 8388604 1024 32767\n\n", "/dev/sda2", 32767),
        (
            "Filename Type Size Used Priority Discard\n/dev/sda2 partition 8388604 1024 -2 once\n",
            "/dev/sda2",
            -2,
        ),
        ("/swap\\040file\\011\\134x file 8388604 1024 -3\n", "/swap file\t\\x", -3),
        ("/swapfile\\040(deleted) file 8388604 1024 -3\n", "/swapfile (deleted)", -3),
        ("/sw\u00e4p\u00a0\u2028file file 8388604 1024 -3\n", "/sw\u00e4p\u00a0\u2028file", -3),
    ],
)
def test_swaps_of_any_shape_are_read(text: str, path: str, priority: int) -> None:
    (area,) = parse_swaps(text)
    assert (area.path, area.priority) == (path, priority)
    assert (area.size_bytes, area.used_bytes) == (8388604 * KIB, MIB)


@pytest.mark.parametrize(
    "line",
    [
        "/swap file file 8388604 1024 -3",
        "/dev/sda2 partition 8388604",
        "/dev/sda2 attached 8388604 1024 -2",
        "/dev/sda2 partition lots 1024 -2",
        "/dev/sda2 partition 8388604 -1024 -2",
        "/dev/sda2 partition 8388604 1024 high",
        "/dev/sda2 partition " + "9" * 5000 + " 1024 -2",
    ],
)
def test_what_names_no_area_is_refused_with_a_sentence_and_is_a_gap_of_the_host(
    kernel_with: KernelWith, line: str
) -> None:
    with pytest.raises(Unreadable, match=r"^/proc/swaps (has a line|has no number)"):
        parse_swaps(f"{HEAD}{line}\n")
    host, gaps = observe_host(kernel_with(HOST | {"/proc/swaps": f"{HEAD}{line}\n"}))
    assert host.swap == ()
    assert [gap.what for gap in gaps if gap.what == "swap"] == ["swap"]


def test_doctor_and_plan_warn_of_the_same_places(kernel_with: KernelWith) -> None:
    host = read_host(kernel_with(HOST))
    for name, place in PLACES.items():
        (area,), _ = read_areas(kernel_with(place.files), parse_swaps(f"{place.line} 8388604 0 -2\n"))
        host = dataclasses.replace(host, swap=(area,))
        finding, notes = swap_finding(area, host), " ".join(swap_place_notes(host))
        untold = "it is not known whether " if area.encrypted is None else ""
        assert untold in notes, name
        assert ("it is not known whether guest memory there is encrypted" in finding.text) is bool(untold), (
            name
        )
        if place.hazard:
            assert place.hazard.value in notes, name
            assert place.hazard.value in finding.text, name
            assert finding.level == "warn", name


def test_swap_that_cannot_be_read_is_not_called_none(kernel_with: KernelWith) -> None:
    host = read_host(kernel_with(HOST | {"/proc/swaps": "/swap x file 9 0 -2\n"}))
    assert host.swap_unread == "/proc/swaps has a line that names no swap area: '/swap x file 9 0 -2'"
    assert read_host(kernel_with(HOST | {"/proc/swaps": HEAD})).swap_unread is None


def test_a_kernel_without_swap_has_none_and_what_cannot_be_read_is_a_gap(kernel_with: KernelWith) -> None:
    gaps: list[Gap] = []
    meminfo = re.sub(r"(Swap(?:Total|Free)):.*", r"\1: 0 kB", HOST["/proc/meminfo"])
    without = kernel_with(
        {p: text for p, text in HOST.items() if p != "/proc/swaps"} | {"/proc/meminfo": meminfo}
    )
    host = read_host(without, gaps)
    assert (host.swap, host.swap_unread, gaps) == ((), None, [])
    assert read_swap_free(without) == 0
    refused = PermissionError(errno.EACCES, "Permission denied", "/proc/swaps")
    host = read_host(kernel_with(HOST | {"/proc/swaps": refused}), gaps)
    assert host.swap == ()
    assert "Permission denied" in (host.swap_unread or "")
    assert [gap.what for gap in gaps] == ["swap"]
