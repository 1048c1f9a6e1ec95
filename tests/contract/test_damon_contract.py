"""What we rely on in DAMON's sysfs, asked of the fake and of real kernels alike.

On a real kernel: ``make lab-7.3`` and ``make lab-6.12`` run this file in the host VM with ``--real-damon``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overcommit.damon.access import TraceSource
from overcommit.damon.capabilities import FEATURES, Capabilities
from overcommit.damon.codec import Children, declared
from overcommit.damon.owners import MODULES, enabled_path, find_owners
from overcommit.damon.pool import DamonPool, undo
from overcommit.damon.schemes import (
    Sentinel,
    fvaddr_actor,
    host_monitor,
    monitor,
    monitor_intervals,
    paddr_actor,
    process_monitor,
    with_pain,
)
from overcommit.damon.sysfs import ROOT, DamonSysfs
from overcommit.damon.trace import INSTANCE
from overcommit.damon.tree import (
    Context,
    Destination,
    Filter,
    Goal,
    InitialRegion,
    Kdamond,
    Quota,
    Scheme,
    Target,
)
from overcommit.errors import Busy, Conflict, HostError
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_system_ram
from overcommit.model.heat import SAMPLES, Window
from overcommit.model.moments import Wall
from overcommit.model.ranges import Range, normalise, total_size
from overcommit.records.journal import Journal, PoolClaimed
from overcommit.testing import FakeDamon, FakeHost, FakeKernel
from overcommit.units import KIB, MIB, PAGE_SIZE
from tests.contract.conftest import MEMORY, Rung

SLOT = f"{ROOT}/0"
CONTEXT = f"{SLOT}/contexts/0"
EXCLUSIVE = "damon_reclaim"


@pytest.fixture
def sysfs(rung: Rung) -> DamonSysfs:
    """The tree with one empty slot."""
    tree = DamonSysfs(rung.kernel)
    tree.set_slots(1)
    return tree


@pytest.fixture
def pool(rung: Rung, tmp_path: Path) -> Iterator[DamonPool]:
    """A claim on two slots."""
    journal = Journal(tmp_path)
    generation = journal.begin("contract", boot_id="this", started_at=Wall(0.0))
    with DamonPool(rung.kernel, journal, generation) as claimed:
        claimed.acquire(2, take_over=False)
        yield claimed


def watching(target: Target) -> Kdamond:
    """A monitor without a sentinel, so that it ends with its target."""
    full = monitor(target, Sentinel())
    context = dataclasses.replace(full.contexts[0], targets=full.contexts[0].targets[:1])
    return dataclasses.replace(full, contexts=(context,))


def errno_of(call: Callable[[], object]) -> int | None:
    """With what it fails, None when it does not."""
    try:
        call()
    except OSError as error:
        return error.errno
    return None


def refused(rung: Rung, path: str, value: str) -> int | None:
    """The errno of a write, None when it was accepted."""
    return errno_of(lambda: rung.kernel.write(path, value))


def test_slots_are_made_with_defaults_and_wiped_by_the_next_count(rung: Rung, sysfs: DamonSysfs) -> None:
    rung.kernel.write(f"{SLOT}/contexts/nr_contexts", "1")
    rung.kernel.write(f"{CONTEXT}/operations", "fvaddr")
    assert sysfs.operations(0) == "fvaddr"
    sysfs.set_slots(2)
    assert sysfs.slots() == 2
    assert sysfs.operations(0) == ""
    assert not sysfs.running(1)
    assert sysfs.kdamond_pid(0) == -1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("contexts/nr_contexts", "2"),
        ("contexts/0/operations", "nonsense"),
        ("contexts/0/schemes/0/action", "nonsense"),
        ("contexts/0/targets/0/pid_target", "x"),
        ("contexts/0/schemes/0/quotas/bytes", "-1"),
        ("contexts/0/monitoring_attrs/intervals/sample_us", "5ms"),
        ("nr_kdamonds", "-1"),
        ("state", "nonsense"),
        ("state", "off"),
        ("state", "update_schemes_tried_regions"),
    ],
)
def test_what_makes_no_sense_is_einval(rung: Rung, sysfs: DamonSysfs, path: str, value: str) -> None:
    sysfs.configure(0, watching(rung.target), sysfs.probe(0))
    base = ROOT if path == "nr_kdamonds" else SLOT
    assert refused(rung, f"{base}/{path}", value) == errno.EINVAL


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("pid", errno.EACCES),
        ("contexts/0/avail_operations", errno.EACCES),
        ("nonsense", errno.ENOENT),
        ("contexts", errno.EISDIR),
        ("contexts/0/targets/7/pid_target", errno.ENOENT),
    ],
)
def test_what_is_not_to_be_written_is_refused(rung: Rung, sysfs: DamonSysfs, path: str, number: int) -> None:
    sysfs.configure(0, watching(rung.target), sysfs.probe(0))
    assert refused(rung, f"{SLOT}/{path}", "1") == number


def test_the_same_count_again_wipes_too(rung: Rung, sysfs: DamonSysfs) -> None:
    sysfs.configure(0, watching(rung.target), sysfs.probe(0))
    rung.kernel.write(f"{CONTEXT}/targets/nr_targets", "1")
    assert rung.kernel.read(f"{CONTEXT}/targets/0/pid_target") == "0\n"
    assert rung.kernel.read(f"{CONTEXT}/targets/0/regions/nr_regions") == "0\n"


def test_numbers_are_read_with_their_base(rung: Rung, sysfs: DamonSysfs) -> None:
    sysfs.configure(0, watching(rung.target), sysfs.probe(0))
    path = f"{CONTEXT}/monitoring_attrs/nr_regions/min"
    rung.kernel.write(path, "010")
    assert rung.kernel.read(path) == "8\n"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("targets/0/pid_target", "0"),
        ("targets/0/pid_target", str(2**22 - 7)),
        ("targets/0/regions/0/end", "4096"),
        ("targets/0/regions/1/start", "0"),
        ("monitoring_attrs/nr_regions/min", "2"),
        ("monitoring_attrs/nr_regions/max", "5"),
        ("monitoring_attrs/intervals/sample_us", "9000000"),
    ],
)
def test_on_refuses_what_cannot_be_monitored(rung: Rung, sysfs: DamonSysfs, path: str, value: str) -> None:
    sysfs.configure(0, watching(rung.target), sysfs.probe(0))
    rung.kernel.write(f"{CONTEXT}/{path}", value)
    assert refused(rung, f"{SLOT}/state", "on") == errno.EINVAL
    assert not sysfs.running(0)


def test_physical_memory_is_one_target(rung: Rung, sysfs: DamonSysfs) -> None:
    assert not sysfs.running(0)
    rung.kernel.write(f"{SLOT}/contexts/nr_contexts", "1")
    rung.kernel.write(f"{CONTEXT}/operations", "paddr")
    rung.kernel.write(f"{CONTEXT}/targets/nr_targets", "2")
    assert refused(rung, f"{SLOT}/state", "on") == errno.EINVAL


def test_on_without_a_context_is_einval(rung: Rung, sysfs: DamonSysfs) -> None:
    assert not sysfs.running(0)
    assert refused(rung, f"{SLOT}/state", "on") == errno.EINVAL


COMMANDS = ("commit", "update_schemes_stats", "update_schemes_tried_regions")


@pytest.mark.parametrize("command", ["off", *COMMANDS])
def test_a_slot_that_was_never_on_takes_no_command(rung: Rung, sysfs: DamonSysfs, command: str) -> None:
    sysfs.configure(0, watching(rung.target), sysfs.probe(0))
    assert refused(rung, f"{SLOT}/state", command) == errno.EINVAL
    assert refused(rung, f"{SLOT}/state", "nonsense") == errno.EINVAL


def test_a_kdamond_that_ended_by_itself_says_so_to_every_command(rung: Rung, pool: DamonPool) -> None:
    pool.start(0, watching(rung.target))
    rung.end_process()
    rung.await_true(lambda: not pool.sysfs.running(0))
    younger = pool.capabilities.offers(
        "contexts/0/pause"
    )  # Linux 7.2 and later: between these two it changed
    for command in COMMANDS:
        assert refused(rung, f"{SLOT}/state", command) == (errno.ECANCELED if younger else errno.EINVAL)
    assert refused(rung, f"{SLOT}/state", "off") == (None if younger else errno.EPERM)
    pool.stop(0)


def test_an_address_filter_that_ends_before_it_starts_is_enomem(rung: Rung, sysfs: DamonSysfs) -> None:
    backwards = Filter(kind="addr", address_start=2 * PAGE_SIZE, address_end=PAGE_SIZE)
    (context,) = watching(rung.target).contexts
    scheme = dataclasses.replace(context.schemes[0], filters=(backwards,))
    kdamond = Kdamond(contexts=(dataclasses.replace(context, schemes=(scheme,)),))
    sysfs.configure(0, kdamond, sysfs.probe(0))
    assert refused(rung, f"{SLOT}/state", "on") == errno.ENOMEM
    assert not sysfs.running(0)


def test_while_somebody_is_inside_a_command_the_state_is_busy_and_we_ask_again(
    rung: Rung, pool: DamonPool
) -> None:
    """What is not behind the lock can be read all the while."""
    pool.start(0, watching(rung.target))

    def state_is_busy() -> bool:
        rung.kernel.read(f"{CONTEXT}/operations")
        return errno_of(lambda: rung.kernel.read(f"{SLOT}/state")) == errno.EBUSY

    with somebody_inside_a_command(rung):
        rung.await_true(state_is_busy)
        assert pool.sysfs.running(0)


@contextlib.contextmanager
def somebody_inside_a_command(rung: Rung) -> Iterator[None]:
    """Another program that takes snapshots, with little rest in between."""
    if isinstance(rung.kernel, FakeKernel):
        rung.kernel.busy = 2
        yield
        return
    line = f"while :; do echo update_schemes_tried_regions >{SLOT}/state; sleep 0.1; done 2>/dev/null"
    other = subprocess.Popen(["/bin/sh", "-c", line])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def test_a_running_kdamond_keeps_the_tree(rung: Rung, pool: DamonPool) -> None:
    pool.start(0, watching(rung.target))
    assert pool.sysfs.running(0)
    assert pool.sysfs.kdamond_pid(0) > 0
    assert refused(rung, f"{ROOT}/nr_kdamonds", "4") == errno.EBUSY
    assert refused(rung, f"{SLOT}/state", "on") == errno.EBUSY
    pool.stop(0)
    pool.stop(0)
    assert not pool.sysfs.running(0)


def test_a_snapshot_covers_the_targets_address_for_address(rung: Rung, pool: DamonPool) -> None:
    pool.start(0, watching(rung.target))
    rung.clock.wait(1.0)
    regions = pool.sysfs.access_snapshot(0)
    assert len(regions) >= 3
    assert total_size(Range(r.start, r.end) for r in regions) == MEMORY
    assert (regions[0].start, regions[-1].end) == rung.target.ranges[0]


def test_cleared_regions_are_gone_and_the_next_snapshot_brings_them_back(rung: Rung, pool: DamonPool) -> None:
    pool.start(0, watching(rung.target))
    pool.sysfs.access_snapshot(0)
    tried = f"{CONTEXT}/schemes/0/tried_regions"
    pool.sysfs.command(0, "clear_schemes_tried_regions")
    assert rung.kernel.list(tried) == ("total_bytes",)
    pool.sysfs.access_snapshot(0)
    assert "0" in rung.kernel.list(tried)
    assert int(rung.kernel.read(f"{tried}/total_bytes")) == MEMORY


def test_a_kdamond_ends_with_its_target_unless_a_sentinel_stays(rung: Rung, pool: DamonPool) -> None:
    pool.start(0, watching(rung.target))
    sentinel = Sentinel()
    pool.start(1, monitor(rung.target, sentinel))
    rung.end_process()
    rung.await_true(lambda: not pool.sysfs.running(0))
    assert pool.sysfs.running(1)
    with pytest.raises(HostError):
        pool.sysfs.access_snapshot(0)


def test_the_trace_tells_every_window_from_one_end_to_the_next(rung: Rung, pool: DamonPool) -> None:
    trace = pool.trace(64 * KIB)
    assert trace is not None
    source = TraceSource(pool, rung.clock, trace, regions=1024)
    intervals = monitor_intervals(0.05)
    pool.start(0, monitor(rung.target, Sentinel(), intervals))
    source.begin(0, intervals)
    pool.start(1, host_monitor(read_system_ram(rung.kernel), intervals))
    source.begin(1, intervals)
    seen: dict[int, list[Window]] = {0: [], 1: []}

    def three_of_each() -> bool:
        source.collect()
        for slot, windows in seen.items():
            windows += source.windows(slot)
        return all(len(windows) >= 3 for windows in seen.values())

    rung.await_true(three_of_each)
    for slot, ranges in ((0, rung.target.ranges), (1, read_system_ram(rung.kernel))):
        for before, window in itertools.pairwise(seen[slot]):
            assert window.ended_at - window.seconds == pytest.approx(before.ended_at)
            assert window.seconds == pytest.approx(SAMPLES * 0.05, rel=0.5)
            covered = normalise(Range(r.start, r.end) for r in window.regions)
            assert total_size(covered) == pytest.approx(total_size(ranges), rel=0.001)
    assert rung.clock.monotonic() - seen[0][-1].ended_at < 3
    pool.release()
    assert not rung.kernel.exists(INSTANCE)


def test_a_process_can_be_watched_without_knowing_its_memory(rung: Rung, pool: DamonPool) -> None:
    kdamond = process_monitor(rung.target.pid, rung.target.ranges, Sentinel(), monitor_intervals(0.05))
    pool.start(0, kdamond)
    rung.clock.wait(3)
    seen = normalise(Range(r.start, r.end) for r in pool.sysfs.access_snapshot(0))
    (memory,) = rung.target.ranges
    assert any(found.start <= memory.start and memory.end <= found.end for found in seen)
    rung.end_process()  # the sentinel keeps the kdamond
    rung.clock.wait(1)
    assert pool.sysfs.running(0)


def test_a_trace_of_that_name_is_somebody_elses(rung: Rung, pool: DamonPool) -> None:
    rung.kernel.make_directory(INSTANCE)
    assert pool.trace(64 * KIB) is None
    pool.release()
    assert rung.kernel.exists(INSTANCE)
    rung.kernel.remove_directory(INSTANCE)


def test_a_trace_left_by_the_dead_is_removed(rung: Rung, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    dead = DamonPool(rung.kernel, journal, journal.begin("contract", boot_id="this", started_at=Wall(0.0)))
    dead.acquire(1, take_over=False)
    assert dead.trace(64 * KIB) is not None
    undo(rung.kernel, journal, journal.outstanding())
    assert not rung.kernel.exists(INSTANCE)


def test_a_goal_for_intervals_outside_of_its_bounds_is_einval(rung: Rung, pool: DamonPool) -> None:
    if not pool.capabilities.offers("contexts/0/monitoring_attrs/intervals/intervals_goal/access_bp"):
        pytest.skip("this kernel does not tune intervals")
    intervals = monitor_intervals(0.05, tuned_by_kernel=True)
    outside = dataclasses.replace(intervals, sample_seconds=0.01)
    with pytest.raises(HostError, match="refused 'on'"):
        pool.start(0, monitor(rung.target, Sentinel(), outside))
    pool.start(0, monitor(rung.target, Sentinel(), intervals))


def test_the_sentinel_is_seen_beside_the_target(rung: Rung, pool: DamonPool) -> None:
    sentinel = Sentinel()
    pool.start(0, monitor(rung.target, sentinel))
    rung.clock.wait(1.0)
    page = sentinel.target.ranges[0]
    seen = [r for r in pool.sysfs.access_snapshot(0) if r.start == page.start]
    assert [r.end - r.start for r in seen] == [PAGE_SIZE]


def test_an_exclusive_module_and_sysfs_keep_each_other_out(rung: Rung, sysfs: DamonSysfs) -> None:
    sysfs.configure(0, watching(rung.target), sysfs.probe(0))
    rung.kernel.write(enabled_path(EXCLUSIVE), "Y")
    try:
        assert EXCLUSIVE in find_owners(rung.kernel, sysfs)[0].what
        assert refused(rung, f"{SLOT}/state", "on") == errno.EBUSY
    finally:
        rung.kernel.write(enabled_path(EXCLUSIVE), "N")
    rung.await_true(lambda: refused(rung, f"{SLOT}/state", "on") is None)
    assert refused(rung, enabled_path(EXCLUSIVE), "Y") == errno.EBUSY


def test_take_over_moves_a_module_aside_and_release_brings_it_back(rung: Rung, tmp_path: Path) -> None:
    rung.kernel.write(enabled_path(EXCLUSIVE), "Y")
    journal = Journal(tmp_path)
    generation = journal.begin("contract", boot_id="this", started_at=Wall(0.0))
    with DamonPool(rung.kernel, journal, generation) as claimed:
        with pytest.raises(Conflict, match=EXCLUSIVE):
            claimed.acquire(1, take_over=False)
        claimed.acquire(1, take_over=True)
        claimed.start(0, watching(rung.target))
    assert rung.kernel.read(enabled_path(EXCLUSIVE)) == "Y\n"
    assert rung.kernel.read(f"{ROOT}/nr_kdamonds") == "0\n"
    assert journal.outstanding() == ()
    rung.kernel.write(enabled_path(EXCLUSIVE), "N")


def test_undo_after_a_death_gives_back_what_was_claimed(rung: Rung, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    dead = DamonPool(rung.kernel, journal, journal.begin("contract", boot_id="this", started_at=Wall(0.0)))
    dead.acquire(2, take_over=False)
    dead.start(1, watching(rung.target))
    undo(rung.kernel, journal, journal.outstanding())
    assert rung.kernel.read(f"{ROOT}/nr_kdamonds") == "0\n"
    assert undo(rung.kernel, journal, journal.outstanding()) == ()


def set_up_by_another(kernel: Kernel, slots: int) -> None:
    """Another tool turns all off, and watches physical memory in each of so many slots of its own."""
    for slot in range(int(kernel.read(f"{ROOT}/nr_kdamonds"))):
        if kernel.read(f"{ROOT}/{slot}/state") == "on\n":
            kernel.write(f"{ROOT}/{slot}/state", "off")
    kernel.write(f"{ROOT}/nr_kdamonds", str(slots))
    ram = read_system_ram(kernel)[0]
    for slot in range(slots):
        for path, value in (
            ("contexts/nr_contexts", "1"),
            ("contexts/0/operations", "paddr"),
            ("contexts/0/targets/nr_targets", "1"),
            ("contexts/0/targets/0/regions/nr_regions", "1"),
            ("contexts/0/targets/0/regions/0/end", str(ram.end)),
            ("contexts/0/targets/0/regions/0/start", str(ram.start)),
            ("state", "on"),
        ):
            kernel.write(f"{ROOT}/{slot}/{path}", value)


@pytest.mark.parametrize("slots", [1, 2])
def test_what_another_tool_set_up_in_our_slots_is_never_written_to(
    rung: Rung, pool: DamonPool, slots: int
) -> None:
    """Not stopped, not asked, not configured and not wiped: whether it has as many slots as we had or not."""
    kdamond = watching(rung.target)
    pool.start(0, kdamond)
    set_up_by_another(rung.kernel, slots)
    theirs = pool.sysfs.dump()
    threads = [pool.sysfs.kdamond_pid(slot) for slot in range(slots)]
    for attempt in (
        lambda: pool.require((0,)),
        lambda: pool.start(0, kdamond),
        lambda: pool.start(1, kdamond),
        lambda: pool.feed(0, kdamond, kdamond),
        lambda: pool.access_snapshot(0),
    ):
        with pytest.raises(Conflict, match="another tool has taken DAMON: kdamond 0"):
            attempt()
    assert not pool.holds(0)
    pool.stop(0)
    assert not pool.may_be_on(0)
    pool.stop(1)
    pool.release()
    assert pool.sysfs.dump() == theirs
    assert [pool.sysfs.kdamond_pid(slot) for slot in range(slots)] == threads


def test_idle_slots_of_another_tool_are_not_taken_for_ours(rung: Rung, pool: DamonPool) -> None:
    """It has as many as we had, and has not started them."""
    set_up_by_another(rung.kernel, 2)
    for slot in range(2):
        rung.kernel.write(f"{ROOT}/{slot}/state", "off")
    theirs = pool.sysfs.dump()
    with pytest.raises(Conflict, match="another tool has reconfigured DAMON"):
        pool.start(0, watching(rung.target))
    pool.release()
    assert pool.sysfs.dump() == theirs


def test_slots_that_went_away_are_said_to_be_another_tools(rung: Rung, pool: DamonPool) -> None:
    pool.start(1, watching(rung.target))
    rung.kernel.write(f"{ROOT}/1/state", "off")
    rung.kernel.write(f"{ROOT}/nr_kdamonds", "0")
    for attempt in (
        lambda: pool.access_snapshot(1),
        lambda: pool.sysfs.access_snapshot(1),
        lambda: pool.sysfs.running(1),
        lambda: pool.sysfs.kdamond(1),
    ):
        with pytest.raises(Conflict, match="another tool has reconfigured DAMON"):
            attempt()
    pool.stop(1)
    pool.release()
    assert rung.kernel.read(f"{ROOT}/nr_kdamonds") == "0\n"


@pytest.mark.parametrize("written", ["nothing", "one context", "one mark"])
def test_a_claim_that_died_before_its_marks_is_undone(rung: Rung, tmp_path: Path, written: str) -> None:
    journal = Journal(tmp_path)
    generation = journal.begin("contract", boot_id="this", started_at=Wall(0.0))
    tree = DamonSysfs(rung.kernel)
    generation.record(PoolClaimed(size=2, before=tree.dump(), mark=60_000_077))
    tree.set_slots(2)
    if written == "one context":
        rung.kernel.write(f"{SLOT}/contexts/nr_contexts", "1")
    elif written == "one mark":
        tree.mark((0,), 60_000_077)
    undo(rung.kernel, journal, journal.outstanding())
    assert rung.kernel.read(f"{ROOT}/nr_kdamonds") == "0\n"


def test_the_mark_stays_while_a_slot_is_on_and_after(rung: Rung, pool: DamonPool) -> None:
    """It is in a file that the kernel takes and does not change, whatever it tunes."""
    (before,) = pool.sysfs.marks((0,))
    pool.start(0, monitor(rung.target, Sentinel()))
    rung.clock.wait(3.0)
    pool.access_snapshot(0)
    assert pool.sysfs.marks((0, 1, 2)) == (before, before, None)
    pool.stop(0)
    assert pool.holds(0)
    assert pool.holds(1)


def fill(kernel: Kernel) -> None:
    """One of everything that can be made in the first slot."""
    kernel.write(f"{ROOT}/nr_kdamonds", "1")
    kernel.write(f"{SLOT}/contexts/nr_contexts", "1")
    scheme = f"{CONTEXT}/schemes/0"
    for counter in (
        *(f"{CONTEXT}/targets/nr_targets", f"{CONTEXT}/targets/0/regions/nr_regions"),
        *(f"{CONTEXT}/schemes/nr_schemes", f"{scheme}/quotas/goals/nr_goals", f"{scheme}/dests/nr_dests"),
        *(f"{scheme}/{layer}filters/nr_filters" for layer in ("", "core_", "ops_")),
        f"{CONTEXT}/monitoring_attrs/probes/nr_probes",
        f"{CONTEXT}/monitoring_attrs/probes/0/filters/nr_filters",
    ):
        if kernel.exists(counter):
            kernel.write(counter, "1")


def files_below(kernel: Kernel, directory: str) -> dict[str, str]:
    """Every file's content by path."""
    found = {}
    for name in kernel.list(directory):
        try:
            found[f"{directory}/{name}"] = kernel.read(f"{directory}/{name}")
        except IsADirectoryError:
            found |= files_below(kernel, f"{directory}/{name}")
    return found


def test_the_fake_has_the_files_and_defaults_of_the_kernel(rung: Rung) -> None:
    release = rung.kernel.read("/proc/sys/kernel/osrelease").split(".")
    if isinstance(rung.kernel, FakeKernel):
        pytest.skip("compares the fake with the real kernel under it")
    fake = FakeKernel(host := FakeHost([]), FakeDamon(host, (int(release[0]), int(release[1]))))
    fill(rung.kernel)
    fill(fake)
    assert files_below(fake, ROOT) == files_below(rung.kernel, ROOT)
    modules = {module for module in MODULES if rung.kernel.exists(enabled_path(module))}
    assert set(fake.damon.modules) == modules


STAGED = {
    "operations": "paddr",
    "monitoring_attrs/intervals/aggr_us": "200000",
    "schemes/0/action": "pageout",
    "schemes/0/quotas/bytes": "1048576",
    "schemes/0/quotas/goals/0/target_value": "7",
    "schemes/0/filters/0/type": "memcg",
    "schemes/0/filters/0/memcg_path": "/machine.slice",
    "schemes/0/filters/0/matching": "Y",
    "schemes/0/watermarks/metric": "free_mem_rate",
    "schemes/0/stats/max_nr_snapshots": "5",
}


def test_a_configuration_is_dumped_and_loaded_to_the_byte(rung: Rung, sysfs: DamonSysfs) -> None:
    """Somebody else's settings come back whole, those that we never use too."""
    fill(rung.kernel)
    for path, value in STAGED.items():
        if rung.kernel.exists(f"{CONTEXT}/{path}"):
            rung.kernel.write(f"{CONTEXT}/{path}", value)
    before, files = sysfs.dump(), files_below(rung.kernel, ROOT)
    sysfs.set_slots(2)
    assert sysfs.dump() != before
    sysfs.load(before)
    assert sysfs.dump() == before
    assert files_below(rung.kernel, ROOT) == files


def test_a_tree_that_stays_busy_is_named(
    rung: Rung, pool: DamonPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overcommit.damon.sysfs._BUSY_DEADLINE_SECONDS", 0.5)
    pool.start(0, watching(rung.target))
    with pytest.raises(Busy, match="nr_kdamonds"):
        pool.sysfs.set_slots(1)


def test_the_actor_moves_idle_memory_to_swap_and_residency_tells(rung: Rung, pool: DamonPool) -> None:
    before = rung.kernel.residency(rung.target.pid, rung.target.ranges)
    assert before.resident_bytes == MEMORY
    actor = fvaddr_actor(
        rung.target,
        max_bytes_per_second=16 * MIB,
        lease_seconds=60,
        capabilities=pool.capabilities,
    )
    pool.start(0, actor)
    began = rung.clock.monotonic()

    def resident() -> int:
        return rung.kernel.residency(rung.target.pid, rung.target.ranges).resident_bytes

    rung.await_true(lambda: resident() < MEMORY // 4, seconds=90)
    assert rung.clock.monotonic() - began >= 3.0, "it looked for three aggregations first"
    after = rung.kernel.residency(rung.target.pid, rung.target.ranges)
    assert after.swapped_bytes + after.resident_bytes == MEMORY


def slow_actor(rung: Rung, pool: DamonPool) -> Kdamond:
    """At a mebibyte per second, the whole target takes a minute."""
    return fvaddr_actor(
        rung.target, max_bytes_per_second=MIB, lease_seconds=300, capabilities=pool.capabilities
    )


def effective_quota(rung: Rung, pool: DamonPool) -> int:
    """What the kernel makes of the quota in this window."""
    pool.sysfs.command(0, "update_schemes_effective_quotas")
    return int(rung.kernel.read(f"{CONTEXT}/schemes/0/quotas/effective_bytes"))


def moved_within(rung: Rung, seconds: float) -> int:
    """Bytes of the target that leave memory in that time."""

    def resident() -> int:
        return rung.kernel.residency(rung.target.pid, rung.target.ranges).resident_bytes

    before = resident()
    rung.clock.wait(seconds)
    return before - resident()


def commit_quota(rung: Rung, pool: DamonPool, size: int) -> None:
    """Another quota for the running actor, whose regions are left to the kernel."""
    rung.kernel.write(f"{CONTEXT}/targets/0/regions/nr_regions", "0")
    rung.kernel.write(f"{CONTEXT}/schemes/0/quotas/bytes", str(size))
    pool.sysfs.command(0, "commit")


def test_a_commit_changes_the_quota_and_what_was_idle_for_long_enough_still_is(
    rung: Rung, pool: DamonPool
) -> None:
    pool.start(0, slow_actor(rung, pool))
    rung.await_true(lambda: moved_within(rung, 0.5) > 0)
    assert effective_quota(rung, pool) == MIB
    commit_quota(rung, pool, 1)
    rung.await_true(lambda: effective_quota(rung, pool) == 1)
    assert moved_within(rung, 4.0) == 0
    commit_quota(rung, pool, 8 * MIB)
    assert moved_within(rung, 4.0) >= 8 * MIB, "no aggregation was lost to looking again"
    assert effective_quota(rung, pool) == 8 * MIB
    assert pool.sysfs.running(0)


def test_a_commit_that_makes_no_sense_ends_the_kdamond_or_is_refused(rung: Rung, pool: DamonPool) -> None:
    """Up to Linux 6.14 it ends the kdamond and is no error, since 6.15 it is one and changes nothing."""
    pool.start(0, slow_actor(rung, pool))
    rung.kernel.write(f"{CONTEXT}/monitoring_attrs/nr_regions/min", "2")
    modern = version_of(rung.kernel, rung) > (6, 14)
    assert refused(rung, f"{SLOT}/state", "commit") == (errno.EINVAL if modern else None)
    assert pool.sysfs.running(0) == modern


def test_a_goal_that_is_reached_stops_an_actor_and_one_that_is_not_lets_it_work(
    rung: Rung, pool: DamonPool
) -> None:
    if not pool.capabilities.temporal_goals:
        pytest.skip("this kernel's DAMON has no temporal goal tuner: there actors are stopped")
    actor = slow_actor(rung, pool)
    pool.start(0, actor)
    rung.await_true(lambda: moved_within(rung, 0.5) > 0)
    assert effective_quota(rung, pool) == MIB
    hurt = with_pain(actor, 1.5)
    pool.feed(0, actor, hurt)
    rung.await_true(lambda: effective_quota(rung, pool) == 0)
    assert moved_within(rung, 4.0) == 0
    pool.feed(0, hurt, with_pain(actor, 0.9))
    assert moved_within(rung, 4.0) >= MIB
    assert effective_quota(rung, pool) == MIB


def test_undo_knows_an_actor_again_that_was_fed(rung: Rung, tmp_path: Path) -> None:
    """Its controller died after it had told it of pain."""
    journal = Journal(tmp_path)
    dead = DamonPool(rung.kernel, journal, journal.begin("contract", boot_id="this", started_at=Wall(0.0)))
    dead.acquire(1, take_over=False)
    actor = slow_actor(rung, dead)
    dead.start(0, actor)
    dead.feed(0, actor, with_pain(actor, 0.3))
    assert any("stopped kdamond 0" in said for said in undo(rung.kernel, journal, journal.outstanding()))
    assert rung.kernel.read(f"{ROOT}/nr_kdamonds") == "0\n"


def test_capabilities_are_what_the_files_say(rung: Rung, pool: DamonPool) -> None:
    assert "fvaddr" in pool.capabilities.operations
    fill(rung.kernel)
    for feature in FEATURES:
        there = rung.kernel.exists(f"{SLOT}/{feature.file.replace('N', '0')}")
        assert pool.capabilities.offers(feature.file) == there


def by_physical_address(rung: Rung, group: str, capabilities: Capabilities) -> Kdamond:
    """An actor for the memory of one cgroup."""
    return paddr_actor(
        read_system_ram(rung.kernel),
        group,
        most_bytes=8 * MIB,
        lease_seconds=60.0,
        capabilities=capabilities,
    )


def test_a_wrong_cgroup_in_a_filter_is_enomem(rung: Rung, pool: DamonPool) -> None:
    kdamond = by_physical_address(rung, "/no/such/group", pool.capabilities)
    pool.sysfs.configure(0, kdamond, pool.capabilities)
    assert refused(rung, f"{SLOT}/state", "on") == errno.ENOMEM
    assert not pool.sysfs.running(0)


def test_physical_memory_of_one_cgroup_is_paged_out_within_the_quota(rung: Rung, pool: DamonPool) -> None:
    """Where memory of others does not use the quota up first; nothing moves before three aggregations."""
    pid, ranges = rung.target.pid, rung.target.ranges
    began = rung.clock.monotonic()
    pool.start(0, by_physical_address(rung, rung.group, pool.capabilities))
    if pool.capabilities.offers("contexts/0/schemes/0/quotas/fail_charge_denom"):
        rung.await_true(lambda: rung.kernel.residency(pid, ranges).resident_bytes < MEMORY - 4 * MIB, 90)
        assert rung.clock.monotonic() - began >= 3.0
    else:
        rung.clock.wait(6)
    pool.stop(0)
    moved = MEMORY - rung.kernel.residency(pid, ranges).resident_bytes
    first_window = rung.clock.monotonic() - began if not pool.capabilities.snapshot_limit else 0.0
    assert moved <= 8 * MIB * (first_window + 1)


def test_looks_that_the_quota_cuts_short_do_not_count(rung: Rung, pool: DamonPool) -> None:
    """So a bound of looks is a bound of time only as far as each of them gets to the end."""
    if not pool.capabilities.snapshot_limit:
        pytest.skip("this kernel does not end a scheme")
    rate = 2 * MIB
    actor = fvaddr_actor(
        rung.target, max_bytes_per_second=rate, lease_seconds=160.0, capabilities=pool.capabilities
    )
    (looks,) = [scheme.limit.max_snapshots for context in actor.contexts for scheme in context.schemes]
    assert looks == 160 // (MEMORY // rate)
    pool.start(0, actor)
    rung.clock.wait(looks + 5)
    moved = MEMORY - rung.kernel.residency(rung.target.pid, rung.target.ranges).resident_bytes
    assert 0 < moved < MEMORY // 2
    rung.await_true(
        lambda: rung.kernel.residency(rung.target.pid, rung.target.ranges).resident_bytes < MEMORY // 4, 60
    )


def test_a_page_out_by_physical_address_is_ended_by_the_kernel(rung: Rung, pool: DamonPool) -> None:
    """However long nobody looks: its controller may be dead."""
    if not pool.capabilities.snapshot_limit:
        pytest.skip("this kernel has no such bound, and is not asked to page out by physical address")
    pool.start(0, by_physical_address(rung, rung.group, pool.capabilities))
    pid, ranges = rung.target.pid, rung.target.ranges
    rung.await_true(lambda: rung.kernel.residency(pid, ranges).resident_bytes < MEMORY - 4 * MIB, 90)
    rung.clock.wait(15)
    assert pool.sysfs.running(0)
    assert MEMORY - rung.kernel.residency(pid, ranges).resident_bytes <= 8 * MIB


def test_undo_leaves_alone_what_another_tool_has_started_in_our_slot(rung: Rung, tmp_path: Path) -> None:
    """Ours died, was turned off by hand, and somebody else watches physical memory there now."""
    journal = Journal(tmp_path)
    dead = DamonPool(rung.kernel, journal, journal.begin("contract", boot_id="this", started_at=Wall(0.0)))
    dead.acquire(1, take_over=False)
    dead.start(0, by_physical_address(rung, rung.group, dead.capabilities))
    theirs = DamonSysfs(rung.kernel)
    theirs.stop(0)
    other = by_physical_address(rung, rung.group, dead.capabilities)
    (context,) = other.contexts
    watching_only = dataclasses.replace(context, schemes=(Scheme(),))
    theirs.configure(0, dataclasses.replace(other, contexts=(watching_only,)), dead.capabilities)
    theirs.command(0, "on")
    assert undo(rung.kernel, journal, journal.outstanding()) == ()
    assert theirs.running(0)
    theirs.stop(0)
    theirs.set_slots(0)


def version_of(kernel: Kernel, rung: Rung) -> tuple[int, int]:
    """Of the kernel that the fake is to be compared with."""
    if isinstance(kernel, FakeKernel):
        return kernel.damon.version
    major, minor = rung.kernel.read("/proc/sys/kernel/osrelease").split(".")[:2]
    return int(major), int(minor)


def test_the_fake_offers_what_the_kernel_offers(rung: Rung, sysfs: DamonSysfs) -> None:
    host = FakeHost([])
    fake = DamonSysfs(FakeKernel(host, FakeDamon(host, version_of(rung.kernel, rung))))
    fake.set_slots(1)
    assert sysfs.probe(0) == fake.probe(0)


def test_probing_leaves_an_empty_slot(sysfs: DamonSysfs) -> None:
    sysfs.probe(0)
    assert sysfs.kdamond(0) == Kdamond()


def test_every_default_is_the_kernels_own(rung: Rung, sysfs: DamonSysfs) -> None:
    """So that writing only what differs from it makes a slot exactly what was asked for."""
    fill(rung.kernel)
    made = sysfs.kdamond(0)
    assert dataclasses.replace(made, contexts=()) == Kdamond()
    (context,) = made.contexts
    assert dataclasses.replace(context, targets=(), schemes=()) == Context()
    assert context.targets == (Target(regions=(InitialRegion(),)),)
    (scheme,) = context.schemes
    inner = {name for name, place in declared(Scheme) if isinstance(place, Children)}
    emptied: dict[str, Any] = dict.fromkeys(inner, ())
    assert dataclasses.replace(scheme, quota=Quota(), **emptied) == Scheme()
    for name in inner:
        assert set(getattr(scheme, name)) <= {Filter(), Destination()}
    assert scheme.quota == Quota(goals=(Goal(),))


def test_what_was_configured_is_what_is_read_back(rung: Rung, sysfs: DamonSysfs) -> None:
    capabilities = sysfs.probe(0)
    for kdamond in (watching(rung.target), monitor(rung.target, Sentinel()), Kdamond()):
        sysfs.configure(0, kdamond, capabilities)
        assert sysfs.kdamond(0) == kdamond
