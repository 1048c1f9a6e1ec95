"""KSM's files, in the words of Linux 6.12 and 7.3, and the fake's likeness to them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

import pytest

from overcommit.host.kernel import Kernel
from overcommit.host.ksm import DIRECTORY, read_ksm, read_merged, read_setting, write_setting
from overcommit.model.facts import KsmFacts, KsmRun
from overcommit.plan.rungs.ksm import gain_text
from overcommit.testing import FakeGuest, FakeHost, FakeKernel
from overcommit.units import MIB, PAGE_SIZE

KernelWith = Callable[[Mapping[str, str | OSError]], Kernel]

FILES: dict[str, str | OSError] = {
    "run": "1\n",
    "pages_to_scan": "640\n",
    "sleep_millisecs": "20\n",
    "pages_shared": "1000\n",
    "pages_sharing": "7000\n",
    "pages_unshared": "90000\n",
    "full_scans": "12\n",
    "general_profit": "-4096\n",
    "advisor_mode": "none [scan-time]\n",
    "merge_across_nodes": "0\n",
}
OLDER = FILES.keys() - {"general_profit", "advisor_mode", "merge_across_nodes"}


def below(files: Mapping[str, str | OSError]) -> dict[str, str | OSError]:
    return {f"{DIRECTORY}/{name}": content for name, content in files.items()}


def test_all_of_it_is_read_in_bytes_and_seconds(kernel_with: KernelWith) -> None:
    tuner: dict[str, str | OSError] = {"/sys/fs/cgroup/system.slice/ksmtuned.service/cgroup.procs": "7\n"}
    assert read_ksm(kernel_with(below(FILES) | tuner)) == KsmFacts(
        run=KsmRun.RUNNING,
        pages_to_scan=640,
        sleep_seconds=0.02,
        shared_bytes=1000 * PAGE_SIZE,
        sharing_bytes=7000 * PAGE_SIZE,
        unshared_bytes=90000 * PAGE_SIZE,
        full_scans=12,
        profit_bytes=-4096,
        advisor="scan-time",
        across_nodes=False,
        tuner="ksmtuned.service",
    )


def test_an_older_kernel_for_one_node_has_less_of_it(kernel_with: KernelWith) -> None:
    facts = read_ksm(kernel_with(below({name: FILES[name] for name in OLDER})))
    assert facts is not None
    assert (facts.profit_bytes, facts.advisor, facts.across_nodes, facts.tuner) == (None, None, True, None)
    assert facts.gain_bytes == facts.sharing_bytes


def test_a_kernel_without_it(kernel_with: KernelWith) -> None:
    assert read_ksm(kernel_with({})) is None


@pytest.mark.parametrize("content", ["3\n", "yes\n", OSError(errno.EACCES, "Permission denied")])
def test_what_cannot_be_understood_is_not_taken_for_anything(
    kernel_with: KernelWith, content: str | OSError
) -> None:
    with pytest.raises((ValueError, OSError)):
        read_ksm(kernel_with(below({**FILES, "run": content})))


def test_a_gain_may_be_a_loss() -> None:
    facts = KsmFacts(
        run=KsmRun.RUNNING,
        pages_to_scan=100,
        sleep_seconds=0.02,
        shared_bytes=0,
        sharing_bytes=2 * MIB,
        unshared_bytes=0,
        full_scans=3,
        profit_bytes=-5 * MIB,
    )
    assert gain_text(facts) == (
        "2.0 MiB saved in 3 full scans, net gain -5.0 MiB (less the kernel's bookkeeping)"
    )


def test_merged_pages_of_a_process(kernel_with: KernelWith) -> None:
    assert read_merged(kernel_with({"/proc/7/ksm_merging_pages": "25\n"}), 7) == 25 * PAGE_SIZE
    assert read_merged(kernel_with({}), 7) is None


@pytest.fixture
def fake() -> FakeKernel:
    """Three guests that have 50 MiB in common, 10 MiB of it in use."""
    guests = [
        FakeGuest(
            name=f"vm-{pid}",
            uuid=f"00000000-0000-0000-0000-000000000{pid}",
            pid=pid,
            memory_bytes=128 * MIB,
            resident=set(range(100)),
            hot=set(range(10)),
            common=set(range(50)),
        )
        for pid in (501, 502, 503)
    ]
    return FakeKernel(FakeHost(guests))


@pytest.mark.parametrize(
    ("name", "value"),
    [("run", "3"), ("run", ""), ("pages_to_scan", "-1"), ("advisor_mode", "full-speed")],
)
def test_the_fake_refuses_what_the_kernel_refuses(fake: FakeKernel, name: str, value: str) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        write_setting(fake, name, value)


def test_while_an_advisor_is_on_the_pace_is_its_own(fake: FakeKernel) -> None:
    """Seen on Linux 7.3: 250, then advisor on: 500 and EINVAL, then off: 100."""
    write_setting(fake, "pages_to_scan", "250")
    write_setting(fake, "advisor_mode", "scan-time")
    assert fake.read(f"{DIRECTORY}/advisor_mode") == "none [scan-time]\n"
    assert read_setting(fake, "pages_to_scan") == "500"
    with pytest.raises(OSError, match="Invalid argument"):
        write_setting(fake, "pages_to_scan", "300")
    write_setting(fake, "advisor_mode", "none")
    assert read_setting(fake, "pages_to_scan") == "100"


def test_the_fake_merges_what_two_scans_found_equal_and_keeps_it_until_told(fake: FakeKernel) -> None:
    write_setting(fake, "pages_to_scan", str(4 * MIB // PAGE_SIZE))
    write_setting(fake, "run", "1")
    fake.host.advance(1)
    early = read_ksm(fake)
    assert early is not None
    assert (early.full_scans, early.sharing_bytes) == (0, 0)
    assert early.profit_bytes is not None
    assert early.profit_bytes < 0, "looking costs before it brings"
    fake.host.advance(10)
    facts = read_ksm(fake)
    assert facts is not None
    assert (facts.shared_bytes, facts.sharing_bytes) == (40 * MIB, 80 * MIB)
    assert fake.host.saved_bytes == 80 * MIB
    write_setting(fake, "run", "0")
    assert fake.host.saved_bytes == 80 * MIB
    write_setting(fake, "run", "2")
    assert fake.host.saved_bytes == 0
