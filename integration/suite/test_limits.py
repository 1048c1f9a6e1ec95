"""What bounds and drives the daemon on a real host: the host's own need, and the rate of swap."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host
from integration.suite.service import Overcommitd, await_true

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = 256 * MIB
TOTAL, GIVEN = 160 * MIB, 48 * MIB
FLOOR = 0.6
WRITTEN_PER_SECOND = 2 * MIB
POLICY = """\
version: 1
host:
  reserve: {reserve}
  pageout_actor: {actor}
  reclaim: {reclaim}
  swap: {{max_used: 80%, max_write: 2MiB/s}}
classes: {{lab: {{floor: 20%, cold_after: 8s, slo: {{promotions: 100%/min, psi_some: 90%}}}}}}
default_class: lab
"""
COUNTED = "/var/tmp/pswpout"
COUNT = (
    f'setsid sh -c \'while :; do echo $(cut -d" " -f1 /proc/uptime) '
    f'$(sed -n "s/^pswpout //p" /proc/vmstat); sleep 2; done\' >{COUNTED} 2>&1 </dev/null & echo $!'
)
WINDOW, PATIENT = 20.0, 240.0


@pytest.fixture
def guests(host: Host) -> Iterator[tuple[str, str]]:
    """Two that hold much which only page-out can take."""
    settings = {"total": str(TOTAL), "hot": "8M", "hz": "0.5"}
    for name in ("one", "two"):
        host.lab.guest_add(GuestSpec(name, "256M", "hotset", settings, free_page_reporting=False))
        host.await_workload(name, "touch")
    yield "one", "two"
    for name in ("one", "two"):
        host.lab.guest_remove(name)


def mebibytes(host: Host, key: str) -> int:
    """A line of the host's own account."""
    return int(host.shell(f"awk '/^{key}:/ {{ print $2 }}' /proc/meminfo")) // 1024


def unhurt(host: Host, *names: str) -> None:
    """No guest lost anything."""
    for name in names:
        stat = host.lab.guest_send(name, "stat")
        assert (stat["phase"], stat["errors"], stat["restarts"]) == ("touch", 0, 0)


@pytest.mark.quick("6.12")
def test_nothing_is_taken_below_the_floor(host: Host, guests: tuple[str, str]) -> None:
    """A guest that uses hardly anything keeps all the same what its class promises, in memory."""
    policy = POLICY.format(reserve="8%", actor="cold-hint+reclaim", reclaim="proactive")
    policy = policy.replace("floor: 20%", f"floor: {FLOOR:.0%}").replace("2MiB/s", "50MiB/s")
    host.lab.run("cat > /var/tmp/floor.yaml", stdin=policy)
    use = ("--take-over", "--policy", "/var/tmp/floor.yaml", "--observe-for", "20s")
    held = [host.guest_ram_bytes(name) for name in guests]
    applied = host.ctl("apply", "-q", "--yes", *use)
    left = [host.guest_ram_bytes(name) for name in guests]
    restored = host.ctl("restore")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert sum(held) - sum(left) >= 16 * MIB, "hardly anything was taken: nothing was shown"
    assert min(left) >= FLOOR * MEMORY - 2 * MIB
    assert restored.returncode == 0, restored.stderr
    unhurt(host, *guests)


@pytest.fixture
def giver(host: Host) -> Iterator[str]:
    """One that has memory to give, which the host still holds, beside what it does not touch."""
    settings = {"total": "80M", "hot": "8M", "hz": "0.5"}
    host.lab.guest_add(GuestSpec("giver", "256M", "hotset", settings, free_page_reporting=False))
    host.await_workload("giver", "touch")
    host.lab.guest_send("giver", f"alloc {GIVEN + 24 * MIB}")
    host.await_extra("giver", GIVEN + 24 * MIB)
    host.lab.guest_send("giver", "free")
    host.await_extra("giver", 0)
    yield "giver"
    host.lab.guest_remove("giver")


def test_what_a_guest_gives_meanwhile_is_not_taken_once_more(host: Host, giver: str) -> None:
    """Its balloon takes free memory while a kdamond pages out, and then the controller dies.

    What the kernel goes on with alone ends above the floor all the same. (By physical address a portion is
    taken within seconds: nobody is so quick.)
    """
    policy = POLICY.format(reserve="8%", actor="damos-fvaddr", reclaim="proactive")
    policy = policy.replace("floor: 20%", f"floor: {FLOOR:.0%}, step: 100%, actuators: [pageout]")
    host.lab.run("cat > /var/tmp/given.yaml", stdin=policy)
    use = ("--take-over", "--policy", "/var/tmp/given.yaml")
    planned = host.ctl("plan", "-q", "--json", "--observe-for", "20s", "-o", "/var/tmp/given.plan", *use)
    assert planned.returncode == 0, planned.stderr
    (action,) = json.loads(planned.stdout)["actions"]
    assert action["expected_bytes"] >= GIVEN + 16 * MIB, "too little is cold for this to show anything"
    apply = " ".join(["overcommitctl apply -q --json", *use, "/var/tmp/given.plan"])
    controller = host.shell(f"setsid {apply} >/var/tmp/given.log 2>&1 </dev/null & echo $!")
    # In the host itself: what is paged out before the guest gives is gone, whoever dies.
    gives = f"virsh -q setmem {giver} {(MEMORY - GIVEN) // 1024} --live"
    begun = f"[ $({host.swapped_command(giver)}) -ge 4096 ]"
    wait = f"until {begun}; do kill -0 {controller} || exit 1; sleep 0.2; done; {gives}"
    gave = host.lab.run(["timeout", f"{PATIENT:.0f}", "sh", "-c", wait], check=False, timeout=PATIENT + 60)
    assert gave.returncode == 0, f"no page-out: {gave.stderr}\n{host.shell('cat /var/tmp/given.log')}"
    await_true(host, lambda: host.balloon_bytes(giver) <= MEMORY - GIVEN, "balloon", PATIENT, str)
    time.sleep(5)
    killed = host.shell(f"kill -9 {controller} && echo at work; true")
    time.sleep(45)
    left, swapped = host.guest_ram_bytes(giver), host.swapped_bytes(giver)
    restored = host.ctl("restore")
    told = f"{left / MIB:.1f} MiB left, {swapped / MIB:.1f} paged out, controller {killed or 'done'}"
    print(f"\n{told}")
    assert restored.returncode == 0, restored.stderr
    assert killed, f"it was over before: nothing was shown\n{host.shell('cat /var/tmp/given.log')}"
    assert left >= FLOOR * MEMORY - 2 * MIB, f"{told}\n{action}\n{host.shell('cat /var/tmp/given.log')}"
    unhurt(host, giver)


@pytest.mark.parametrize("actor", ["damos-fvaddr", "cold-hint+reclaim"])
def test_swap_is_written_no_faster_than_the_policy_says(
    host: Host, guests: tuple[str, str], actor: str
) -> None:
    """Both guests together, in every stretch of twenty seconds, by the kernel's count of pages."""
    daemon = Overcommitd(host, POLICY.format(reserve="8%", actor=actor, reclaim="proactive"))
    counter = host.shell(COUNT)
    try:
        daemon.start()
        for name in guests:
            await_true(
                host, lambda name=name: host.swapped_bytes(name) > TOTAL / 2, "page-out", PATIENT, daemon.log  # type: ignore[misc]
            )  # fmt: skip
    finally:
        host.shell(f"kill {counter}")
        restored = daemon.undo()
    lines = [line.split() for line in host.shell(f"cat {COUNTED}").splitlines()]
    readings = [(float(line[0]), int(line[1]) * 4096) for line in lines if len(line) == 2]
    fastest = 0.0
    for index, (begin, before) in enumerate(readings):
        end = next((reading for reading in readings[index:] if reading[0] - begin >= WINDOW), None)
        if end is not None:
            fastest = max(fastest, (end[1] - before) / (end[0] - begin))
    at_once = max(after[1] - before[1] for before, after in pairwise(readings))
    print(f"\n{actor}: at most {fastest / MIB:.2f} MiB/s over {WINDOW:.0f} s, {at_once / MIB:.1f} MiB in 2 s")
    assert fastest <= 1.1 * WRITTEN_PER_SECOND
    assert fastest >= 0.2 * WRITTEN_PER_SECOND, "hardly anything was written: nothing was shown"
    assert restored.returncode == 0, restored.stderr
    unhurt(host, *guests)


def test_a_host_near_its_oom_has_what_its_guests_do_not_use(host: Host, guests: tuple[str, str]) -> None:
    """Nothing is taken while there is enough; then at once, from all, without the steps of calm days."""
    daemon = Overcommitd(host, POLICY.format(reserve="60%", actor="cold-hint+reclaim", reclaim="on_pressure"))
    place = "/var/tmp/filled"
    try:
        daemon.start()
        time.sleep(75)  # it has planned at least once with all ages known
        assert [host.swapped_bytes(name) for name in guests] == [0, 0]
        assert [host.balloon_bytes(name) for name in guests] == [MEMORY, MEMORY]
        total, available = mebibytes(host, "MemTotal"), mebibytes(host, "MemAvailable")
        left = round(0.28 * total)  # of the 60 % that it wants; at 30 % it is an emergency
        assert available > 0.6 * total + 64, "too little is free for this to show anything"
        host.shell(f"mkdir -p {place} && mount -t tmpfs -o size=90% tmpfs {place}")
        host.lab.run(f"fallocate -l {available - left}M {place}/filler", timeout=600)
        begin = time.monotonic()
        said = daemon.await_said("EMERGENCY", within=30)
        held = TOTAL + 30 * MIB  # with what the guest's kernel needs
        full = [host.guest_ram_bytes(name) for name in guests]
        await_true(
            host,
            lambda: sum(host.guest_ram_bytes(name) for name in guests) < held,
            "relief of the host", max(PATIENT, 3 * (sum(full) - held) / WRITTEN_PER_SECOND), daemon.log,
        )  # fmt: skip
        seconds = time.monotonic() - begin
        print(f"\nseen {said:.0f} s after it began, half of what guests held is free after {seconds:.0f} s")
        unhurt(host, *guests)
        host.shell(f"umount {place}")
        await_true(
            host, lambda: "EMERGENCY" not in daemon.status()["sentence"], "end of it", 120, daemon.log
        )  # fmt: skip
    finally:
        host.shell(f"mountpoint -q {place} && umount {place} || true")
        restored = daemon.undo()
    assert restored.returncode == 0, restored.stderr
    assert [host.balloon_bytes(name) for name in guests] == pytest.approx([MEMORY, MEMORY], abs=MIB)
