"""The host VM as a test sees it: the product's command line, and the host's own counters beside it.

The counters are read without the product, so that a product that reports what it did not do is caught.
"""

from __future__ import annotations

import itertools
import json
import shlex
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from integration.lab.lab import Lab

POLICY = Path(__file__).parent.parent / "demo/policy.yaml"
REMOTE_POLICY = "/var/tmp/policy.yaml"
KDAMONDS = "/sys/kernel/mm/damon/admin/kdamonds"
MIB = 1 << 20


class DamonState(NamedTuple):
    """DAMON's slots, how many of them are on, and damon_stat's switch (empty: no such module)."""

    slots: int
    running: int
    damon_stat: str


class Host:
    """A lab with the product installed and a policy in place."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.push()
        lab.put(POLICY, REMOTE_POLICY)

    def ctl(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run ``overcommitctl``; the caller looks at the exit status."""
        return self.lab.run(["overcommitctl", *arguments], check=False, timeout=timeout)

    def plan(self, *arguments: str, policy: str = REMOTE_POLICY) -> subprocess.CompletedProcess[str]:
        """Plan, moving damon_stat aside where it runs."""
        return self.ctl("plan", "-q", "--take-over", "--policy", policy, *arguments)

    def shell(self, line: str) -> str:
        """The output of a shell line."""
        return self.lab.run(line).stdout.strip()

    def pid(self, domain: str) -> int:
        """The domain's QEMU, as libvirt's own pid file has it."""
        return int(self.shell(f"cat /run/libvirt/qemu/{shlex.quote(domain)}.pid"))

    def resident_bytes(self, domain: str) -> int:
        """The QEMU process's resident set, exactly (smaps_rollup walks the page tables)."""
        line = self.shell(f"grep ^Rss: /proc/{self.pid(domain)}/smaps_rollup")
        return int(line.split()[1]) * 1024

    def guest_ram_bytes(self, domain: str) -> int:
        """What of the guest's RAM the host holds: QEMU's largest mapping."""
        largest = "/^Size:/ { size = $2 } /^Rss:/ && size > most { most = size; rss = $2 } END { print rss }"
        return int(self.shell(f"awk '{largest}' /proc/{self.pid(domain)}/smaps")) * 1024

    def cgroup(self, domain: str) -> str:
        """The directory of the cgroup that the domain's memory is charged to."""
        return self.shell(
            f"d=/sys/fs/cgroup$(cut -d: -f3 /proc/{self.pid(domain)}/cgroup); "
            'while [ ! -e "$d/memory.current" ]; do d=${d%/*}; done; printf %q "$d"'
        )

    def cgroup_bytes(self, domain: str) -> int:
        """What the domain's cgroup is charged."""
        return int(self.shell(f"cat {self.cgroup(domain)}/memory.current"))

    def swapped_bytes(self, domain: str) -> int:
        """What of the guest's RAM is in the host's swap: of QEMU's largest mapping."""
        return int(self.shell(self.swapped_command(domain))) * 1024

    def swapped_command(self, domain: str) -> str:
        """What says so in the host itself, in KiB."""
        largest = "/^Size:/ { now = $2; if (now > most) most = now } /^Swap:/ && now == most { swap = $2 }"
        return f"awk '{largest} END {{ print swap }}' /proc/{self.pid(domain)}/smaps"

    def balloon_statistics(self, domain: str) -> dict[str, int]:
        """What the guest said last over its balloon device, from libvirt, in its units."""
        lines = self.shell(f"virsh dommemstat {shlex.quote(domain)}").splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines)}

    def balloon_bytes(self, domain: str) -> int:
        """The balloon's actual size, from libvirt."""
        return self.balloon_statistics(domain)["actual"] * 1024

    def damon(self) -> DamonState:
        """Who has DAMON now."""
        script = (
            f"cat {KDAMONDS}/nr_kdamonds; grep -lx on {KDAMONDS}/*/state 2>/dev/null | wc -l; "
            "cat /sys/module/damon_stat/parameters/enabled 2>/dev/null || echo"
        )
        slots, running, *stat = self.shell(script).splitlines()
        return DamonState(int(slots), int(running), stat[0] if stat else "")

    @contextmanager
    def without_swap(self) -> Iterator[None]:
        """All of its swap is off for a while; then on again, each with the priority that it had."""
        usual = self.shell("swapon --show=NAME,PRIO --noheadings --raw; swapoff -a")
        try:
            yield
        finally:
            again = [line.split() for line in usual.splitlines()]
            self.shell("; ".join(["true", *(f"swapon -p {priority} {name}" for name, priority in again)]))

    def clear(self) -> None:
        """End what a failed test left at work or asleep, put back what it took, remove its guests."""
        names = "libvirtd qemu-system-x86 overcommitd overcommitctl"
        try:
            self.lab.run(
                f"for name in {names}; do pkill -CONT -x $name; done; pkill -TERM -x overcommitd; "
                "for i in $(seq 60); do pgrep -x overcommitd || break; sleep 1; done >/dev/null; "
                "pkill -KILL -x overcommitd; pkill -KILL -x overcommitctl; overcommitctl restore",
                check=False, timeout=900,
            )  # fmt: skip
        finally:
            for name in self.lab.guests.ours():
                self.lab.guest_remove(name)

    def rate(self, domain: str) -> float:
        """The guest's operations per second, by its own clock and count: the better of two windows.

        Other work on this machine can only slow an emulated guest down. One that was held up works faster
        than its pace for a while, to catch up: compare it with that pace, not with such a burst.
        """
        seen = [self.lab.guest_send(domain, "stat")]
        for _ in range(2):
            time.sleep(10)
            seen.append(self.lab.guest_send(domain, "stat"))
        return max(float((b["ops"] - a["ops"]) / (b["t"] - a["t"])) for a, b in itertools.pairwise(seen))

    def touch_all(self, domain: str, size: int, usual: str) -> None:
        """Have a hotset guest use all ``size`` bytes that it holds: what was paged out of them comes back.

        Then its hot set is the usual one again. What is not its workload's (its kernel's, say) may stay out.
        """
        self.lab.guest_send(domain, f"set hot={size}")
        twice = self.lab.guest_send(domain, "stat")["ops"] + 2 * size // 4096
        deadline = time.monotonic() + 300
        while self.lab.guest_send(domain, "stat")["ops"] < twice:
            assert time.monotonic() < deadline, f"{domain} does not touch all its memory"
            time.sleep(2)
        self.lab.guest_send(domain, f"set hot={usual}")

    def needs_all_for_a_while(self, domain: str, timeout: float = 300) -> None:
        """Have a hog use all its memory, and free it: the host still holds what it does not need any more.

        That it had all is told by how long that took: the phase itself may be over between two looks.
        """
        before = self.lab.guest_send(domain, "stat")["need_us"]
        self.lab.guest_send(domain, "wake")
        deadline = time.monotonic() + timeout
        while self.lab.guest_send(domain, "stat")["need_us"] == before:
            assert time.monotonic() < deadline, f"{domain} does not get all its memory"
            time.sleep(1)
        self.await_workload(domain, "base")

    def await_workload(self, domain: str, phase: str, timeout: float = 300) -> None:
        """Wait until the guest's workload has reached a phase.

        Of one that has freed memory, until it has said so too: a plan goes by what a guest said last.
        """
        deadline = time.monotonic() + timeout
        while (now := self.lab.guest_send(domain, "stat", timeout)["phase"]) != phase:
            assert time.monotonic() < deadline, f"{domain} is still in phase {now!r}, not {phase!r}"
            time.sleep(1)
        if phase == "freed":
            self.await_statistics(domain)

    def await_statistics(self, domain: str, timeout: float = 120) -> None:
        """Wait for balloon statistics of the guest that are newer than what it has done up to now."""
        began = int(self.shell("date +%s"))
        deadline = time.monotonic() + timeout
        while (last := self.balloon_statistics(domain).get("last_update", 0)) <= began:
            assert time.monotonic() < deadline, f"{domain} has said nothing since {last}"
            time.sleep(1)

    def await_extra(self, domain: str, size: int, timeout: float = 240) -> None:
        """Wait until the guest has allocated, or freed, what it was told to beside its workload's memory."""
        deadline = time.monotonic() + timeout
        while (now := self.lab.guest_send(domain, "stat")["extra_bytes"]) != size:
            assert time.monotonic() < deadline, f"{domain} has {now} bytes beside its workload's, not {size}"
            time.sleep(1)


def domain_of(plan: dict[str, Any], name: str) -> dict[str, Any]:
    """A domain's part of a plan."""
    return next(domain for domain in plan["domains"] if domain["name"] == name)


def json_lines(text: str) -> list[dict[str, Any]]:
    """The objects of a JSON lines stream."""
    return [json.loads(line) for line in text.splitlines()]
