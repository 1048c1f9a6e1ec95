"""What zswap may hold for a cgroup bounds page-out where nothing may go past zswap to a swap device."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from overcommit.cli.accounts import limit_findings
from overcommit.errors import Unreadable
from overcommit.host.cgroup import ROOT, read_limits
from overcommit.host.swap import ZSWAP
from overcommit.model.accounts import CgroupLimit
from overcommit.model.facts import DomainFacts, Snapshot
from overcommit.model.policy import Actuator
from overcommit.plan.budget import make_budget
from overcommit.plan.eligibility import judge
from overcommit.plan.limits import no_swap, swap_place, swap_rooms, tightest
from overcommit.units import GIB, KIB, MIB
from tests import scenarios
from tests.unit.conftest import FileKernel

KernelWith = Callable[[dict[str, str]], FileKernel]
SLICE = "/machine.slice"
SCOPE = f"{SLICE}/machine-qemu-1-web.scope"
GROUP = f"{SCOPE}/libvirt"


def host(
    *,
    off_disk: str | None = SLICE,
    most: str = "max",
    of: str = SLICE,
    held: tuple[int, int] = (0, 0),
    enabled: bool = True,
    pool: tuple[int, int] = (0, 0),
) -> dict[str, str]:
    """Memory of 10 GiB, a fifth of it for zswap; what groups and pool hold as stored in compressed bytes."""
    files = {
        "/proc/meminfo": f"MemTotal: {10 * GIB // KIB} kB\n"
        f"Zswap: {pool[1] // KIB} kB\nZswapped: {pool[0] // KIB} kB\n",
        f"{ZSWAP}/enabled": "Y\n" if enabled else "N\n",
        f"{ZSWAP}/max_pool_percent": "20\n",
    }
    for group in (SLICE, SCOPE, GROUP):
        directory = f"{ROOT}{group}"
        files |= {
            f"{directory}/memory.max": "max\n",
            f"{directory}/memory.high": "max\n",
            f"{directory}/memory.swap.max": "max\n",
            f"{directory}/memory.swap.high": "max\n",
            f"{directory}/memory.zswap.max": f"{most}\n" if group == of else "max\n",
            f"{directory}/memory.zswap.writeback": "0\n" if group == off_disk else "1\n",
            f"{directory}/memory.stat": f"zswap {held[1]}\nzswapped {held[0]}\n",
        }
    return files


def bound(kernel: FileKernel) -> CgroupLimit | None:
    found = tightest(read_limits(kernel, GROUP).swap)
    return found.limit if found else None


@pytest.mark.parametrize("off_disk", [SLICE, SCOPE, GROUP])
@pytest.mark.parametrize("of", [SLICE, SCOPE, GROUP])
def test_nothing_can_be_paged_out_where_zswap_takes_nothing_and_the_disk_is_not_allowed(
    kernel_with: KernelWith, off_disk: str, of: str
) -> None:
    """Both hold for all groups below (memory.zswap.writeback: for these since Linux 6.11)."""
    limit = bound(kernel_with(host(most="0", of=of, off_disk=off_disk)))
    assert limit is not None
    assert (limit.file, limit.path, limit.off_disk) == ("memory.zswap.max", of, off_disk)
    assert (limit.room_bytes, limit.own) == (0, of != SLICE)
    assert no_swap(limit).startswith("not swap (memory.zswap.max 0 of ")


@pytest.mark.parametrize(
    ("held", "room"),
    [
        ((0, 0), 300 * MIB),  # nothing measured: 3:1
        ((40 * MIB, 30 * MIB), 210 * MIB),  # too little to tell
        ((160 * MIB, 80 * MIB), 40 * MIB),  # 2:1, and 20 MiB of it are left
        ((400 * MIB, 200 * MIB), 0),
    ],
)
def test_what_zswap_may_hold_of_a_group_is_bounded_compressed(
    kernel_with: KernelWith, held: tuple[int, int], room: int
) -> None:
    limit = bound(kernel_with(host(most=str(100 * MIB), held=held)))
    assert limit is not None
    assert limit.room_bytes == pytest.approx(room, abs=8)
    assert limit.current_bytes == held[1]


def test_where_nothing_may_go_to_the_disk_all_share_what_the_pool_takes(kernel_with: KernelWith) -> None:
    """Of 2 GiB it has given 1.5 GiB to 3 GiB of others, at 2:1."""
    limit = bound(kernel_with(host(pool=(3 * GIB, 3 * GIB // 2))))
    assert limit is not None
    assert (limit.room_bytes, limit.own, limit.off_disk) == (GIB, False, SLICE)
    assert no_swap(limit) == (
        "swap no more (max_pool_percent 2.0 GiB of zswap, with memory.zswap.writeback 0 of machine.slice, "
        "1.5 GiB of it in use)"
    )


@pytest.mark.parametrize(
    "files",
    [
        host(most="0", off_disk=None),
        host(most="0", enabled=False),
        {path: text for path, text in host(most="0").items() if not path.startswith(ZSWAP)},
        {path: text for path, text in host(most="0").items() if "zswap.writeback" not in path},
    ],
    ids=["what it refuses goes to the disk", "zswap is off", "no zswap", "before Linux 6.8"],
)
def test_otherwise_a_limit_of_zswap_bounds_nothing(kernel_with: KernelWith, files: dict[str, str]) -> None:
    assert read_limits(kernel_with(files), GROUP).swap == ()


def test_of_two_limits_of_a_group_the_tighter_counts(kernel_with: KernelWith) -> None:
    files = host(most=str(100 * MIB))
    files[f"{ROOT}{SLICE}/memory.swap.max"] = f"{200 * MIB}\n"
    files[f"{ROOT}{SLICE}/memory.swap.current"] = "0\n"
    limit = bound(kernel_with(files))
    assert limit is not None
    assert (limit.file, limit.room_bytes) == ("memory.swap.max", 200 * MIB)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"{ROOT}{SLICE}/memory.zswap.max", "plenty\n"),
        (f"{ROOT}{SLICE}/memory.zswap.writeback", "no\n"),
        (f"{ROOT}{SLICE}/memory.stat", "anon 1\n"),
        (f"{ZSWAP}/max_pool_percent", "\n"),
        ("/proc/meminfo", "Zswap: 1 kB\nZswapped: 1 kB\n"),
    ],
)
def test_figures_that_are_none_are_a_gap(kernel_with: KernelWith, path: str, text: str) -> None:
    with pytest.raises(Unreadable):
        read_limits(kernel_with(host(most="4096") | {path: text}), GROUP)


def limited(most: str, *, off_disk: str = SLICE, kernel_with: KernelWith) -> DomainFacts:
    limits = read_limits(kernel_with(host(most=most, of=off_disk, off_disk=off_disk)), GROUP).swap
    return scenarios.domain("web", size=4 * GIB, resident=GIB, swap_limits=limits)


@pytest.mark.parametrize(
    ("off_disk", "fix"),
    [
        (SLICE, "systemctl set-property machine.slice MemoryZSwapWriteback=yes"),
        (SCOPE, "systemctl set-property machine-qemu-1-web.scope MemoryZSwapWriteback=yes"),
        (GROUP, f"echo 1 > {ROOT}{GROUP}/memory.zswap.writeback"),
    ],
)
def test_plan_and_doctor_say_so_with_what_mends_it(kernel_with: KernelWith, off_disk: str, fix: str) -> None:
    domain = limited("0", off_disk=off_disk, kernel_with=kernel_with)
    verdict = judge(domain, scenarios.host(), frozenset(Actuator))[Actuator.PAGEOUT]
    assert not verdict.ok
    assert verdict.reason.startswith("its cgroup may not swap (memory.zswap.max 0 of ")
    assert verdict.hint == fix
    warned = [finding for finding in limit_findings([domain]) if finding.level == "warn"]
    assert [finding.fix for finding in warned] == [fix]


def test_it_bounds_what_is_begun_together_and_the_worst_case(kernel_with: KernelWith) -> None:
    """A hundred compressed MiB are 300 for all guests of the slice; a page-out under way has a third."""
    domain = limited(str(100 * MIB), kernel_with=kernel_with)
    left = swap_rooms([domain], {domain.incarnation.uuid: 100 * MIB}).room(swap_place(domain))
    assert left is not None
    assert left.size_bytes == 200 * MIB
    assert make_budget(wanting(domain), scenarios.policy()).worst_case.pushed_bytes == 300 * MIB
    free = limited("max", off_disk="/elsewhere", kernel_with=kernel_with)
    assert make_budget(wanting(free), scenarios.policy()).worst_case.pushed_bytes > GIB


def wanting(domain: DomainFacts) -> Snapshot:
    return scenarios.snapshot(scenarios.host(total=2 * GIB, available=0), domain)
