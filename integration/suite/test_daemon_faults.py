"""What a host can do to the daemon, done to it: it says so, hurts nobody, and goes on by itself.

Many minutes, so that ``make test`` leaves it out.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import KDAMONDS, MIB, Host
from integration.suite.service import ENDED_SECONDS, LOG, Overcommitd, await_true

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY = 256 * MIB
POLICY = """\
version: 1
host:
  pageout_actor: damos-fvaddr
  reclaim: proactive
  swap: {max_used: 60%, max_write: 2MiB/s}
classes: {lab: {floor: 20%, cold_after: 8s, slo: {promotions: 100%/min, psi_some: 90%}}}
default_class: lab
"""
LEASE_SECONDS = 300
SOON, PATIENT = 60.0, 240.0
BOOT = 240.0
"""What a guest is given to boot, as when it is started."""


@pytest.fixture
def guests(host: Host) -> Iterator[tuple[str, str]]:
    """One to which things happen, and one that shall not notice."""
    settings = {"total": "160M", "base": "24M", "hold": "8", "hz": "0.5"}
    for name in ("beset", "spared"):
        spec = GuestSpec(name, "256M", "hog", settings, free_page_reporting=False, reboots=True)
        host.lab.guest_add(spec)
        host.await_workload(name, "base")
        host.needs_all_for_a_while(name)
    yield "beset", "spared"
    for name in ("beset", "spared"):
        host.lab.run(["virsh", "-q", "resume", name], check=False)
        host.lab.guest_remove(name)


@pytest.fixture
def daemon(host: Host, guests: tuple[str, str]) -> Iterator[Overcommitd]:
    """At work on them, with something taken from each."""
    daemon = Overcommitd(host, POLICY)
    try:
        daemon.start()
        for name in guests:
            taken(host, daemon, name)
        yield daemon
    finally:
        restored = daemon.undo()
    assert restored.returncode == 0, "the host is not as it was"
    assert not daemon.actors()


def taken(host: Host, daemon: Overcommitd, name: str) -> float:
    """Wait until a guest has given memory."""
    return await_true(
        host, lambda: host.balloon_bytes(name) < MEMORY - 40 * MIB, f"balloon in {name}", PATIENT, daemon.log
    )


def relieved(host: Host, daemon: Overcommitd, name: str) -> float:
    """Have a guest need its memory, and wait until the daemon gives it: near its OOM it takes some itself."""
    before, given = host.balloon_bytes(name), f"{name}: relief: "
    said = daemon.log().count(given)
    host.lab.guest_send(name, "wake")

    def it_did() -> bool:
        return host.balloon_bytes(name) > before + 16 * MIB and daemon.log().count(given) > said

    return await_true(host, it_did, f"relief of {name}", PATIENT, daemon.log)


def in_mode(daemon: Overcommitd, mode: str) -> Callable[[], bool]:
    """Whether the daemon is in a mode."""
    return lambda: daemon.status()["mode"] == mode


def unhurt(host: Host, *names: str) -> None:
    """No guest lost anything."""
    for name in names:
        stat = host.lab.guest_send(name, "stat")
        assert (stat["errors"], stat["restarts"]) == (0, 0)


def test_libvirtd_is_restarted(host: Host, daemon: Overcommitd, guests: tuple[str, str]) -> None:
    """A guest that is short afterwards gets its memory all the same."""
    host.shell("systemctl restart libvirtd")
    print(f"\nrelief {relieved(host, daemon, guests[0]):.0f} s after libvirtd's restart")
    await_true(host, in_mode(daemon, "active"), "active mode", SOON, daemon.log)
    unhurt(host, *guests)


def test_libvirtd_hangs(host: Host, daemon: Overcommitd, guests: tuple[str, str]) -> None:
    """Safe mode by name, the socket answers meanwhile, and it goes on when libvirtd does."""
    pid = host.shell("pidof libvirtd")
    host.shell(f"kill -STOP {pid}")
    try:
        held = await_true(host, in_mode(daemon, "safe"), "safe mode", PATIENT, daemon.log)
        assert "libvirt" in daemon.status()["mode_reason"]
    finally:
        host.shell(f"kill -CONT {pid}")
    back = await_true(host, in_mode(daemon, "active"), "active mode", PATIENT, daemon.log)
    print(f"\nsafe {held:.0f} s after libvirtd hung, active {back:.0f} s after it went on")
    unhurt(host, *guests)


def test_one_qemu_hangs(host: Host, daemon: Overcommitd, guests: tuple[str, str]) -> None:
    """The other guest gets relief all the same."""
    beset, spared = guests
    pid = host.pid(beset)
    host.shell(f"kill -STOP {pid}")
    try:
        print(f"\nrelief beside a hung QEMU after {relieved(host, daemon, spared):.0f} s")
        assert daemon.alive
    finally:
        host.shell(f"kill -CONT {pid}")
    unhurt(host, *guests)


def test_a_guest_is_reset_and_one_destroyed(host: Host, daemon: Overcommitd, guests: tuple[str, str]) -> None:
    """A reset guest has its memory again until it is planned for anew; an ended one is forgotten."""
    beset, spared = guests
    host.shell(f"virsh reset {beset}")
    has_all = lambda: host.balloon_bytes(beset) == MEMORY  # noqa: E731
    await_true(
        host, has_all, "memory of its own size", BOOT + PATIENT, daemon.log
    )  # its driver must be there
    host.await_workload(beset, "base")
    host.needs_all_for_a_while(beset)
    taken(host, daemon, beset)
    host.shell(f"virsh destroy {beset}")

    def names() -> list[str]:
        return [domain["name"] for domain in daemon.status()["domains"]]

    await_true(host, lambda: names() == [spared], "only one domain", SOON, daemon.log)
    assert daemon.status()["mode"] == "active"
    unhurt(host, spared)


def test_swap_is_nearly_full(host: Host, guests: tuple[str, str]) -> None:
    """No more than its share is used, and nothing else suffers."""
    used = "awk 'NR > 1 { used += $4 } END { print used }' /proc/swaps"
    with host.without_swap():
        device = host.shell("zramctl -f -s 16M")
        daemon = Overcommitd(host, POLICY)
        try:
            host.shell(f"mkswap -q {device} && swapon {device}")
            daemon.start()
            for name in guests:
                taken(host, daemon, name)
            much = lambda: int(host.shell(used)) >= 0.3 * 16 * 1024  # noqa: E731
            await_true(host, much, "page-out", PATIENT, daemon.log)
            most = 0
            for _ in range(12):
                time.sleep(5)
                most = max(most, int(host.shell(used)))
            print(f"\nat most {most} KiB of 16 MiB of swap used, limit 60%")
            assert most <= 0.6 * 16 * 1024 + 1024
            assert daemon.status()["mode"] == "active"
        finally:
            try:
                daemon.undo()
            finally:
                host.shell(f"swapoff {device}; zramctl -r {device}")
    unhurt(host, *guests)


def test_the_journals_disk_is_full(host: Host, guests: tuple[str, str]) -> None:
    """Nothing more is taken while nothing can be written down; it goes on when there is room."""
    state = "/var/tmp/full"
    host.shell(f"mkdir -p {state} && mount -t tmpfs -o size=1M tmpfs {state}")
    daemon = Overcommitd(host, POLICY)
    beset, spared = guests
    try:
        daemon.start(f"OVERCOMMIT_STATE_DIR={state}")
        for name in guests:
            taken(host, daemon, name)
        host.lab.run(f"dd if=/dev/zero of={state}/filler bs=4k 2>/dev/null", check=False)
        host.shell(
            f"truncate -s %4096 {state}/generation-*.jsonl"
        )  # nor is there any in the journal's last page
        waited = relieved(host, daemon, beset)  # giving needs no more room than there is
        print(f"\nrelief with a full disk after {waited:.0f} s; mode {daemon.status()['mode']}")
        await_true(host, in_mode(daemon, "safe"), "safe mode", PATIENT, daemon.log)
        sizes, swapped = host.balloon_bytes(spared), host.swapped_bytes(spared)
        time.sleep(30)
        assert host.balloon_bytes(spared) >= sizes - MIB
        assert host.swapped_bytes(spared) <= swapped + MIB
        host.shell(f"rm {state}/filler")
        await_true(host, in_mode(daemon, "active"), "active mode", PATIENT, daemon.log)
        taken(host, daemon, beset)
    finally:
        try:
            daemon.stop()
        finally:
            put_back = f"OVERCOMMIT_STATE_DIR={state} overcommitctl restore; umount {state}"
            restored = host.lab.run(put_back, timeout=900).stdout
    assert "NOT restored" not in restored
    unhurt(host, *guests)


def test_a_foreign_tool_takes_damon(host: Host, daemon: Overcommitd, guests: tuple[str, str]) -> None:
    """It is named, left alone, and DAMON is ours again when it has gone."""
    both = f"{daemon.worker()} {daemon.pid}"
    host.shell(f"kill -STOP {both}")  # it would take back at once what it finds free in between
    try:
        said = host.shell(
            f"for k in {KDAMONDS}/[0-9]*; do echo off > $k/state 2>/dev/null; done; "
            f"echo 0 > {KDAMONDS}/nr_kdamonds; damo start --ops paddr 2>&1; true"
        )
        running = daemon.kdamonds()
    finally:
        host.shell(f"kill -CONT {both}")
    try:
        assert len(running) == 1, said
        await_true(host, in_mode(daemon, "safe"), "safe mode", PATIENT, daemon.log)
        reason = daemon.status()["mode_reason"]
        assert "DAMON" in reason
        assert host.damon().running == 1, "the other tool's kdamond was stopped"
        print(f"\n{reason}; relief meanwhile after {relieved(host, daemon, guests[0]):.0f} s")
    finally:  # the daemon may have taken the slot by then, which has its count busy
        host.shell(f"damo stop >/dev/null 2>&1; echo 0 2>/dev/null > {KDAMONDS}/nr_kdamonds || true")
    await_true(host, in_mode(daemon, "active"), "active mode", PATIENT, daemon.log)
    await_true(host, lambda: bool(daemon.kdamonds()), "watch", SOON, daemon.log)
    unhurt(host, *guests)


@pytest.mark.parametrize("way", ["+1 hour", "-1 hour"])
def test_the_clock_jumps(host: Host, daemon: Overcommitd, guests: tuple[str, str], way: str) -> None:
    """A minute of holding, and then on as before; guests get relief meanwhile."""
    back = "-1 hour" if way.startswith("+") else "+1 hour"
    host.shell(f"date -s '{way}' >/dev/null")
    try:
        await_true(host, in_mode(daemon, "safe"), "safe mode", SOON, daemon.log)
        assert "it jumped" in daemon.status()["mode_reason"]
        print(f"\nrelief after the jump within {relieved(host, daemon, guests[0]):.0f} s")
        await_true(host, in_mode(daemon, "active"), "active mode", PATIENT, daemon.log)
    finally:
        host.shell(f"date -s '{back}' >/dev/null")
    unhurt(host, *guests)


def snapshots(host: Host, slot: int) -> tuple[int, int]:
    """How many the scheme of a kdamond has worked on, and how many it may."""
    stats = f"{KDAMONDS}/{slot}/contexts/0/schemes/0/stats"
    host.shell(f"echo update_schemes_stats > {KDAMONDS}/{slot}/state 2>/dev/null || true")
    done, most = host.shell(f"cat {stats}/nr_snapshots {stats}/max_nr_snapshots").split()
    return int(done), int(most)


def test_an_actor_of_a_dead_daemon_ends_with_its_lease(host: Host, guests: tuple[str, str]) -> None:
    """Where the kernel can end a scheme (7.0), it pages nothing out any longer, whatever became of us."""
    if float(re.match(r"\d+\.\d+", host.shell("uname -r"))[0]) < 7.0:  # type: ignore[index]
        pytest.skip("this kernel cannot end a scheme")
    daemon = Overcommitd(host, POLICY.replace("2MiB/s", "1MiB/s"))
    for name in guests:
        host.lab.guest_send(name, "wake")  # leaves memory behind that only page-out gets
    daemon.start()
    await_true(host, lambda: bool(daemon.actors()), "actor", PATIENT, daemon.log)
    daemon.signal("KILL")
    daemon.await_end(ENDED_SECONDS)
    begin = time.monotonic()
    slots = [actor.slot for actor in daemon.actors()]
    assert slots
    samples = [snapshots(host, slot) for slot in slots]
    while any(
        done < most or not most for done, most in samples
    ):  # a lease is looks; a busy host's take longer
        assert time.monotonic() - begin < 2 * LEASE_SECONDS, f"a scheme has no end: {samples}"
        time.sleep(5)
        samples = [snapshots(host, slot) for slot in slots]
    print(f"\nslots {slots}: the last lease ended within {time.monotonic() - begin:.0f} s: {samples}")
    swapped = [host.swapped_bytes(name) for name in guests]
    time.sleep(30)
    assert [snapshots(host, slot) for slot in slots] == samples, "a scheme was at work after its lease"
    for name, before in zip(guests, swapped, strict=True):
        assert host.swapped_bytes(name) <= before, "memory was paged out after the lease"
    assert host.ctl("restore").returncode == 0
    assert not daemon.actors()
    unhurt(host, *guests)
    host.shell(f"rm -f {LOG}")
