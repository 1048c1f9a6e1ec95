"""A watch over guests that change meanwhile, by the tracepoint and by sysfs, on old and on new kernels."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit.classify.idle import classify, judge_host
from overcommit.damon.pool import DamonPool
from overcommit.damon.sysfs import DamonSysfs
from overcommit.host.memory import read_boot_id, read_host
from overcommit.model.heat import IdleMap
from overcommit.model.moments import Wall
from overcommit.model.policy import Actuator
from overcommit.observe.facts import observe
from overcommit.observe.watch import Watched, begin_watch
from overcommit.plan.eligibility import judge
from overcommit.records.journal import Journal
from overcommit.testing import FakeClock, FakeDamon, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import MIB

COLD_AFTER = 30.0
Event = tuple[float, Callable[[], None]]


class Stage:
    """A host with one guest of 128 MiB: 96 resident, of which 16 are hot."""

    def __init__(self, directory: Path, version: tuple[int, int] = (7, 3), *, traced: bool = True) -> None:
        self.guest = FakeGuest(
            name="web",
            uuid="u1",
            pid=501,
            memory_bytes=128 * MIB,
            resident=set(range(96)),
            hot=set(range(16)),
        )
        self.host = FakeHost([self.guest])
        self.kernel = FakeKernel(self.host, FakeDamon(self.host, version))
        self.kernel.trace.there = traced
        self.journal = Journal(directory)
        self.how = ""
        self.samples: set[str] = set()

    def watch(self, *events: Event, seconds: float = 40.0) -> Watched:
        """What a watch brings, while events happen after so many seconds."""
        clock, hypervisor = FakeClock(self.host), FakeHypervisor(self.host)
        domains = observe(self.kernel, hypervisor, clock).domains
        start, left = clock.monotonic(), sorted(events, key=lambda event: event[0])

        def happen(_share: float) -> None:
            self.samples.add(self._sampling())
            while left and clock.monotonic() - start >= left[0][0]:
                left.pop(0)[1]()

        generation = self.journal.begin("test", boot_id=read_boot_id(self.kernel), started_at=Wall(0.0))
        with DamonPool(self.kernel, self.journal, generation) as pool:
            pool.acquire(len(domains) + 1, take_over=False)
            watch = begin_watch(self.kernel, hypervisor, pool, clock, domains)
            self.how = watch.how
            return watch.run(seconds, happen)

    def _sampling(self) -> str:
        (context,) = DamonSysfs(self.kernel).kdamond(0).contexts
        return f"{context.attributes.intervals.sample_seconds:g}"

    def cold_mib(self, seen: IdleMap) -> int | None:
        """What the guest has that was not accessed for `COLD_AFTER`."""
        resident = self.kernel.residency(self.guest.pid, (self.guest.ram,)).resident
        cold = classify(seen, resident, cold_after=COLD_AFTER).cold_bytes
        return None if cold is None else cold // MIB


@pytest.fixture(params=[(6, 12), (7, 3)], ids=["6.12", "7.3"])
def version(request: pytest.FixtureRequest) -> tuple[int, int]:
    version: tuple[int, int] = request.param
    return version


@pytest.mark.parametrize("traced", [True, False], ids=["tracepoint", "sysfs"])
def test_both_sources_find_what_is_cold(tmp_path: Path, version: tuple[int, int], traced: bool) -> None:
    stage = Stage(tmp_path, version, traced=traced)
    seen = stage.watch()
    assert not seen.lost
    # a region that holds a hot chunk is hot as a whole: they are 8 MiB here
    assert stage.cold_mib(seen.idle["u1"]) == 96 - 16
    assert stage.how.startswith("tracepoint" if traced else "sysfs")
    assert not stage.kernel.trace.instances
    assert not stage.journal.outstanding()


def test_the_kernel_tunes_the_intervals_where_it_can_and_their_length_is_known(tmp_path: Path) -> None:
    stage = Stage(tmp_path, (7, 3))
    stage.watch()
    assert "by the kernel" in stage.how
    assert stage.samples == {"0.1"}


@pytest.mark.parametrize(("hot", "expected"), [(0, "0.2"), (96, "0.05")], ids=["idle", "busy"])
def test_else_we_do_and_lose_nothing_by_it(tmp_path: Path, hot: int, expected: str) -> None:
    stage = Stage(tmp_path, (6, 12))
    stage.guest.hot = set(range(hot))
    seen = stage.watch(seconds=60.0)
    assert "by us" in stage.how
    assert expected in stage.samples
    assert seen.idle["u1"].window_seconds >= 60.0
    assert stage.cold_mib(seen.idle["u1"]) == 96 - hot


def test_lines_that_found_no_room_cost_time_and_nothing_else(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    began = stage.host.uptime
    seen = stage.watch((10.0, lambda: setattr(stage.kernel.trace, "lose", 400)))
    assert stage.cold_mib(seen.idle["u1"]) == 96 - 16
    assert stage.host.uptime - began > 40.0 + 2.0
    assert seen.idle["u1"].window_seconds < stage.host.uptime - began


@pytest.mark.parametrize("traced", [True, False], ids=["tracepoint", "sysfs"])
def test_where_guest_ram_cannot_be_told_the_process_is_watched_as_a_whole(
    tmp_path: Path, version: tuple[int, int], traced: bool
) -> None:
    stage = Stage(tmp_path, version, traced=traced)
    stage.guest.marks_ram = False
    stage.guest.hot = set()
    seen = stage.watch()
    (domain,) = observe(stage.kernel, FakeHypervisor(stage.host), FakeClock(stage.host)).domains
    assert [gap.what for gap in domain.gaps] == ["guest RAM"]
    assert not domain.ram
    assert stage.cold_mib(seen.idle["u1"]) == 96
    verdicts = judge(domain, read_host(stage.kernel), frozenset(Actuator))
    assert "guest RAM" in verdicts[Actuator.PAGEOUT].reason


def test_memory_plugged_in_is_watched_from_then_on(tmp_path: Path, version: tuple[int, int]) -> None:
    stage = Stage(tmp_path, version)

    def plug() -> None:
        stage.guest.memory_bytes += 64 * MIB
        stage.guest.resident |= set(range(128, 160))

    seen = stage.watch((20.0, plug), seconds=44.0)
    assert [span.end for span in seen.idle["u1"].spans][-1] == stage.guest.ram.end
    assert stage.cold_mib(seen.idle["u1"]) == 96 - 16  # the new memory has not been watched for long enough
    assert not seen.lost


def test_memory_that_qemu_does_not_show_yet_is_looked_for_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    refusals = iter([True, True])

    def plug() -> None:
        stage.guest.memory_bytes += 64 * MIB

        def refuse(path: str) -> None:
            if path.endswith("/smaps") and next(refusals, False):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)

        stage.host.on_read = refuse

    seen = stage.watch((12.0, plug))
    assert [span.end for span in seen.idle["u1"].spans][-1] == stage.guest.ram.end
    assert next(refusals, None) is None


def test_memory_pulled_out_is_forgotten(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    def pull() -> None:
        stage.guest.memory_bytes -= 64 * MIB
        stage.guest.resident -= set(range(64, 128))

    seen = stage.watch((12.0, pull))
    assert [span.end for span in seen.idle["u1"].spans][-1] == stage.guest.ram.end
    assert stage.cold_mib(seen.idle["u1"]) == 64 - 16


def test_a_pause_begins_the_watch_again(tmp_path: Path, version: tuple[int, int]) -> None:
    stage = Stage(tmp_path, version)
    began = stage.host.uptime
    seen = stage.watch(
        (8.0, lambda: setattr(stage.guest, "paused", True)),
        (28.0, lambda: setattr(stage.guest, "paused", False)),
    )
    assert stage.host.uptime - began >= 28.0 + 40.0 - 4.0
    assert stage.cold_mib(seen.idle["u1"]) == 96 - 16


@pytest.mark.parametrize("traced", [True, False], ids=["tracepoint", "sysfs"])
def test_a_kdamond_that_somebody_stopped_is_named(tmp_path: Path, traced: bool) -> None:
    stage = Stage(tmp_path, traced=traced)
    seen = stage.watch((8.0, lambda: stage.kernel.damon.running.clear()))
    assert seen.lost.keys() == {"u1"}
    assert not seen.idle


def test_the_hosts_own_memory_is_judged_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    seen = stage.watch()
    assert seen.host is not None
    watched = seen.host.spans[-1].end - seen.host.spans[0].start
    assert watched == stage.host.total_bytes
    everything = judge_host(seen.host, lru_bytes=watched, idle_after=COLD_AFTER)
    assert everything.idle_bytes == watched  # the fake's physical memory is never accessed
    lru = stage.host.resident_bytes
    assert judge_host(seen.host, lru_bytes=lru, idle_after=COLD_AFTER).idle_bytes == lru
    assert judge_host(seen.host, lru_bytes=lru, idle_after=600.0).idle_bytes is None


def test_without_physical_addresses_it_says_why(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    def refuse(path: str) -> None:
        if path == "/proc/iomem":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    stage.host.on_read = refuse
    seen = stage.watch()
    assert seen.host is None
    assert seen.no_host is not None
    assert "Permission denied" in seen.no_host
