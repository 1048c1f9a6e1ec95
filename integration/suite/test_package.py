"""The Debian package: installed as an operator does, upgraded at work, removed and purged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.lab import deb
from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host
from integration.suite.service import SETTINGS, await_true, exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = 384 * MIB
POLICY = """\
version: 1
host: {reserve: 8%, max_overcommit: 1.5, swap: {max_used: 60%, max_write: 50MiB/s}, reclaim: proactive}
classes: {lab: {floor: 20%, cold_after: 10s, slo: {promotions: 100%/min, psi_some: 50%}}}
default_class: lab
"""
POLICY_FILE = "/etc/overcommit/policy.yaml"
FORMER = "0.0.9"
UNITS = ("overcommitd", "overcommit-exporter")
TRACES = (
    "find / -xdev \\( -path /proc -o -path /tmp -o -path /var/tmp \\) -prune "
    "-o -name '*overcommit*' -print | sort"
)
METRICS = (
    "import urllib.request; "
    "print(urllib.request.urlopen('http://127.0.0.1:10960/metrics', timeout=30).read().decode())"
)
MINUTES = 60.0


@pytest.fixture(scope="module")
def former(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The checkout's package with a former version, on a host that has none; then the suite's own again."""
    package = deb.build(tmp_path_factory.mktemp("deb"), print, version=FORMER)
    remote = f"/var/tmp/{package.name}"
    host.lab.put(package, remote)
    host.lab.run("apt-get -y -o Dpkg::Use-Pty=0 purge overcommit", timeout=300)
    yield remote
    host.lab.run(f"rm -f {remote} {POLICY_FILE}; dpkg --purge overcommit", check=False, timeout=600)
    host.lab.push()


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[str]:
    """A guest that freed most of its memory long ago."""
    settings = {"total": "240M", "base": "32M", "hold": "15", "hz": "0.5"}
    host.lab.guest_add(GuestSpec("packed", "384M", "hog", settings, free_page_reporting=False))
    host.await_workload("packed", "base")
    host.needs_all_for_a_while("packed")
    yield "packed"
    host.lab.guest_remove("packed")


def install(host: Host, package: str) -> None:
    """By apt, without a network: all that it depends on is there."""
    command = f"DEBIAN_FRONTEND=noninteractive apt-get -y -o Dpkg::Use-Pty=0 install {package}"
    host.lab.run(command, timeout=600)


def main_pids(host: Host) -> list[int]:
    """The processes of both units, by systemd; 0 where one does not run."""
    return [int(host.shell(f"systemctl show -p MainPID --value {unit}")) for unit in UNITS]


def metrics(host: Host) -> dict[str, float]:
    """What Prometheus would read."""
    page = host.lab.run(["python3", "-c", METRICS], timeout=60).stdout
    samples = (line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in samples}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_and_options(host: Host, shell: str) -> None:
    """Typed at its prompt: half a verb, a tab, half an option, a tab; what becomes of it is run."""
    host.lab.put(Path(__file__).with_name("typist.py"), "/var/tmp/typist.py")
    command = ["python3", "/var/tmp/typist.py", shell, "400", "overcommitctl comple --hel"]
    shown = host.lab.run(command, timeout=500).stdout
    assert "Usage: overcommitctl completion [OPTIONS]" in shown
    assert "-h, --help" in shown


def journal(host: Host) -> str:
    """What both units have said last."""
    return host.shell("journalctl -u overcommitd -u overcommit-exporter -n 50 --no-pager")


def test_a_package_is_installed_upgraded_at_work_and_purged(host: Host, guest: str, former: str) -> None:
    """Nothing is taken before the operator says so, an upgrade keeps settings, a purge leaves nothing."""
    found, traces = host.damon(), host.shell(TRACES)
    resident = f'overcommit_domain_resident_bytes{{domain="{guest}"}}'

    install(host, former)
    assert main_pids(host) == [0, 0]
    for unit in UNITS:
        assert host.shell(f"systemctl is-enabled {unit} || true") == "disabled"
        exposed = exposure(host, unit)
        print(f"\nsystemd-analyze security {unit}: {exposed}")
        assert exposed <= 2.0
    assert host.shell("getent group overcommit").startswith("overcommit:")
    assert host.balloon_bytes(guest) == pytest.approx(MEMORY, abs=2 * MIB)

    host.lab.run(f"cat > {POLICY_FILE}", stdin=POLICY)
    host.shell(f"sed -i 's/^OVERCOMMITD_OPTIONS=.*/OVERCOMMITD_OPTIONS=--take-over/' {SETTINGS}")
    settings = host.shell(f"cat {SETTINGS}")
    host.lab.run("systemctl enable --now overcommitd overcommit-exporter", timeout=300)

    def taken() -> bool:
        return host.balloon_bytes(guest) < MEMORY - 50 * MIB

    await_true(host, taken, "the guest's free memory taken", 6 * MINUTES, lambda: journal(host))
    scraped = metrics(host)
    assert (scraped["overcommit_up"], scraped["overcommit_stopped"]) == (1, 0), journal(host)

    def told() -> bool:  # it is of the last tick, and QEMU's own memory is in it
        return abs(metrics(host)[resident] - host.resident_bytes(guest)) < 32 * MIB

    await_true(host, told, "metric of what is resident", 2 * MINUTES, lambda: journal(host))
    before = main_pids(host)

    installed = host.lab.push()
    after = main_pids(host)
    assert installed
    assert 0 not in after, journal(host)
    assert not set(before) & set(after)
    assert host.shell(f"cat {SETTINGS}") == settings
    assert host.shell(f"cat {POLICY_FILE}") == POLICY.strip()
    status = json.loads(host.shell("overcommitctl status --json"))
    assert (status["mode"], [domain["name"] for domain in status["domains"]]) == ("active", [guest])

    # The exporter of the new version answers, and says whether the daemon works.
    assert metrics(host)["overcommit_up"] == 1
    host.lab.run("systemctl stop overcommitd", timeout=400)
    stopped = metrics(host)
    assert stopped["overcommit_up"] == 0
    assert stopped["overcommit_status_age_seconds"] > 0
    assert resident in stopped, "the last known values"
    assert "overcommitd is not at work" in journal(host)
    host.needs_all_for_a_while(guest)  # what was given back is not resident, so that there is nothing to take
    host.lab.run("systemctl start overcommitd", timeout=300)
    await_true(host, lambda: metrics(host)["overcommit_up"] == 1, "answer", MINUTES, lambda: journal(host))
    await_true(host, taken, "the guest's free memory taken", 6 * MINUTES, lambda: journal(host))

    host.lab.run("apt-get -y -o Dpkg::Use-Pty=0 remove overcommit", timeout=600)
    assert host.balloon_bytes(guest) == pytest.approx(MEMORY, abs=2 * MIB)
    assert host.damon() == found
    assert host.shell("pgrep -af '[o]vercommitd|[o]vercommit-exporter' || true") == ""
    assert host.shell(f"cat {SETTINGS}") == settings

    host.shell(f"rm {POLICY_FILE}")  # the operator's own file: a purge keeps it
    host.lab.run("apt-get -y -o Dpkg::Use-Pty=0 purge overcommit", timeout=600)
    assert host.shell(TRACES) == traces
    assert host.shell("systemctl list-units --all --plain --no-legend 'overcommit*'") == ""
