"""The main job in each kind of guest and on each kind of swap: what is taken, and that it comes back.

The rows have every pair of values, not every combination: each takes an emulated host a minute or two.
``python -m integration.suite.coverage`` makes the table in the documentation of them.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, DamonState, Host, domain_of, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY, TOTAL, HOT, FREED = 320 * MIB, 48 * MIB, 12 * MIB, 170 * MIB
"""A balloon leaves a guest a quarter of its memory above its use: only one that had used it all has much."""
POLICY = """\
version: 1
host: {reclaim: proactive}
classes: {lab: {floor: 20%, cold_after: 8s, slo: {promotions: 100%/min, psi_some: 90%}}}
default_class: lab
"""
POLICY_FILE, SAVED = "/var/tmp/matrix.yaml", "/var/tmp/matrix.plan"
SWAP_FILE = "/var/lib/lab/matrix.swap"
USE = ("--take-over", "--policy", POLICY_FILE)
ZSWAP = "/sys/module/zswap/parameters/enabled"
TRANSPARENT = "/sys/kernel/mm/transparent_hugepage/enabled"

Backing = Literal["anonymous", "memfd, shared", "anonymous, THP", "hugetlb"]
Balloon = Literal["reporting", "no reporting", "no autodeflate", "none"]
Swap = Literal["zram", "file", "none"]
"""A file is behind zswap where the kernel has that: 7.3."""


@dataclass(frozen=True)
class Row:
    """One kind of guest on one kind of swap."""

    backing: Backing
    balloon: Balloon
    swap: Swap

    @property
    def pages_out(self) -> bool:
        """Whether there is a place for it."""
        return self.swap != "none"

    @property
    def balloons(self) -> bool:
        """Whether its balloon has something to take, which reporting has given before."""
        return self.balloon in {"no reporting", "no autodeflate"}

    def __str__(self) -> str:
        return f"{self.backing}; balloon: {self.balloon}; swap: {self.swap}"

    @property
    def behaviours(self) -> tuple[str, ...]:
        """What the test checks in this row, in words for the table."""
        if self.backing == "hugetlb":
            return ("refused with its reason, nothing touched",)
        if not (self.pages_out or self.balloons):
            freed = ("freed pages are the host's before any plan",) if self.balloon == "reporting" else ()
            return (*freed, "page-out refused: no swap", "nothing is planned, nothing touched")
        said = []
        if self.balloon == "reporting":
            said.append("freed pages are the host's before any plan")
        elif self.balloon == "none":
            said.append("no balloon is planned, and why")
        else:
            said.append("balloon takes what is free")
        said.append("page-out takes what is cold" if self.pages_out else "page-out refused: no swap")
        return (*said, "host's counters agree", "restore")


ROWS = (
    Row("anonymous", "reporting", "zram"),
    Row("anonymous", "no reporting", "file"),
    Row("anonymous", "no autodeflate", "none"),
    Row("anonymous", "none", "zram"),
    Row("memfd, shared", "reporting", "file"),
    Row("memfd, shared", "no reporting", "none"),
    Row("memfd, shared", "no autodeflate", "zram"),
    Row("memfd, shared", "none", "file"),
    Row("anonymous, THP", "reporting", "none"),
    Row("anonymous, THP", "no reporting", "zram"),
    Row("anonymous, THP", "no autodeflate", "file"),
    Row("anonymous, THP", "none", "none"),
    Row("hugetlb", "reporting", "zram"),
    Row("hugetlb", "none", "none"),
)
"""Every two values of different columns stand together in one of them, but for those with hugetlb."""


@pytest.fixture(params=ROWS, ids=str)
def row(host: Host, request: pytest.FixtureRequest) -> Iterator[Row]:
    """The host with that swap, and the guest at work in a part of its memory; as it was, afterwards."""
    wanted: Row = request.param
    huge, zswap = host.shell(f"sed 's/.*\\[//; s/\\].*//' {TRANSPARENT}"), host.shell(f"cat {ZSWAP} || true")
    host.lab.run(f"cat > {POLICY_FILE}", stdin=POLICY)
    with ExitStack() as stack:
        if wanted.swap != "zram":
            stack.enter_context(host.without_swap())
        stack.callback(clear, host, huge, zswap)
        if wanted.swap == "file":
            host.shell(f"fallocate -l 512M {SWAP_FILE} && chmod 600 {SWAP_FILE} && mkswap -q {SWAP_FILE}")
            host.shell(f"swapon {SWAP_FILE}; [ ! -e {ZSWAP} ] || echo Y > {ZSWAP}")
        if wanted.backing == "anonymous, THP":
            host.shell(f"echo always > {TRANSPARENT}")
        host.lab.guest_add(guest_of(wanted))
        host.await_workload("row", "touch")
        host.lab.guest_send("row", f"alloc {FREED}")
        host.await_extra("row", FREED)
        host.lab.guest_send("row", "free")
        host.await_extra("row", 0)
        yield wanted


def clear(host: Host, huge: str, zswap: str) -> None:
    """Without the guest and the file, and with the settings that were."""
    if "row" in host.lab.guests.ours():
        host.lab.guest_remove("row")
    host.shell(f"echo {huge} > {TRANSPARENT}; [ -z '{zswap}' ] || echo {zswap} > {ZSWAP}")
    host.shell(f"[ ! -e {SWAP_FILE} ] || {{ swapoff {SWAP_FILE}; rm {SWAP_FILE}; }}")


def guest_of(row: Row) -> GuestSpec:
    """A guest at work in 12 of 48 MiB."""
    return GuestSpec(
        "row", "320M", "hotset", {"total": str(TOTAL), "hot": str(HOT), "hz": "0.5"},
        balloon="none" if row.balloon == "none" else "virtio",
        free_page_reporting=row.balloon == "reporting",
        autodeflate=row.balloon != "no autodeflate",
        shared=row.backing == "memfd, shared",
        hugepages=row.backing == "hugetlb",
    )  # fmt: skip


def balloon_of(host: Host, row: Row) -> int:
    """Its size; 0 where there is none."""
    return 0 if row.balloon == "none" else host.balloon_bytes("row")


def planned(host: Host) -> dict[str, Any]:
    """A plan for the guest, saved as well."""
    made = host.ctl("plan", "-q", "--json", "--observe-for", "20s", "-o", SAVED, *USE)
    assert made.returncode == 0, made.stderr
    plan: dict[str, Any] = json.loads(made.stdout)
    return plan


def untouched(host: Host, row: Row, found: DamonState, size: int, held: int) -> None:
    """Planning alone changed nothing; a guest may have reported what it had freed before."""
    assert host.damon() == found
    assert balloon_of(host, row) == size
    assert row.balloon == "reporting" or host.guest_ram_bytes("row") >= held - 8 * MIB


def test_the_main_job(host: Host, row: Row) -> None:
    """Planned as this kind allows, done as the host's own counters say, and put back."""
    found, size, held = host.damon(), balloon_of(host, row), host.guest_ram_bytes("row")
    zswap = host.shell(f"cat {ZSWAP} 2>/dev/null || echo none")
    assert row.swap != "file" or zswap in {"Y", "none"}
    plan = planned(host)
    kinds = {action["kind"]: action for action in plan["actions"]}
    eligible = domain_of(plan, "row")["eligible"]
    if row.backing == "hugetlb":
        assert kinds == {}
        assert "hugetlb" in eligible["pageout"]["reason"]
        assert "hugetlb" in eligible["balloon"]["reason"] or row.balloon == "none"
        untouched(host, row, found, size, held)
        return

    assert ("balloon" in kinds) == row.balloons
    if row.balloon == "none":
        assert "no balloon device" in eligible["balloon"]["reason"]
    if row.balloon == "reporting":
        assert host.guest_ram_bytes("row") < MEMORY - 0.75 * FREED
    if "balloon" in kinds:
        assert kinds["balloon"]["expected_bytes"] >= 0.3 * FREED
    assert ("pageout" in kinds) == row.pages_out, json.dumps([domain_of(plan, "row"), plan["notes"]])
    if not row.pages_out:
        assert eligible["pageout"]["reason"] == "the host has no swap"
    else:
        assert kinds["pageout"]["expected_bytes"] >= 0.7 * (TOTAL - HOT)
    if not kinds:
        untouched(host, row, found, size, held)
        return

    held = host.guest_ram_bytes("row")
    applied = host.ctl("apply", "-q", "--json", *USE, SAVED)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    done = [line for line in json_lines(applied.stdout) if line["type"] == "done"]
    gone = held - host.guest_ram_bytes("row")
    assert gone >= 0.6 * sum(action["expected_bytes"] for action in kinds.values())
    assert abs(sum(line["freed_bytes"] for line in done) - gone) <= 12 * MIB, "what it reports is what came"
    if "pageout" in kinds:
        assert host.swapped_bytes("row") >= 0.6 * kinds["pageout"]["expected_bytes"]
    if "balloon" in kinds:
        assert host.balloon_bytes("row") < size - 0.5 * kinds["balloon"]["expected_bytes"]
    assert host.damon() == found

    restored = host.ctl("restore")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert balloon_of(host, row) == pytest.approx(size, abs=MIB)
    assert host.damon() == found
    stat = host.lab.guest_send("row", "stat")
    assert (stat["phase"], stat["errors"], stat["restarts"]) == ("touch", 0, 0)
