"""A text of the kernel's that makes no sense takes away a figure, not a domain and not the program."""

from __future__ import annotations

import pytest

from overcommit.daemon.tick_reading import read_for_tick
from overcommit.errors import Unreadable
from overcommit.observe.facts import observe
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import MIB


class DamagedKernel(FakeKernel):
    """One whose files end so hold something else."""

    damage: tuple[str, str] | None = None

    def read(self, path: str) -> str:
        if self.damage is not None and path.endswith(self.damage[0]):
            return self.damage[1]
        return super().read(path)


@pytest.fixture
def kernel() -> DamagedKernel:
    guests = [
        FakeGuest(n, f"uuid-{n}", 500 + i, 64 * MIB, resident=set(range(64))) for i, n in enumerate("ab")
    ]
    return DamagedKernel(FakeHost(guests))


@pytest.mark.parametrize(
    ("damage", "gap"),
    [
        (("/memory.current", "lots\n"), "cgroup"),
        (("/memory.stat", "anon x\nfile 1\nshmem 1\nkernel 1\n"), "cgroup"),
        (("/memory.swap.current", "-1\n"), "cgroup"),
        (("/memory.max", "most\n"), "cgroup limits"),
        (("/ksm_merging_pages", ""), "merged pages"),
    ],
)
def test_it_is_a_gap_of_each_domain(kernel: DamagedKernel, damage: tuple[str, str], gap: str) -> None:
    kernel.damage = damage
    snapshot = observe(kernel, FakeHypervisor(kernel.host), FakeClock(kernel.host))
    assert [domain.name for domain in snapshot.domains] == ["a", "b"]
    assert all(gap in {each.what for each in domain.gaps} for domain in snapshot.domains)


def test_a_process_whose_statistics_make_no_sense_is_not_over(kernel: DamagedKernel) -> None:
    hypervisor, clock = FakeHypervisor(kernel.host), FakeClock(kernel.host)
    domain = observe(kernel, hypervisor, clock).domains[0]
    assert read_for_tick(kernel, clock, domain, None) is not None
    kernel.damage = ("/stat", "500 (qemu")
    tick_reading = read_for_tick(kernel, clock, domain, None)
    assert tick_reading is not None, "it would be taken for a domain that ended"
    assert (tick_reading.cgroup, tick_reading.balloon) == (None, None)


def test_without_the_host_s_own_memory_there_is_a_sentence(kernel: DamagedKernel) -> None:
    kernel.damage = ("/proc/meminfo", "MemTotal: 1024 kB\n")
    with pytest.raises(Unreadable, match=r"^/proc/meminfo has no MemAvailable$"):
        observe(kernel, FakeHypervisor(kernel.host), FakeClock(kernel.host))


@pytest.mark.parametrize("text", ["", "\0", "x", "-1\n", "9" * 5000, "0 0 0", "a=b\n" * 9])
def test_whatever_one_file_says_both_domains_are_told_of(kernel: DamagedKernel, text: str) -> None:
    """Each file that is read, one by one; without the first two nothing at all can be decided."""
    read: list[str] = []
    kernel.host.on_read = read.append
    hypervisor, clock = FakeHypervisor(kernel.host), FakeClock(kernel.host)
    observe(kernel, hypervisor, clock)
    for path in sorted({path for path in read if path not in {"/proc/meminfo", "/proc/swaps"}}):
        kernel.damage = (path, text)
        snapshot = observe(kernel, hypervisor, clock)
        named = {domain.name for domain in snapshot.domains} | {gap.what for gap in snapshot.gaps}
        assert {"a", "b"} <= {name.removeprefix("domain ") for name in named}, path
