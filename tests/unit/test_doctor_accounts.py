"""What doctor says of memory that is set aside, compressed or limited, and when it wants something done."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from overcommit.cli.accounts import (
    Finding,
    account_findings,
    limit_findings,
    memory_finding,
    swap_finding,
)
from overcommit.model.accounts import Arc, CgroupLimit, Compressed, HugePages, Zswap
from overcommit.model.blocks import Backing, Block, Companion, Use
from overcommit.model.ranges import Range
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.units import GIB, MIB
from tests import scenarios


def about(what: str, **accounts: Any) -> Finding:
    (found,) = (f for f in account_findings(scenarios.host(**accounts)) if f.about == what)
    return found


def test_a_host_with_nothing_special_needs_no_lines() -> None:
    assert list(account_findings(scenarios.host())) == []


def test_huge_pages_that_nobody_uses_are_pointed_out() -> None:
    used = about("huge pages", huge_pages=HugePages(total_bytes=GIB, free_bytes=256 * MIB))
    assert (used.level, used.fix) == ("ok", "")
    assert used.text.startswith("1.0 GiB reserved, 256 MiB of it free")
    idle = about("huge pages", huge_pages=HugePages(total_bytes=GIB, free_bytes=GIB))
    assert (idle.level, "nr_hugepages" in idle.fix) == ("warn", True)


def test_arc_is_explained_and_left_alone() -> None:
    found = about("ZFS", arc=Arc(size_bytes=4 * GIB, minimum_bytes=GIB))
    assert (found.level, found.fix) == ("ok", "")
    assert "holds 4.0 GiB and shrinks to 1.0 GiB" in found.text


def test_zswap_is_in_order_before_a_disk_and_not_before_zram() -> None:
    zswap = Zswap(enabled=True, most=0.2, pool=Compressed(stored_bytes=30 * MIB, used_bytes=10 * MIB))
    disk = SwapArea(path="/dev/dm-0", kind=SwapKind.PARTITION, size_bytes=GIB, used_bytes=0, encrypted=True)
    fine = about("zswap", swap=[disk], zswap=zswap)
    assert (fine.level, fine.fix) == ("ok", "")
    assert "up to 20% of memory" in fine.text
    assert "30.0 MiB in 10.0 MiB" in fine.text
    twice = about("zswap", zswap=zswap)
    assert (twice.level, "compressed twice" in twice.text) == ("warn", True)
    assert twice.fix.startswith("echo N > /sys/module/zswap/parameters/enabled")
    off = scenarios.host(zswap=dataclasses.replace(zswap, enabled=False))
    assert list(account_findings(off)) == []


@pytest.mark.parametrize(
    ("kind", "encrypted", "level", "fix", "says"),
    [
        (SwapKind.ZRAM, None, "ok", False, " used, filled next"),
        (SwapKind.PARTITION, True, "ok", False, "guest memory there is encrypted"),
        (SwapKind.FILE, False, "warn", True, "readable on the disk"),
        (SwapKind.FILE, None, "warn", False, "it is not known whether guest memory there is encrypted"),
    ],
)
def test_s7_swap_that_rests_readable_is_pointed_out(
    kind: SwapKind, encrypted: bool | None, level: str, fix: bool, says: str
) -> None:
    area = SwapArea(path="/x", kind=kind, size_bytes=GIB, used_bytes=0, encrypted=encrypted)
    found = swap_finding(area, scenarios.host(swap=[area]))
    assert (found.level, bool(found.fix)) == (level, fix)
    assert found.text.endswith(says)


def limit(size: int, *, file: str = "memory.max", path: str = "/machine.slice") -> CgroupLimit:
    return CgroupLimit(
        path=path,
        file=file,
        limit_bytes=size,
        current_bytes=GIB,
        cache_bytes=MIB,
        own=path != "/machine.slice",
    )


def test_a_slice_that_holds_less_than_was_promised_is_to_be_raised() -> None:
    domains = [scenarios.domain(name, overhead=100 * MIB, limits=[limit(2 * GIB)]) for name in ("a", "b")]
    (short,) = limit_findings(domains)
    assert (short.level, short.about) == ("warn", "limit of /machine.slice")
    assert "promised 2.2 GiB" in short.text
    assert short.fix.startswith("systemctl set-property machine.slice MemoryMax=infinity")
    (enough,) = limit_findings([scenarios.domain(limits=[limit(2 * GIB)])])
    assert (enough.level, enough.fix) == ("ok", "")


@pytest.mark.parametrize(("file", "does"), [("memory.max", "kills"), ("memory.high", "throttles")])
def test_a_domain_whose_own_limit_leaves_nothing_for_qemu_is_in_danger(file: str, does: str) -> None:
    own = limit(GIB, file=file, path="/machine.slice/web.scope/libvirt")
    (found,) = limit_findings([scenarios.domain("web", overhead=100 * MIB, limits=[own])])
    assert (found.level, found.about) == ("warn", "domain web")
    assert does in found.text
    assert found.fix.startswith("virsh memtune web ")


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("/machine/qemu-1-web.libvirt-qemu", "virsh memtune web --hard-limit -1"),
        (
            "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
            "systemctl set-property 'machine-qemu\\x2d1\\x2dweb.scope' MemoryMax=infinity",
        ),
        ("/kubepods/burstable/pod0f6e-3b1c", "raise the memory limit of its pod "),
    ],
    ids=["libvirt's, without machined", "set for the scope by systemd", "kubelet's"],
)
def test_who_set_a_domains_own_limit_raises_it(path: str, fix: str) -> None:
    own = dataclasses.replace(limit(GIB, path=path), own=True)
    (found,) = limit_findings([scenarios.domain("web", overhead=100 * MIB, limits=[own])])
    assert found.fix.startswith(fix)


def test_without_limits_there_is_nothing_to_say() -> None:
    assert list(limit_findings([scenarios.domain("web")])) == []


def test_what_memory_lies_in_and_who_is_beside_qemu_is_said_of_each_domain() -> None:
    blocks = (
        Block(span=Range(0, GIB)),
        Block(span=Range(GIB, 3 * GIB), backing=Backing.HUGETLB, shared=True),
        Block(span=Range(4 * GIB, 5 * GIB), backing=Backing.FILE, shared=True, source="/srv/ram"),
        Block(span=Range(6 * GIB, 7 * GIB)),
        Block(span=Range(8 * GIB, 9 * GIB), backing=Backing.DAX, use=Use.STORAGE),
    )
    beside = (Companion(pid=10, name="swtpm", helper=True, anonymous_bytes=12 * MIB), Companion(pid=11))
    domain = dataclasses.replace(scenarios.domain("web"), blocks=blocks, companions=beside)
    found = memory_finding(domain)
    assert (found.level, found.about) == ("ok", "domain web")
    assert found.text == (
        "RAM: 2.0 GiB in anonymous memory, which can go to swap, 2.0 GiB in hugetlb pages, which cannot be "
        "moved, 1.0 GiB in a file, which can go to its file; beside QEMU in its cgroup: swtpm (pid 10), "
        "12.0 MiB, another process (pid 11), of unknown size"
    )


def test_memory_that_cannot_be_told_is_said_to_be_so() -> None:
    found = memory_finding(dataclasses.replace(scenarios.domain("web"), blocks=()))
    assert (found.level, found.text) == ("warn", "the kind of its RAM is not known")
