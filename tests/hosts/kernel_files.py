"""The files of a host that is described in a case: what ``/proc``, ``/sys`` and libvirt show of it."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from overcommit.hypervisor.port import ListedDomain, Surveyed
from overcommit.model.facts import BalloonStats, Residency, RunState
from overcommit.model.heat import IdleSpan
from overcommit.model.moments import Monotonic, Wall
from overcommit.model.ranges import Range, intersect, normalise
from overcommit.units import GIB, KIB, MIB, parse_size
from tests import scenarios
from tests.unit.conftest import FileKernel

Words = dict[str, Any]

_CALM = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
_ZRAM = "0 0 0 0 0 0 0 0 0\n"
_MOUNTS = """\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw
24 22 0:5 / /dev rw,nosuid shared:2 - devtmpfs devtmpfs rw
25 24 0:25 / /dev/shm rw,nosuid,nodev shared:3 - tmpfs tmpfs rw
26 24 0:26 / /dev/hugepages rw,relatime shared:4 - hugetlbfs hugetlbfs rw,pagesize=2M
27 24 0:27 / /dev/hugepages1G rw,relatime shared:5 - hugetlbfs hugetlbfs rw,pagesize=1024M
28 22 253:1 / /srv rw,relatime shared:6 - xfs /dev/mapper/vg-srv rw
29 22 259:0 / /mnt/pmem rw,relatime shared:7 - ext4 /dev/pmem0 rw,dax=always
30 22 0:50 / /mnt/nfs rw,relatime shared:8 - nfs4 nas:/vms rw,vers=4.2
"""


def size(words: str | int) -> int:
    return parse_size(str(words))


class Vma(NamedTuple):
    """One mapping of QEMU as smaps shows it; ``idle`` lays out what is resident by seconds idle."""

    start: int
    size_bytes: int
    flags: tuple[str, ...]
    backing: str
    idle: Mapping[int, int]
    swapped_bytes: int
    anonymous_bytes: int
    page_bytes: int

    @classmethod
    def of(cls, words: Words) -> Vma:
        about = dict(words)
        flags = tuple(str(about.pop("flags")).split())
        idle = {seconds: size(amount) for seconds, amount in (about.pop("idle", None) or {}).items()}
        resident = sum(idle.values())
        backing = str(about.pop("backing", "00:00 0"))
        private = "sh" not in flags and "ht" not in flags
        vma = cls(
            start=about.pop("at"),
            size_bytes=size(about.pop("size")),
            flags=flags,
            backing=backing,
            idle=idle,
            swapped_bytes=size(about.pop("swap", 0)),
            anonymous_bytes=size(about.pop("anonymous", resident if private else 0)),
            page_bytes=size(about.pop("page", "4KiB")),
        )
        scenarios.require(not about, f"unknown words about a mapping: {', '.join(about)}")
        held = resident + vma.swapped_bytes
        scenarios.require(held <= vma.size_bytes, f"{vma.start:#x}: more resident and swapped than mapped")
        scenarios.require(vma.anonymous_bytes <= resident, f"{vma.start:#x}: more anonymous than resident")
        return vma

    @property
    def span(self) -> Range:
        return Range(self.start, self.start + self.size_bytes)

    @property
    def resident(self) -> Range:
        return Range(self.start, self.start + sum(self.idle.values()))

    @property
    def in_page_map(self) -> bool:
        """What has no pages of its own (VM_PFNMAP) the kernel's walk leaves out."""
        return "pf" not in self.flags

    def text(self) -> str:
        resident, huge = sum(self.idle.values()), "ht" in self.flags
        private = huge and "sh" not in self.flags
        figures = {
            "Size": self.size_bytes,
            "KernelPageSize": self.page_bytes,
            "MMUPageSize": self.page_bytes,
            # Documentation/filesystems/proc.rst: huge pages of hugetlbfs count in neither Rss nor Pss.
            "Rss": 0 if huge or not self.in_page_map else resident,
            "Anonymous": self.anonymous_bytes,
            "Shared_Hugetlb": resident if huge and not private else 0,
            "Private_Hugetlb": resident if private else 0,
            "Swap": self.swapped_bytes,
            "Locked": resident if "lo" in self.flags else 0,
        }
        access = "rw-s" if "sh" in self.flags else "rw-p"
        return (
            f"{self.span.start:x}-{self.span.end:x} {access} 00000000 {self.backing}\n"
            + "".join(f"{name}: {amount // KIB:>12} kB\n" for name, amount in figures.items())
            + f"THPeligible:           0\nVmFlags: {' '.join(self.flags)} \n"
        )

    def spans(self) -> Iterator[IdleSpan]:
        """As DAMON sees it: in many regions."""
        at = self.start
        for seconds, amount in self.idle.items():
            end = at + amount
            while at < end:
                step = min(end, at + 64 * MIB)
                yield IdleSpan(at, step, Monotonic(300.0 - seconds), scenarios._recent(seconds))
                at = step


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A domain of the case: its QEMU process, its cgroup and what libvirt knows of it."""

    name: str
    pid: int
    uuid: str
    xml: str
    vmas: tuple[Vma, ...]
    files: Mapping[str, str]
    balloon: BalloonStats | None
    state: RunState
    pain: str | None
    left: Mapping[str, int] | None

    @classmethod
    def of(cls, name: str, number: int, words: Words) -> Machine:
        about = dict(words)
        pid = 4242 + number
        uuid = scenarios.incarnation(name).uuid
        vmas = tuple(Vma.of(each) for each in about.pop("memory"))
        said = about.pop("guest", None)
        balloon = None if said is None else _balloon(dict(said))
        left = about.pop("left", None)
        machine = cls(
            name=name,
            pid=pid,
            uuid=uuid,
            xml=about.pop("xml"),
            vmas=vmas,
            files=_files(name, pid, uuid, vmas, about),
            balloon=balloon,
            state=RunState(about.pop("state", "running")),
            pain=about.pop("pain", None),
            left=None if left is None else {word: size(amount) for word, amount in left.items()},
        )
        scenarios.require(not about, f"unknown words about {name}: {', '.join(about)}")
        return machine


def _balloon(words: Words) -> BalloonStats:
    usable, unused = words.pop("usable", 0), words.pop("unused", None)
    stats = BalloonStats(
        actual_bytes=size(words.pop("actual")),
        age_seconds=3.0,
        usable_bytes=size(usable),
        unused_bytes=None if unused is None else size(unused),
    )
    scenarios.require(not words, f"unknown words about a guest: {', '.join(words)}")
    return stats


def group_of(name: str, number: int) -> str:
    return f"/machine.slice/machine-qemu\\x2d{number + 1}\\x2d{name}.scope/libvirt"


def _files(name: str, pid: int, uuid: str, vmas: Sequence[Vma], about: Words) -> dict[str, str]:
    number = pid - 4242
    cgroup = about.pop("group", group_of(name, number))
    group, process = f"/sys/fs/cgroup{cgroup}", f"/proc/{pid}"
    charge = {kind: size(amount) for kind, amount in about.pop("charge").items()}
    anon, file, shmem = charge.pop("anon"), charge.pop("file", 0), charge.pop("shmem", 0)
    kernel, unevictable = charge.pop("kernel", 0), charge.pop("unevictable", 0)
    scenarios.require(not charge, f"unknown kinds of charge: {', '.join(charge)}")
    scenarios.require(shmem + unevictable <= file, "memory.stat counts shared memory as file, too")
    helpers = {str(key): dict(helper) for key, helper in about.pop("helpers", {}).items()}
    arguments = ["qemu-system-x86_64", "-name", f"guest={name}", "-uuid", uuid, *about.pop("command", ())]
    status = {"VmLck": 0, "VmPin": 0} | {k: size(v) for k, v in about.pop("status", {}).items()}
    locked = sum(vma.size_bytes for vma in vmas if "lo" in vma.flags)
    status["VmLck"] = max(status["VmLck"], locked)
    files = {
        f"{process}/stat": f"{pid} (qemu-system-x86) S " + "0 " * 18 + "1000 0 0\n",
        f"{process}/comm": "qemu-system-x86\n",
        f"{process}/cmdline": "".join(f"{argument}\0" for argument in arguments),
        f"{process}/cgroup": f"0::{cgroup}/emulator\n",
        f"{process}/smaps": "".join(vma.text() for vma in sorted(vmas)),
        f"{process}/mountinfo": about.pop("mounts", _MOUNTS),
        f"{process}/status": "Name:\tqemu-system-x86\n"
        + "".join(f"{field}:\t{amount // KIB:>8} kB\n" for field, amount in status.items())
        + f"Mems_allowed_list:\t{about.pop('mems_allowed', '0')}\n",
        f"{group}/memory.current": f"{anon + file + kernel}\n",
        f"{group}/memory.swap.current": f"{sum(vma.swapped_bytes for vma in vmas)}\n",
        f"{group}/memory.pressure": _CALM,
        f"{group}/memory.reclaim": "",
        f"{group}/cgroup.procs": "".join(f"{each}\n" for each in (pid, *helpers)),
        f"{group}/memory.stat": f"anon {anon}\nfile {file}\nkernel {kernel}\nshmem {shmem}\n"
        f"active_file {file - shmem - unevictable}\ninactive_file 0\nunevictable {unevictable}\n"
        "pgmajfault 0\nworkingset_refault_anon 0\npswpin 0\n",
    }
    for fd, target in enumerate(("/dev/null", "socket:[4711]", "/dev/kvm", *about.pop("open", ()))):
        files[f"{process}/fd/{fd}"] = target
    for helper, said in helpers.items():
        files |= _helper_files(f"/proc/{helper}", said)
    given = about.pop("files", {})
    return files | {
        path.replace("PROC", process).replace("GROUP", group): text for path, text in given.items()
    }


def _helper_files(process: str, words: Words) -> dict[str, str]:
    files = {f"{process}/comm": f"{words.pop('comm')}\n"} if "comm" in words else {}
    if "anonymous" in words:
        amount = size(words.pop("anonymous")) // KIB
        files[f"{process}/smaps_rollup"] = (
            f"00400000-7ffc00000000 ---p 00000000 00:00 0    [rollup]\nRss: {amount + 2048} kB\n"
            f"Pss: {amount} kB\nAnonymous: {amount} kB\nSwap: {size(words.pop('swap', 0)) // KIB} kB\n"
        )
    scenarios.require(not words, f"unknown words about a helper: {', '.join(words)}")
    return files


def host_files(words: Words) -> dict[str, str]:
    """The host's own; it uses these words up."""
    total, available = size(words.pop("total", "64GiB")), size(words.pop("available", "8GiB"))
    swap, used = size(words.pop("swap", "32GiB")), size(words.pop("swap_used", 0))
    scenarios.require(available <= total and used <= swap, "a host cannot have more than all")
    device = "/sys/class/block/zram0"
    area = f"/dev/zram0 partition {swap // KIB} {used // KIB} 100\n" if swap else ""
    return {
        "/proc/meminfo": f"MemTotal: {total // KIB} kB\nMemAvailable: {available // KIB} kB\n"
        "Active: 1000 kB\nInactive: 1000 kB\nUnevictable: 0 kB\nShmem: 0 kB\nZswap: 0 kB\nZswapped: 0 kB\n",
        "/proc/sys/kernel/hostname": "kvm1\n",
        "/proc/sys/kernel/osrelease": "6.12.0\n",
        "/proc/sys/kernel/random/boot_id": "b\n",
        "/proc/vmstat": "pswpin 0\npswpout 0\n",
        "/proc/swaps": "Filename Type Size Used Priority\n" + area,
        "/proc/pressure/memory": _CALM,
        "/proc/pressure/cpu": _CALM,
        "/sys/block/zram0/mm_stat": _ZRAM,
        f"{device}/mm_stat": _ZRAM,
        f"{device}/size": f"{swap // 512}\n",
        f"{device}/stat": "0 0 0 0 0 0 0 0 0 0 0\n",
        f"{device}/queue/rotational": "0\n",
    } | dict(words.pop("files", {}))


class HostKernel(FileKernel):
    """The kernel of the case; ``None`` as a file's text is a file that only others may read."""

    def __init__(self, files: Mapping[str, str | None], machines: Sequence[Machine]) -> None:
        super().__init__(
            {path: PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) if text is None else text
             for path, text in files.items()}
        )  # fmt: skip
        self._machines = {machine.pid: machine for machine in machines}

    def lock_holder(self, path: str) -> int | None:
        name = path.rpartition("/")[2].removesuffix(".pid")
        return next(machine.pid for machine in self._machines.values() if machine.name == name)

    def residency(self, pid: int, ram: Sequence[Range]) -> Residency:
        """As the page map has it: what of a shared mapping is in swap it does not show."""
        vmas = [vma for vma in self._machines[pid].vmas if vma.in_page_map]
        swapped = sum(
            vma.swapped_bytes
            for vma in vmas
            if "sh" not in vma.flags and any(r.start <= vma.start < r.end for r in ram)
        )
        return Residency(
            resident=tuple(intersect(normalise(vma.resident for vma in vmas), ram)), swapped_bytes=swapped
        )

    def count_resident(self, pid: int, ram: Sequence[Range]) -> int:
        raise AssertionError(f"only observed: {pid} {ram}")


class HostLibvirt:
    """What libvirt says of the case's domains, as far as it is asked when they are observed."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = {machine.uuid: machine for machine in machines}

    def domains(self) -> tuple[ListedDomain, ...]:
        return tuple(
            ListedDomain(
                machine.name, machine.uuid, machine.state, f"/run/libvirt/qemu/{machine.name}.pid", GIB
            )
            for machine in self._machines.values()
        )

    def survey(self, *, now: Wall) -> tuple[Surveyed, ...]:
        raise AssertionError(f"only observed: {now}")

    def state(self, uuid: str) -> RunState:
        return self._machines[uuid].state

    def xml(self, uuid: str) -> str:
        return self._machines[uuid].xml

    def defined(self, name: str) -> str | None:
        raise AssertionError(f"only observed: {name}")

    def busy_with(self, uuid: str) -> str | None:
        assert uuid in self._machines
        return None

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        assert now == scenarios.NOW
        stats = self._machines[uuid].balloon
        assert stats is not None, "a domain with a balloon needs what its guest says"
        return dataclasses.replace(stats)

    def describe(self) -> str:
        raise AssertionError("only observed")

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        raise AssertionError(f"only observed: {uuid} {size_bytes}")

    def resize_memory_device(self, uuid: str, alias: str, requested_bytes: int) -> None:
        raise AssertionError(f"only observed: {uuid} {alias} {requested_bytes}")

    def set_claim(self, uuid: str, claim: Mapping[str, int]) -> None:
        raise AssertionError(f"only observed: {uuid} {claim}")

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        raise AssertionError(f"only observed: {uuid} {command} {seconds}")
