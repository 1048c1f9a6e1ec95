"""The Ansible role, by a real Ansible: from no product to a running service, twice, and a faulty policy."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from integration.lab import deb, paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.suite.host import Host

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
POLICY_FILE = "/etc/overcommit/policy.yaml"
POLICY = {
    "version": 1,
    "host": {"reserve": "10%", "max_overcommit": 1.5},
    "classes": {"lab": {"floor": "30%"}},
    "default_class": "lab",
}
SECONDS = 900


class Role:
    """The role as a playbook has it, with its variables."""

    def __init__(self, host: Host, scratch: Path) -> None:
        ssh = host.lab.vm.ssh
        user, _, address = ssh.destination.rpartition("@")
        known: dict[str, Any] = {"ansible_host": address, "ansible_python_interpreter": "/usr/bin/python3"}
        if user:
            known["ansible_user"] = user
        if ssh.port:
            known["ansible_port"] = ssh.port
        known["ansible_ssh_common_args"] = shlex.join(ssh.options())
        self._inventory = scratch / "inventory.json"
        self._inventory.write_text(json.dumps({"all": {"hosts": {"lab": known}}}))
        self._playbook = scratch / "playbook.json"
        self._variables = {
            "overcommit_package": str(deb.build(scratch, print, by_contents=True)),
            "overcommit_policy": POLICY,
            "overcommit_options": "--observe --take-over",
        }
        self._environment = {
            **os.environ,
            "ANSIBLE_ROLES_PATH": str(paths.CHECKOUT / "contrib/ansible/roles"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_ARGS": "",  # the lab's connection is shared already
            "ANSIBLE_LOCAL_TEMP": str(scratch / "ansible"),
        }

    def run(self, **changed: Any) -> subprocess.CompletedProcess[str]:
        """Run it, with some of its variables changed."""
        play = {"hosts": "lab", "roles": [{"role": "overcommit", "vars": {**self._variables, **changed}}]}
        self._playbook.write_text(json.dumps([play]))
        return subprocess.run(
            [ANSIBLE, "-i", self._inventory, self._playbook],
            env=self._environment, capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip


@pytest.fixture
def role(host: Host, tmp_path: Path) -> Iterator[Role]:
    """The role for a host that has not the product; afterwards it has the suite's own again."""
    if not ANSIBLE.exists():
        pytest.skip("no ansible-playbook beside this Python: pip install --group ansible")
    host.lab.run("apt-get -y -o Dpkg::Use-Pty=0 purge overcommit", timeout=600)
    yield Role(host, tmp_path)
    host.lab.run(f"rm -f {POLICY_FILE}; apt-get -y -o Dpkg::Use-Pty=0 purge overcommit", timeout=600)
    host.lab.push()


def test_the_role_installs_lays_a_policy_and_enables_the_service(host: Host, role: Role) -> None:
    """A second run changes nothing, and a policy that would be refused is not laid."""
    first = role.run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert host.shell("systemctl is-enabled overcommitd") == "enabled"
    status = json.loads(host.shell("overcommitctl status --json"))
    assert status["mode"] == "observe"
    laid = host.shell(f"cat {POLICY_FILE}")
    assert "floor: 30%" in laid
    pid = host.shell("systemctl show -p MainPID --value overcommitd")

    again = role.run()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "changed=0" in again.stdout
    assert host.shell("systemctl show -p MainPID --value overcommitd") == pid

    refused = role.run(overcommit_policy={**POLICY, "default_class": "nobody"})
    assert refused.returncode != 0
    assert "nobody" in refused.stdout
    assert host.shell(f"cat {POLICY_FILE}") == laid

    ended = role.run(overcommit_enabled=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert host.shell("systemctl is-active overcommitd || true") == "inactive"
