"""Every reader of the kernel's and of libvirt's texts answers any text with a value or an error in words.

The texts are as Linux 6.12 and libvirt 11 write them, then damaged. `READERS` has all readers: one that is
not there fails `test_no_reader_is_left_out`.
"""

from __future__ import annotations

import errno
import functools
import importlib
import inspect
import os
import pkgutil
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.damon import trace, tree
from overcommit.errors import HostError
from overcommit.host import (
    block,
    cgroup,
    figures,
    guest_ram,
    holders,
    kernel,
    ksm,
    lru_gen,
    memory,
    mounts,
    nodes,
    process,
    setaside,
    settings,
    smaps,
    swap,
)
from overcommit.hypervisor import domain_xml, memory_xml
from overcommit.model.accounts import Compressed
from overcommit.model.blocks import Part
from overcommit.model.facts import Definition
from overcommit.model.moments import Monotonic
from overcommit.observe import facts
from overcommit.observe import memory as observed_memory
from tests.unit.conftest import FileKernel
from tests.unit.test_host import HOST

GROUP = "/machine.slice/machine-qemu\\x2d3\\x2dweb.scope"
C = cgroup.ROOT + GROUP
BLOCK = block.DEVICES
PSI = "some avg10=1.53 avg60=0.87 avg300=0.12 total=4200000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
SWAPS = (
    "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    "/dev/zram0                              partition\t4194300\t\t1024\t\t100\n"
    "/dev/dm-1                               partition\t8388604\t\t0\t\t-2\n"
    "/swap\\040file                           file\t\t1048572\t\t512\t\t-3\n"
)
MEMORY_STAT = (
    "anon 912261120\nfile 4096\nkernel 1048576\nshmem 0\ninactive_anon 0\nactive_anon 912261120\n"
    "inactive_file 2048\nactive_file 2048\npgmajfault 17\nworkingset_refault_anon 5\npswpin 3\n"
    "zswap 1048576\nzswapped 4194304\n"
)
SMAPS = (
    "7f0000000000-7f0040000000 rw-p 00000000 00:00 0 \n"
    "Size:            1048576 kB\nRss:              524288 kB\nSwap:               1024 kB\n"
    "VmFlags: rd wr mr mw me dc ac sd hg \n"
    "7f0070000000-7f0070200000 rw-s 00000000 fd:00 9                          /srv/ram \n"
    "Size:               2048 kB\nRss:                2048 kB\nSwap:                  0 kB\n"
    "VmFlags: rd wr sh mr mw me ms sd dc \n"
    "7f0080000000-7f0080200000 rw-s 00000000 00:01 1027                       /memfd:pc.ram (deleted)\n"
    "Size:               2048 kB\nSwap:                  0 kB\nVmFlags: rd wr sh mr mw me ms sd dc \n"
)
XML = """<domain type='kvm' id='3'><name>web</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>
<metadata><c:claim xmlns:c='urn:overcommit:claim:1'><had what='balloon' bytes='1073741824'/></c:claim>
</metadata>
<memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>2097152</currentMemory>
<memoryBacking><access mode='shared'/></memoryBacking><numatune><memory mode='strict' nodeset='0'/>
<memnode cellid='0' mode='strict' nodeset='0-1,^1'/></numatune>
<cpu><numa><cell id='0' cpus='0' memory='1048576' unit='KiB'/></numa></cpu>
<devices><memory model='virtio-mem'><target><size unit='KiB'>1048576</size><node>0</node>
<block unit='KiB'>2048</block><requested unit='KiB'>524288</requested><current unit='KiB'>524288</current>
</target><alias name='ua-hot'/></memory>
<memballoon model='virtio' freePageReporting='on'><stats period='5'/></memballoon></devices></domain>"""
TRACE = (
    "       kdamond.0-162     [000] .....    50.137218: damon_aggregated: target_id=0 nr_regions=2 "
    "4096-8192: 3 1\n"
    "       kdamond.0-162     [000] .....    50.137219: damon_aggregated: target_id=0 nr_regions=2 "
    "8192-65536: 0 4\n"
    "CPU:0 [LOST 3 EVENTS]\n"
)
FILES: dict[str, str] = {
    lru_gen.PATH: f"memcg     7 {GROUP}\n node     0\n          4      47000      66365      14162 \n",
    **HOST,
    "/proc/meminfo": f"{HOST['/proc/meminfo']}Zswap: 1024 kB\nZswapped: 4096 kB\n",
    "/proc/swaps": SWAPS,
    "/proc/pressure/cpu": PSI,
    "/proc/vmstat": "nr_free_pages 100\npswpin 7\npswpout 3000\nzswpin 1\nzswpout 5000\nzswpwb 1000\n",
    "/proc/iomem": "00001000-0009ffff : System RAM\n100000000-17fffffff : System RAM\n",
    "/proc/self/mountinfo": "29 1 8:2 / / rw shared:1 - ext4 /dev/sda2 rw\n"
    "31 29 0:26 /@ /swap\\040x rw - btrfs /dev/mapper/vg-swap rw,subvol=/@\n",
    "/proc/7/stat": "7 (qemu (kvm) x) S 1 7 7 0 -1 4194560 9 0 0 0 1 1 0 0 20 0 4 0 1000 9 9\n",
    "/proc/7/cgroup": f"0::{GROUP}/libvirt/emulator\n",
    "/proc/7/cmdline": "qemu\0-name\0guest=web\0-uuid\0c7a5fdbd-edaf-9455-926a-d65c16db1809\0",
    "/proc/7/smaps": SMAPS,
    "/proc/7/mountinfo": "29 1 253:0 / /srv rw shared:1 - xfs /dev/mapper/vg-srv rw,dax=inode\n",
    "/proc/7/status": "Name:\tqemu\nVmLck:\t    4096 kB\nVmPin:\t 1048576 kB\nMems_allowed_list:\t0-1\n",
    "/proc/7/fd/0": "/dev/vfio/15",
    "/proc/7/comm": "qemu-system-x86\n",
    "/proc/8/comm": "swtpm\n",
    "/proc/8/smaps_rollup": "00400000-7ffc00000000 ---p 00000000 00:00 0    [rollup]\nAnonymous: 2048 kB\n",
    "/proc/7/ksm_merging_pages": "25\n",
    "/sys/block/zram0/mm_stat": "1048576 300000 409600 0 409600 0 0 0 0\n",
    f"{BLOCK}/zram0/mm_stat": "1048576 300000 409600 0 409600 0 0 0 0\n",
    f"{BLOCK}/zram0/stat": "0 0 0 0 128 0 1024 5 0 5 5\n",
    f"{BLOCK}/zram0/queue/rotational": "0\n",
    f"{BLOCK}/zram0/backing_dev": "/dev/sdb1\n",
    f"{BLOCK}/zram0/bd_stat": "10 2 10\n",
    f"{BLOCK}/dm-1/stat": "1200 30 96000 2400 500 20 204800 9000 0 5000 11400\n",
    f"{BLOCK}/dm-1/queue/rotational": "0\n",
    f"{BLOCK}/dm-1/dm/uuid": "LVM-abc\n",
    f"{BLOCK}/dm-1/dm/name": "vg-swap\n",
    f"{BLOCK}/dm-1/slaves/sda3/size": "1\n",
    f"{BLOCK}/sda3/device/transport": "pcie\n",
    "/sys/dev/block/8:2/uevent": "MAJOR=8\nMINOR=2\nDEVNAME=sda2\nDEVTYPE=partition\n",
    "/sys/dev/block/8:2/stat": "1 0 8 1 1 0 8 1 0 1 1\n",
    "/sys/dev/block/8:2/../queue/rotational": "1\n",
    f"{swap.ZSWAP}/enabled": "Y\n",
    f"{swap.ZSWAP}/max_pool_percent": "20\n",
    **{
        f"{ksm.DIRECTORY}/{name}": f"{value}\n"
        for name, value in {
            **dict.fromkeys(("pages_shared", "pages_sharing", "pages_unshared", "full_scans"), 9),
            "run": 1,
            "pages_to_scan": 100,
            "sleep_millisecs": 20,
            "general_profit": -4096,
            "advisor_mode": "[none] scan-time",
            "merge_across_nodes": 1,
        }.items()
    },
    f"{setaside.HUGE_PAGES}/hugepages-524288kB/nr_hugepages": "2\n",
    f"{setaside.HUGE_PAGES}/hugepages-524288kB/free_hugepages": "1\n",
    setaside.ARC: "13 1 0x01 147 39984 51 10\nname type data\nc_min 4 1073741824\nsize 4 9663676416\n",
    **{
        f"{nodes.DIRECTORY}/node{nid}/meminfo": f"Node {nid} MemTotal: 838860 kB\nNode {nid} MemFree: 40 kB\n"
        for nid in (0, 1)
    },
    **{
        f"{settings.SYSCTL}/{name}": "1\n"
        for name in ("zone_reclaim_mode", "swappiness", "overcommit_memory")
    },
    f"{settings.SYSCTL}/min_free_kbytes": "67584\n",
    f"{settings.SYSCTL}/watermark_scale_factor": "10\n",
    f"{settings.HUGE_PAGES}/enabled": "always [madvise] never\n",
    f"{settings.HUGE_PAGES}/khugepaged/max_ptes_none": "511\n",
    f"{cgroup.ROOT}/cgroup.controllers": "cpuset cpu io memory pids\n",
    "/etc/tuned/active_profile": "virtual-host\n",
    f"{C}/memory.current": "912265216\n",
    f"{C}/memory.swap.current": "1048576\n",
    f"{C}/memory.max": "4294967296\n",
    f"{C}/memory.high": "max\n",
    f"{C}/memory.swap.max": "8589934592\n",
    f"{C}/memory.swap.high": "max\n",
    f"{C}/memory.zswap.max": "268435456\n",
    f"{C}/memory.zswap.writeback": "0\n",
    f"{C}/memory.stat": MEMORY_STAT,
    f"{C}/memory.numa_stat": "anon N0=109879296 N1=4096\nfile N0=0 N1=0\nshmem N0=8192 N1=1000\n",
    f"{C}/memory.pressure": PSI,
    f"{C}/cgroup.procs": "7\n",
}
"""A host with one guest of process 7."""
IN_A_FILE = Definition(
    maximum_bytes=1 << 30, balloon_model="none", parts=(Part(size_bytes=1 << 30), Part(size_bytes=1 << 21))
)


def tracked(text: str) -> list[object]:
    assembler = trace.WindowAssembler()
    assembler.begin(162, Monotonic(48.0), seconds=2.0)
    return list(assembler.feed(text))


def mounted(host: FileKernel) -> str:
    return block.directory_of_mount(host, block.read_mount(host, "/swap x/file"))


def mapped(text: str) -> object:
    mappings = tuple(smaps.parse_smaps(text))
    mounted_there = {"fd:00": mounts.FileSystem("xfs", False)}.get
    guest_ram.process_memory(mappings, mounted_there)
    guest_ram.locked_bytes(mappings)
    return guest_ram.find_blocks(mappings, IN_A_FILE.parts, mounted_there)


def regions(text: str) -> object:
    return tree.parse_regions(dict.fromkeys(("0/start", "0/end", "0/nr_accesses", "1/start"), text))


def rows_named(text: str) -> object:
    """It finds what `rows` does, whatever else is in the text; of a row that is there twice the first."""
    names = ("anon", "pswpin", "pgmajfault")
    found = figures.rows_named(text, names)
    first = figures.rows("\n".join(reversed(text.split("\n"))))
    assert found == {name: first[name] for name in names if f"\n{name} " in f"\n{text}"}
    return found


OfFiles = Callable[[FileKernel], object]
OfText = Callable[[str], object]
READERS: dict[Callable[..., object], OfFiles] = {
    lru_gen.read_generations: lambda host: lru_gen.read_generations(host, {GROUP}),
    block.directory_of_mount: mounted,
    block.read_physical_devices: lambda host: block.read_physical_devices(host, f"{BLOCK}/dm-1"),
    block.read_device: lambda host: block.read_device(host, f"{BLOCK}/dm-1"),
    block.read_mount: lambda host: block.read_mount(host, "/swap x/file"),
    block.read_name: lambda host: block.read_name(host, "/sys/dev/block/8:2"),
    cgroup.read_cgroup: lambda host: cgroup.read_cgroup(host, 7),
    cgroup.read_limit: lambda host: cgroup.read_limit(host, GROUP, own=True),
    cgroup.read_limits: lambda host: cgroup.read_limits(host, GROUP),
    cgroup.read_swap_limit: lambda host: cgroup.read_swap_limit(host, GROUP, own=True),
    cgroup.read_zswap_limit: lambda host: cgroup.read_zswap_limit(
        host, GROUP, Compressed(stored_bytes=1 << 30, used_bytes=1 << 28), own=True
    ),
    cgroup.read_signs: lambda host: cgroup.read_signs(host, GROUP),
    figures.read_number: lambda host: figures.read_number(host, f"{C}/memory.current"),
    ksm.read_ksm: ksm.read_ksm,
    ksm.read_merged: lambda host: ksm.read_merged(host, 7),
    ksm.read_setting: lambda host: ksm.read_setting(host, "advisor_mode"),
    memory.read_boot_id: memory.read_boot_id,
    memory.read_host: memory.read_host,
    memory.read_pressure: lambda host: memory.read_pressure(host, "/proc/pressure/memory"),
    memory.read_swap_free: memory.read_swap_free,
    memory.read_swaps: memory.read_swaps,
    memory.read_system_ram: memory.read_system_ram,
    memory.read_total: memory.read_total,
    memory.read_zram: lambda host: memory.read_zram(host, memory.parse_swaps(SWAPS)),
    nodes.read_allowed: lambda host: nodes.read_allowed(host, 7),
    nodes.read_nodes: nodes.read_nodes,
    nodes.read_placement: lambda host: nodes.read_placement(host, GROUP),
    process.read_start_time: lambda host: process.read_start_time(host, 7),
    process.runs_domain: lambda host: process.runs_domain(host, 7, "c7a5fdbd"),
    setaside.read_arc: setaside.read_arc,
    setaside.read_huge_pages: setaside.read_huge_pages,
    settings.read_settings: settings.read_settings,
    swap.read_areas: lambda host: swap.read_areas(host, memory.parse_swaps(SWAPS)),
    swap.read_traffic: swap.read_traffic,
    swap.read_zswap: swap.read_zswap,
    holders.read_companions: lambda host: list(holders.read_companions(host, (7, 8))),
    holders.read_open: lambda host: holders.read_open(host, 7),
    holders.read_pinned: lambda host: holders.read_pinned(host, 7, 0),
    mounts.read_file_systems: lambda host: mounts.read_file_systems(host, 7),
    observed_memory.locate_ram: lambda host: observed_memory.locate_ram(host, 7, IN_A_FILE, 1 << 30),
    facts.observe_host: facts.observe_host,
}
"""Readers of files, each as it reads from that host."""
PARSERS: dict[Callable[..., object], tuple[OfText, str]] = {
    block.unescaped: (block.unescaped, "/swap\\040file\\011"),
    domain_xml.parse_definition: (domain_xml.parse_definition, XML),
    domain_xml.resized_device: (lambda text: domain_xml.resized_device(text, "ua-hot", 1 << 30), XML),
    figures.excerpt: (figures.excerpt, "4096\n"),
    figures.number: (lambda text: figures.number(text, "a file"), "4096\n"),
    figures.numbers: (lambda text: figures.numbers(text, "a file", at_least=3), "1 2 3\n"),
    figures.row: (lambda text: figures.row(figures.rows(text), "anon", "memory.stat"), MEMORY_STAT),
    figures.rows: (figures.rows, MEMORY_STAT),
    figures.rows_named: (rows_named, MEMORY_STAT),
    figures.signed_number: (lambda text: figures.signed_number(text, "a file"), "-4096\n"),
    kernel.process_statistics: (kernel.process_statistics, FILES["/proc/7/stat"]),
    kernel.start_time_of: (kernel.start_time_of, FILES["/proc/7/stat"]),
    memory.parse_meminfo: (memory.parse_meminfo, FILES["/proc/meminfo"]),
    memory.parse_pressure: (memory.parse_pressure, PSI),
    memory.parse_swaps: (memory.parse_swaps, SWAPS),
    memory.parse_zram: (memory.parse_zram, "1048576 300000 409600 0 409600 0 0 0 0\n"),
    block.parse_mounts: (lambda text: list(block.parse_mounts(text)), FILES["/proc/self/mountinfo"]),
    memory_xml.bytes_of: (lambda text: memory_xml.bytes_of(ET.Element("cell", unit="MiB"), text), "2048"),
    memory_xml.number_of: (memory_xml.number_of, "2097152"),
    smaps.parse_smaps: (mapped, SMAPS),
    trace.WindowAssembler: (tracked, TRACE),
    tree.parse_regions: (regions, "4096\n"),
}
"""Readers of a text, each with one."""
NO_READERS = {
    "overcommit.host.cgroup": {"groups_above", "reclaim", "reclaims_anonymous_only"},
    "overcommit.host.guest_ram": {"no_block_device"},
    "overcommit.host.ksm": {"write_setting"},
    "overcommit.host.lru_gen": {"walk"},
    "overcommit.host.madvise": {"process_madvise"},
    "overcommit.host.residency": {"residency_of"},  # the page map, and what parse_smaps reads
    "overcommit.observe.facts": {"identify", "observe"},  # of libvirt too: below
    "overcommit.observe.memory": {"attempt_or_gap", "read_memory"},
}
"""What has a kernel or a text among its arguments and reads none of their texts."""

NASTY = (
    *("", "-1", "+1", "nan", "inf", "1e999", "0x10", "1_000", "\u0661\u0662", "\u00b2", "max"),
    *("9" * 20, "9" * 5000, "\0", "\udcff", "\u2028", "\x85", "-", "=", ":", "/", "N=", "<", "&", "[x]"),
    *("\\", "\\400", "\\999", "%", " ", "\n"),
)


class Damage(NamedTuple):
    """What happens to a text, at which of its places, and with what."""

    kind: str
    place: int
    other: str

    def of(self, text: str) -> str:
        words, lines = re.findall(r"[^\s=<>'-]+", text) or [text], text.split("\n")
        word, line, at = words[self.place % len(words)], self.place % len(lines), self.place % (len(text) + 1)
        match self.kind:
            case "word":
                return text.replace(word, self.other, 1)
            case "each such word":
                return text.replace(word, self.other, 99)
            case "line":
                return "\n".join([*lines[:line], self.other, *lines[line + 1 :]])
            case "line gone":
                return "\n".join([*lines[:line], *lines[line + 1 :]])
            case "line twice":
                return "\n".join([*lines[:line], lines[line], *lines[line:]])
            case "cut":
                return text[:at]
            case "more":
                return text[:at] + self.other + text[at:]
            case _:
                return self.other


KINDS = ("word", "each such word", "line", "line gone", "line twice", "cut", "more", "all")
DAMAGES = st.builds(
    Damage,
    st.sampled_from(KINDS),
    st.integers(0, 2000),
    st.sampled_from(NASTY) | st.text(max_size=20),
)
FAILURES = st.sampled_from(
    [None, None, None, errno.ENOENT, errno.ESRCH, errno.EIO, errno.EACCES, errno.ENODEV, errno.EOPNOTSUPP]
)
"""Why a file cannot be read, where it cannot."""


def complaint(read: Callable[[], object]) -> str:
    """What it says instead of a value, as a gap would have it; any other error ends the test."""
    try:
        read()
    except (HostError, OSError) as error:
        return str(error)
    return "a value"


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: f"{reader.__module__}.{reader.__name__}")
@given(st.lists(st.tuples(st.integers(0, 100), FAILURES, DAMAGES), min_size=1, max_size=3))
def test_any_file_is_read_or_is_an_error_in_a_sentence(
    reader: Callable[..., object], harms: list[tuple[int, int | None, Damage]]
) -> None:
    asked = asked_by(reader)
    files: dict[str, str | OSError] = dict(FILES)
    for number, failure, damage in harms:
        path = asked[number % len(asked)]
        harmed = OSError(failure, os.strerror(failure), path) if failure else damage.of(FILES[path])
        files[path] = harmed
    said = complaint(lambda: READERS[reader](FileKernel(files)))
    assert said.strip()
    assert "invalid literal" not in said


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: f"{parser.__module__}.{parser.__name__}")
@given(DAMAGES, DAMAGES)
def test_any_text_is_read_or_is_an_error_in_a_sentence(
    parser: Callable[..., object], one: Damage, another: Damage
) -> None:
    parse, text = PARSERS[parser]
    said = complaint(lambda: parse(another.of(one.of(text))))
    assert said.strip()
    assert "invalid literal" not in said


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: f"{parser.__module__}.{parser.__name__}")
def test_an_undamaged_text_is_read(parser: Callable[..., object]) -> None:
    parse, text = PARSERS[parser]
    parse(text)


class Recorder(FileKernel):
    """Takes down what was read."""

    asked: set[str]

    def __init__(self, files: dict[str, str | OSError]) -> None:
        super().__init__(files)
        self.asked = set()

    def read(self, path: str) -> str:
        self.asked.add(path)
        return super().read(path)


@functools.cache
def asked_by(reader: Callable[..., object]) -> list[str]:
    """The files that a reader reads where nothing is damaged."""
    host = Recorder(dict(FILES))
    READERS[reader](host)
    return sorted(host.asked & FILES.keys())


def readers_of(package: str) -> Iterator[tuple[str, str, Callable[..., object]]]:
    """The public functions of a package that get a kernel or a text."""
    where = importlib.import_module(package).__path__
    names = [f"{package}.{found.name}" for found in pkgutil.iter_modules(where)]
    for module in map(importlib.import_module, names):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_") or function.__module__ != module.__name__:
                continue
            kinds = {parameter.annotation for parameter in inspect.signature(function).parameters.values()}
            if kinds & {"Kernel", "str"}:
                yield module.__name__, name, function


def test_no_reader_is_left_out() -> None:
    found = [*readers_of("overcommit.host")]
    found += [each for each in readers_of("overcommit.hypervisor") if each[0].endswith("_xml")]
    found += [each for each in readers_of("overcommit.observe") if each[0].endswith((".facts", ".memory"))]
    left_out = [
        f"{module}.{name}"
        for module, name, function in found
        if function not in READERS and function not in PARSERS and name not in NO_READERS.get(module, set())
    ]
    assert left_out == [], "add them to READERS or PARSERS"
    assert len(found) >= len(READERS) + len(PARSERS) - 2  # the trace and the regions are of DAMON


def test_every_file_of_the_host_is_read_by_somebody() -> None:
    read = {path for reader in READERS for path in asked_by(reader)}
    assert FILES.keys() - read == {f"{BLOCK}/dm-1/slaves/sda3/size"}  # it is there, and that is all


def test_undamaged_the_host_has_no_gaps() -> None:
    host, gaps = facts.observe_host(FileKernel(dict(FILES)))
    assert gaps == ()
    assert len(host.swap) == 3
