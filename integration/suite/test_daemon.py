"""``overcommitd`` does by itself what the verbs do, answers who asks, and leaves the host as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host
from integration.suite.service import POLICY_FILE, SETTINGS, START_SECONDS, Overcommitd, await_true, exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick("7.3")

MEMORY = 512 * MIB
POLICY = """\
version: 1
host: {reserve: 8%, max_overcommit: 1.5, swap: {max_used: 60%, max_write: 50MiB/s}, reclaim: proactive}
classes: {lab: {floor: 20%, cold_after: 10s, slo: {promotions: 100%/min, psi_some: 50%}}}
default_class: lab
"""
REFUSED = 4
MINUTES = 60.0
TICK_SECONDS = 5.0
WATCH = """\
end=$(($(date +%s) + 600))
while [ $(date +%s) -lt $end ]; do
    virsh dommemstat hog |
        awk -v at=$(date +%s.%N) '{ v[$1] = $2 } END { print at, v["actual"], v["usable"] }'
    sleep 0.5
done
"""
ANYBODY = "runuser -u nobody --"
MEMBER = "runuser -u nobody -g adm --"


@pytest.fixture(scope="module")
def hog(host: Host) -> Iterator[str]:
    """A guest that used 300 MiB once, needs 32 of them, and will need all of them again."""
    settings = {"total": "300M", "base": "32M", "hold": "15", "hz": "0.5"}
    host.lab.guest_add(GuestSpec("hog", "512M", "hog", settings, free_page_reporting=False))
    host.await_workload("hog", "base")
    host.needs_all_for_a_while("hog")
    yield "hog"
    host.lab.guest_remove("hog")


@pytest.fixture(scope="module")
def daemon(host: Host, hog: str) -> Iterator[Overcommitd]:
    """At work on it; members of adm may give orders."""
    assert host.guest_ram_bytes(hog) > 300 * MIB
    daemon = Overcommitd(host, POLICY, "--group", "adm")
    daemon.start()
    yield daemon
    daemon.undo()


def test_it_takes_idle_memory_by_itself(host: Host, daemon: Overcommitd, hog: str) -> None:
    """Within minutes the host has what the guest freed long ago, by the host's page tables."""
    before = host.guest_ram_bytes(hog)
    seconds = await_true(
        host, lambda: host.guest_ram_bytes(hog) < before - 150 * MIB, "memory taken", 4 * MINUTES, daemon.log
    )
    print(f"\n150 MiB taken {seconds:.0f} s after the start")
    assert host.balloon_bytes(hog) < MEMORY - 100 * MIB
    assert host.lab.guest_send(hog, "stat")["errors"] == 0


@pytest.mark.usefixtures("daemon")
def test_everybody_may_look_and_few_may_order(host: Host, hog: str) -> None:
    """The kernel tells the daemon who asks."""
    seen = json.loads(host.shell(f"{ANYBODY} overcommitctl status --json"))
    assert seen["mode"] == "active"
    assert hog in [domain["name"] for domain in seen["domains"]]
    assert json.loads(host.shell(f"{ANYBODY} overcommitctl plan -q --json"))["domains"]

    refused = host.lab.run(f"{ANYBODY} overcommitctl pause", check=False)
    assert refused.returncode == REFUSED
    assert "pause is allowed for root and the group adm" in refused.stderr
    assert host.lab.run(f"{ANYBODY} overcommitctl reserve --yes 10MiB", check=False).returncode == REFUSED

    assert "paused until resumed" in host.shell(f"{MEMBER} overcommitctl pause")
    assert json.loads(host.shell("overcommitctl status --json"))["mode"] == "paused"
    assert "active" in host.shell("overcommitctl resume")
    assert json.loads(host.shell("overcommitctl status --json"))["mode"] == "active"


@pytest.mark.usefixtures("daemon")
def test_it_promises_what_is_there(host: Host) -> None:
    """And remembers it."""
    granted = host.ctl("reserve", "--yes", "--json", "64MiB", "--hold", "1min")
    assert granted.returncode == 0, granted.stderr
    promised = json.loads(granted.stdout)
    assert (promised["granted"], promised["size_bytes"]) == (True, 64 * MIB)
    listed = json.loads(host.ctl("reserve", "--list", "--json").stdout)["reservations"]
    assert promised["id"] in [reservation["id"] for reservation in listed]


def test_nobody_works_beside_it(host: Host, daemon: Overcommitd) -> None:
    """One owner, and its name for who else would be."""
    second = host.lab.run(["overcommitd", "--policy", POLICY_FILE], check=False)
    assert second.returncode == REFUSED
    assert f"pid {daemon.pid}" in second.stderr
    for verb in (["apply", "--yes", "-q"], ["restore"]):
        beside = host.ctl(*verb)
        assert beside.returncode == REFUSED
        assert f"overcommitd is running (pid {daemon.pid})" in beside.stderr
    assert daemon.alive


def test_a_bad_policy_is_refused_and_the_old_one_stays(daemon: Overcommitd) -> None:
    """Also by name; a good one is in force after the next signal. A Python of its own reads each."""
    daemon.write_policy(POLICY.replace("floor: 20%", "floor: 20 parsecs"))
    daemon.signal("HUP")
    daemon.await_said("the policy stays as it is", within=START_SECONDS)
    # It logs that at once, and publishes its sentence at the end of the tick.
    refusal = "the policy on disk is refused; the old one stays in force"
    refused = lambda: refusal in daemon.status()["sentence"]  # noqa: E731
    await_true(daemon.host, refused, "refusal in its status", START_SECONDS, daemon.log)
    daemon.write_policy(POLICY.replace("floor: 20%", "floor: 25%"))
    daemon.signal("HUP")
    daemon.await_said(f"policy {POLICY_FILE} is in force now", within=START_SECONDS)
    await_true(
        daemon.host,
        lambda: "refused" not in daemon.status()["sentence"],
        "the refusal is forgotten",
        within=START_SECONDS,
        tell=daemon.log,
    )


def test_a_guest_that_wakes_has_its_memory_back_within_two_ticks(
    host: Host, daemon: Overcommitd, hog: str
) -> None:
    """Measured in the host VM, from the first statistics that show it short to its growing balloon."""
    reduced = host.balloon_bytes(hog)
    assert reduced < MEMORY - 100 * MIB
    host.lab.guest_send(hog, "set hold=60")
    host.lab.run("cat > /var/tmp/watch.sh", stdin=WATCH)
    recorder = host.shell("setsid sh /var/tmp/watch.sh >/var/tmp/watched 2>&1 </dev/null & echo $!")
    host.lab.guest_send(hog, "wake")
    host.await_workload(hog, "full")
    await_true(
        host, lambda: host.balloon_bytes(hog) > reduced + 50 * MIB, "memory given back", 60, daemon.log
    )
    stat = host.lab.guest_send(hog, "stat")
    host.shell(f"kill {recorder}")
    words = [row.split() for row in host.shell("cat /var/tmp/watched").splitlines()]
    rows = [[float(word) for word in row] for row in words if len(row) == 3]
    assert f"{hog}: relief: " in daemon.log(), "near its OOM it takes some itself"
    reserve_kib = 64 * 1024
    short_at = next((at for at, _, usable in rows if usable < reserve_kib), None)
    assert short_at is not None, f"it never was short: {rows}"
    grown_at = next((at for at, actual, _ in rows if at > short_at and actual * 1024 > reduced + MIB), None)
    assert grown_at is not None, f"its balloon did not grow: {rows}"
    print(f"\nshort for {grown_at - short_at:.1f} s; it needed {stat['need_us']} us")
    assert grown_at - short_at <= 2 * TICK_SECONDS + 1
    assert (stat["phase"], stat["errors"], stat["restarts"]) == ("full", 0, 0)


def test_it_ends_when_told_and_restore_brings_the_balloon_back(
    host: Host, daemon: Overcommitd, hog: str
) -> None:
    """DAMON is given back by itself; what guests gave is on record."""
    host.await_workload(hog, "base")
    daemon.stop()
    assert host.damon() == daemon.found
    restored = host.ctl("restore")
    assert restored.returncode == 0, restored.stderr
    assert host.balloon_bytes(hog) == pytest.approx(MEMORY, abs=2 * MIB)
    assert "Nothing to restore" in host.ctl("restore").stdout


def test_systemd_runs_it_and_puts_everything_back(host: Host, hog: str) -> None:
    """With little in its hands, and with restore after it whichever way it ends."""
    found = Overcommitd(host, POLICY).found  # whatever policy was there before
    shipped = host.shell(f"cat {SETTINGS}") + "\n"
    options = f"OVERCOMMITD_OPTIONS=--take-over --policy {POLICY_FILE}\n"
    host.lab.run(f"cat > {SETTINGS}", stdin=options)
    try:
        host.lab.run("systemctl start overcommitd", timeout=300)
        exposed = exposure(host, "overcommitd")
        print(f"\nsystemd-analyze security: {exposed}")
        assert exposed <= 2.0
        said = lambda: host.shell("journalctl -u overcommitd -n 50 --no-pager")  # noqa: E731
        await_true(host, lambda: host.balloon_bytes(hog) < MEMORY - 50 * MIB, "taking", 4 * MINUTES, said)
        of_it = host.shell(f"journalctl -u overcommitd OVERCOMMIT_DOMAIN={hog} -x --no-pager")
        assert f" {hog}: balloon: " in of_it
        assert "What to do: " in of_it, "the package has installed the catalog"
        host.lab.run("systemctl stop overcommitd", timeout=300)
        assert host.balloon_bytes(hog) == pytest.approx(MEMORY, abs=2 * MIB)
        assert host.damon() == found
    finally:
        host.lab.run("systemctl stop overcommitd", check=False, timeout=300)
        host.lab.run(f"cat > {SETTINGS}", stdin=shipped)
