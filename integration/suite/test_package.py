"""The Debian package: installed as an operator does, upgraded at work, removed and purged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from integration.lab import deb
from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host
from integration.suite.service import await_true

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY = 384 * MIB
POLICY = """\
version: 1
host: {reserve: 8%, max_overcommit: 1.5, swap: {max_used: 60%, max_write: 50MiB/s}, reclaim: proactive}
classes: {lab: {floor: 20%, cold_after: 10s, slo: {promotions: 100%/min, psi_some: 50%}}}
default_class: lab
"""
FIRST, SECOND = "0.1.0", "0.1.0+upgrade"
SETTINGS = "/etc/default/overcommitd"
TRACES = (
    "find / -xdev \\( -path /proc -o -path /tmp -o -path /var/tmp -o -path /opt/overcommit \\) -prune "
    "-o -name '*overcommit*' -print | sort"
)
COMPLETE = """\
source /usr/share/bash-completion/completions/overcommitctl
COMP_WORDS=(overcommitctl re) COMP_CWORD=1
_overcommitctl_completion /usr/bin/overcommitctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
MINUTES = 60.0


@pytest.fixture(scope="module")
def packages(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The package twice, the second with a higher version; what they leave is removed at the end."""
    built: Path = tmp_path_factory.mktemp("deb")
    remote = {}
    for version in (FIRST, SECOND):
        package = deb.build(built, print, version=version)
        remote[version] = f"/var/tmp/{package.name}"
        host.lab.put(package, remote[version])
    yield remote
    host.lab.run(f"dpkg --purge overcommit; rm -f {' '.join(remote.values())}", check=False, timeout=300)


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[str]:
    """A guest that freed most of its memory long ago."""
    settings = {"total": "240M", "base": "32M", "hold": "15", "hz": "0.5"}
    host.lab.guest_add(GuestSpec("packed", "384M", "hog", settings, free_page_reporting=False))
    host.await_workload("packed", "base")
    host.needs_all_for_a_while("packed")
    yield "packed"
    host.lab.guest_remove("packed")


def install(host: Host, package: str) -> str:
    """By apt, without a network: all that it depends on is there."""
    command = f"DEBIAN_FRONTEND=noninteractive apt-get -y -o Dpkg::Use-Pty=0 install {package}"
    return host.lab.run(command, timeout=600).stdout


def main_pid(host: Host) -> int:
    """The daemon's, by systemd; 0 where it does not run."""
    return int(host.shell("systemctl show -p MainPID --value overcommitd"))


def test_a_package_is_installed_upgraded_at_work_and_purged(
    host: Host, guest: str, packages: dict[str, str]
) -> None:
    """Nothing is taken before the operator says so, an upgrade keeps settings, a purge leaves nothing."""
    found, traces = host.damon(), host.shell(TRACES)

    install(host, packages[FIRST])
    assert host.shell("systemctl is-enabled overcommitd || true") == "disabled"
    assert main_pid(host) == 0
    assert host.shell("getent group overcommit").startswith("overcommit:")
    assert host.shell("/usr/bin/overcommitctl --version")
    assert set(host.lab.run(["bash", "-c", COMPLETE]).stdout.split()) >= {"release", "restore"}
    assert host.balloon_bytes(guest) == pytest.approx(MEMORY, abs=2 * MIB)

    host.lab.run("cat > /etc/overcommit/policy.yaml", stdin=POLICY)
    host.shell(f"sed -i 's/^OVERCOMMITD_OPTIONS=.*/OVERCOMMITD_OPTIONS=--take-over/' {SETTINGS}")
    host.lab.run("systemctl enable --now overcommitd", timeout=300)

    def said() -> str:
        return host.shell("journalctl -u overcommitd -n 50 --no-pager")

    def taken() -> bool:
        return host.balloon_bytes(guest) < MEMORY - 50 * MIB

    await_true(host, taken, "the guest's free memory taken", 6 * MINUTES, said)
    before = main_pid(host)

    install(host, packages[SECOND])
    after = main_pid(host)
    assert after not in {0, before}, said()
    assert host.shell(f"grep -c take-over {SETTINGS}") == "2"  # the explanation's and the operator's
    status = json.loads(host.shell("/usr/bin/overcommitctl status --json"))
    assert (status["mode"], [domain["name"] for domain in status["domains"]]) == ("active", [guest])

    host.lab.run("apt-get -y -o Dpkg::Use-Pty=0 remove overcommit", timeout=600)
    assert host.balloon_bytes(guest) == pytest.approx(MEMORY, abs=2 * MIB)
    assert host.damon() == found
    assert host.shell(f"ls {SETTINGS} /etc/overcommit/policy.yaml").split() == [
        SETTINGS, "/etc/overcommit/policy.yaml",
    ]  # fmt: skip

    host.shell("rm /etc/overcommit/policy.yaml")  # the operator's own file: a purge keeps it
    host.lab.run("apt-get -y -o Dpkg::Use-Pty=0 purge overcommit", timeout=600)
    assert host.shell(TRACES) == traces
