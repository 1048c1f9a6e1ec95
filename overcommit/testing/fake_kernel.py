"""``/proc``, ``/sys`` and two system calls over a `FakeHost`."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Sequence

from overcommit.damon.sysfs import ROOT
from overcommit.damon.trace import TRACING
from overcommit.errors import Gone
from overcommit.host.block import DEVICES
from overcommit.host.cgroup import ROOT as CGROUPS
from overcommit.host.kernel import Advice
from overcommit.host.ksm import DIRECTORY as KSM
from overcommit.host.lru_gen import PATH as LRU_GEN
from overcommit.host.nodes import DIRECTORY as NODES
from overcommit.host.setaside import HUGE_PAGES
from overcommit.model.facts import Residency
from overcommit.model.ranges import Range, intersect
from overcommit.testing.fake_accounts import charge_files, charge_statistics, host_files
from overcommit.testing.fake_damon import FakeDamon
from overcommit.testing.fake_host import FakeGuest, FakeHost
from overcommit.testing.fake_kdamond import refusal
from overcommit.testing.fake_ksm import FakeKsm
from overcommit.testing.fake_lru_gen import FakeLruGen
from overcommit.testing.fake_trace import FakeTrace
from overcommit.units import KIB, MIB

_PSI = "{} avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"

# The files behind damon_sysfs_lock (mm/damon/sysfs.c); the others are plain variables.
_LOCKED_TO_READ = re.compile(r"/(state|pid)$")
_LOCKED_TO_WRITE = re.compile(r"/(state|nr_\w+)$")


class FakeKernel:
    """`overcommit.host.kernel.Kernel`.

    ``busy`` is the number of next accesses to DAMON's global lock that fail with EBUSY.
    """

    def __init__(self, host: FakeHost, damon: FakeDamon | None = None) -> None:
        self.host = host
        self.damon = damon or FakeDamon(host)
        self.trace = FakeTrace(self.damon)
        self.ksm = FakeKsm(host, self.damon.version)
        self.lru_gen = FakeLruGen(host)
        self.busy = 0
        self._there: tuple[object, ...] = ()
        self._files: dict[str, Callable[[], str]] = {}

    def read(self, path: str) -> str:
        """See `Kernel.read`."""
        self.host.on_read(path)
        if path.startswith((ROOT, "/sys/module/damon")):
            self._maybe_busy(path, _LOCKED_TO_READ)
            return self.damon.read(path)
        if path == LRU_GEN:
            return self.lru_gen.read()
        return self._content(path)()

    def read_all(self, directory: str, names: Sequence[str]) -> tuple[str, ...]:
        """See `Kernel.read_all`."""
        return tuple(self.read(f"{directory}/{name}") for name in names)

    def read_tree(self, directory: str, leave_out: Collection[str]) -> dict[str, str]:
        """See `Kernel.read_tree`."""
        contents: dict[str, str] = {}
        for name in self.list(directory):
            if name in leave_out:
                continue
            try:
                contents[name] = self.read(f"{directory}/{name}")
            except IsADirectoryError:
                below = self.read_tree(f"{directory}/{name}", leave_out)
                contents |= {f"{name}/{path}": content for path, content in below.items()}
        return contents

    def write_all(self, directory: str, writes: Sequence[tuple[str, str]], *, go_on: bool) -> tuple[int, ...]:
        """See `Kernel.write_all`."""
        errors: list[int] = []
        for path, value in writes:
            try:
                self.write(f"{directory}/{path}", value)
                errors.append(0)
            except OSError as error:
                errors.append(error.errno or errno.EIO)
                if not go_on:
                    break
        return tuple(errors)

    def write(self, path: str, value: str) -> None:
        """See `Kernel.write`."""
        self.host.on_write(path, value)
        self._maybe_busy(path, _LOCKED_TO_WRITE)
        if path.startswith((ROOT, "/sys/module/damon")):
            self.damon.write(path, value)
        elif path.startswith(TRACING):
            self.trace.write(path, value)
        elif path.startswith(KSM):
            self.ksm.write(path, value)
        elif path == LRU_GEN:
            self.lru_gen.write(value)
        elif path.endswith("/memory.reclaim"):
            self._reclaim(path, value)
        else:
            raise refusal(errno.EACCES, path)
        self.host.after_write(path, value)

    def list(self, path: str) -> tuple[str, ...]:
        """See `Kernel.list`."""
        if path.startswith(ROOT):
            return self.damon.list(path)
        if path == NODES:
            return ("node0", "node1", "online") if self.host.second_node_bytes else ("node0", "online")
        if path == "/sys/block":
            return (self.host.swap_device,)
        return ("hugepages-2048kB",) if path == HUGE_PAGES else ()

    def exists(self, path: str) -> bool:
        """See `Kernel.exists`."""
        if path.startswith((ROOT, "/sys/module/damon")):
            return self.damon.exists(path)
        if path.startswith(TRACING):
            return self.trace.exists(path)
        if path == LRU_GEN:
            return self.lru_gen.sees_guests is not None
        try:
            self._content(path)
        except OSError:
            return path in {"/sys/block", HUGE_PAGES, f"{DEVICES}/{self.host.swap_device}"}
        return True

    def drain(self, path: str, most_bytes: int) -> str:
        """See `Kernel.drain`."""
        self.host.on_read(path)
        return self.trace.drain(path, most_bytes)

    def make_directory(self, path: str) -> None:
        """See `Kernel.make_directory`."""
        self.host.on_write(path, "mkdir")
        self.trace.make_directory(path)
        self.host.after_write(path, "mkdir")

    def remove_directory(self, path: str) -> None:
        """See `Kernel.remove_directory`."""
        self.host.on_write(path, "rmdir")
        self.trace.remove_directory(path)
        self.host.after_write(path, "rmdir")

    def links(self, directory: str) -> tuple[str, ...]:
        """See `Kernel.links`."""
        self.host.on_read(directory)
        guest = self.host.guest(int(directory.split("/")[2]))
        if guest is None:
            raise refusal(errno.ENOENT, directory)
        return ("/dev/kvm", *guest.open_files)

    def lock_holder(self, path: str) -> int | None:
        """See `Kernel.lock_holder`."""
        self.host.on_read(path)
        name = path.rpartition("/")[2].removesuffix(".pid")
        for guest in self.host.guests:
            if guest.name == name:
                return guest.pid
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def residency(self, pid: int, ram: Sequence[Range]) -> Residency:
        """See `Kernel.residency`."""
        self.host.on_read(f"/proc/{pid}/pagemap")
        guest = self.host.guest(pid)
        if guest is None:
            raise Gone(f"process {pid} has exited")
        return Residency(
            resident=tuple(intersect(guest.ranges_of(guest.resident), ram)),
            # What a memfd has in swap, its own page cache knows and not the process's page tables.
            swapped_bytes=0 if guest.shared else len(guest.swapped) * MIB,
        )

    def count_resident(self, pid: int, ram: Sequence[Range]) -> int:
        """See `Kernel.count_resident`."""
        return self.residency(pid, ram).resident_bytes

    def advise(self, pid: int, start_time: int, ranges: Sequence[Range], advice: Advice) -> None:
        """See `Kernel.advise`."""
        path = f"/proc/{pid}/advice"
        self.host.on_write(path, advice.name)
        guest = self.host.guest(pid)
        if guest is None or guest.start_time != start_time:
            raise Gone(f"process {pid} was replaced by another one")
        chunks = [chunk for span in ranges for chunk in guest.chunks_in(span)]
        if advice is Advice.COLD:
            guest.cold_hints.update(chunks)
        else:
            self.host.page_out(guest, chunks, guest.memory_bytes)
        self.host.after_write(path, advice.name)

    def _reclaim(self, path: str, value: str) -> None:
        for guest in self.host.guests:
            if path == f"{CGROUPS}{guest.cgroup}/memory.reclaim":
                most, swappiness = value.split()
                if swappiness == "swappiness=max" and self.damon.version < (6, 16):
                    raise refusal(errno.EINVAL, path)
                if self.host.reclaim(guest, int(most)) < int(most) // MIB * MIB:
                    raise refusal(errno.EAGAIN, path)
                return
        raise refusal(errno.ENOENT, path)

    def _maybe_busy(self, path: str, locked: re.Pattern[str]) -> None:
        if self.busy > 0 and path.startswith(ROOT) and locked.search(path):
            self.busy -= 1
            raise refusal(errno.EBUSY, path)

    def _content(self, path: str) -> Callable[[], str]:
        if path.startswith(KSM):
            content = self.ksm.read(path)
            return lambda: content
        host = self.host
        there = (
            *(host.swap_device, host.swap_encrypted, host.arc_bytes > 0, host.second_node_bytes > 0),
            *((id(guest), guest.pid, guest.start_time, guest.name) for guest in host.guests),
        )
        if there != self._there:
            self._there, self._files = there, self._files_of_now()
        for kdamond in self.damon.running.values() if path not in self._files else ():
            if path == f"/proc/{kdamond.pid}/stat":  # a kernel thread, which takes a hundredth of a CPU
                ticks = int(host.uptime)
                return lambda: (
                    f"{kdamond.pid} (kdamond.0) S " + "0 " * 10 + f"0 {ticks} " + "0 " * 6 + "77 0 0\n"
                )
        if path not in self._files:
            raise refusal(errno.ENOENT, path)
        return self._files[path]

    def _files_of_now(self) -> dict[str, Callable[[], str]]:
        """The present files, without KSM's. The table is made anew when a guest or kdamond comes or goes."""
        host = self.host
        files: dict[str, Callable[[], str]] = {}
        for guest in reversed(host.guests):  # where two have a path, the first one's counts
            files |= _process_files(guest, self.damon.version, self.ksm)
        files |= {
            "/proc/sys/kernel/hostname": lambda: "fakehost\n",
            "/proc/sys/kernel/osrelease": lambda: "fake\n",
            "/proc/sys/kernel/random/boot_id": lambda: host.boot_id + "\n",
            "/proc/pressure/memory": lambda: _PSI.format("some", 0) + _PSI.format("full", 0),
            "/proc/pressure/cpu": lambda: _PSI.format("some", 0) + _PSI.format("full", 0),
            f"{CGROUPS}/cgroup.controllers": lambda: "cpuset cpu io memory pids\n",
            "/proc/iomem": lambda: f"00000000-{host.total_bytes - 1:08x} : System RAM\n",
            f"{NODES}/node0/meminfo": lambda: (
                f"Node 0 MemTotal: {(host.total_bytes - host.second_node_bytes) // KIB} kB\n"
                f"Node 0 MemFree: {(host.available_bytes - host.second_node_free_bytes) // KIB} kB\n"
            ),
            **host_files(host),
        }
        if host.second_node_bytes:
            files[f"{NODES}/node1/meminfo"] = lambda: (
                f"Node 1 MemTotal: {host.second_node_bytes // KIB} kB\n"
                f"Node 1 MemFree: {host.second_node_free_bytes // KIB} kB\n"
            )
        return files


def _mapping(guest: FakeGuest, block: Range) -> str:
    """One block of guest RAM in smaps."""
    held = len(guest.resident & set(guest.chunks_in(block))) * MIB // KIB
    swapped = len(guest.swapped & set(guest.chunks_in(block))) * MIB // KIB
    access, backing = ("rw-s", "00:01 1034 /memfd:pc.ram (deleted)") if guest.shared else ("rw-p", "00:00 0")
    flags = f"rd wr {'sh ' if guest.shared else ''}mr mw me {'dc ' if guest.marks_ram else ''}ac hg mg"
    return (
        f"{block.start:x}-{block.end:x} {access} 00000000 {backing}\nRss: {held} kB\n"
        f"Anonymous: {0 if guest.shared else held} kB\nSwap: {swapped} kB\nVmFlags: {flags}\n"
    )


def _process_files(guest: FakeGuest, version: tuple[int, int], ksm: FakeKsm) -> dict[str, Callable[[], str]]:
    process, cgroup = f"/proc/{guest.pid}", f"{CGROUPS}{guest.cgroup}"
    return {
        f"{process}/stat": lambda: f"{guest.pid} (qemu (kvm)) S " + "0 " * 18 + f"{guest.start_time} 0 0\n",
        f"{process}/cmdline": lambda: f"qemu\0-name\0guest={guest.name}\0-uuid\0{guest.uuid}\0",
        f"{process}/comm": lambda: "qemu-system-x86\n",
        f"{process}/status": lambda: (
            "Name:\tqemu-system-x86\nVmLck:\t       0 kB\nVmPin:\t       0 kB\nMems_allowed_list:\t0-1\n"
        ),
        f"{process}/ksm_merging_pages": lambda: f"{ksm.merged_pages(guest)}\n",
        f"{process}/cgroup": lambda: f"0::{guest.cgroup}/emulator\n",
        f"{process}/smaps": lambda: "".join(
            _mapping(guest, block) for block in (guest.ram, guest.device_ram) if block.size
        ),
        **charge_files(guest),
        f"{cgroup}/memory.swap.current": lambda: f"{len(guest.swapped) * MIB}\n",
        f"{cgroup}/memory.stat": lambda: (
            f"{charge_statistics(guest)}pgmajfault {guest.major_faults}\nworkingset_refault_anon 0\n"
            + (f"pswpin {guest.promoted_pages}\n" if version >= (6, 13) else "")
        ),
        f"{cgroup}/memory.numa_stat": lambda: (
            f"anon N0={len(guest.resident - guest.demoted) * MIB} N1={len(guest.demoted) * MIB}\n"
            "file N0=0 N1=0\nshmem N0=0 N1=0\n"
        ),
        f"{cgroup}/memory.pressure": lambda: (
            _PSI.format("some", round(guest.stalled_seconds * 1e6)) + _PSI.format("full", 0)
        ),
        f"{cgroup}/memory.reclaim": lambda: "",
        f"{cgroup}/cgroup.procs": lambda: f"{guest.pid}\n",
    }
