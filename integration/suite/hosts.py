"""Which host the suite works on: a host VM of its own, a Vagrant machine, or one given by ssh."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import paths
from integration.lab.errors import LabError
from integration.lab.lab import Lab
from integration.lab.reached import ReachedHost

if TYPE_CHECKING:
    from collections.abc import Callable

KERNELS = ("7.3", "6.12")
VAGRANT = paths.CHECKOUT / "vagrant"
#: Guest RAM in 4 KiB pages, so that what DAMON sees can be held against the workload's own truth; with huge
#: pages (QEMU asks for them) everything is seen in pieces of 2 MiB.
SMALL_PAGES = "transparent_hugepage=never"
NEWER = 7.0
"""From this kernel on a host is asked for what 7.3 can do."""


@dataclass(frozen=True)
class Chosen:
    """What ``--host`` says: ``lab``, ``vagrant``, or ``ssh:DESTINATION``."""

    text: str

    @property
    def is_lab(self) -> bool:
        """Whether host VMs are the suite's own, to be made as each test needs them."""
        return self.text == "lab"

    def kernels(self, asked: list[str] | None) -> tuple[str, ...]:
        """The kernels to test, by the name of the one of ours that is most like it."""
        if not self.text.startswith("ssh:"):
            return tuple(asked or KERNELS)
        release = ReachedHost.reach(self._name(""), self.text.removeprefix("ssh:")).kernel
        found = re.match(r"\d+\.\d+", release)
        assert found, release
        return ("7.3",) if float(found[0]) >= NEWER else ("6.12",)

    def up(self, kernel: str, say: Callable[[str], None], append: str) -> Lab:
        """The host with that kernel.

        Raises:
            LabError: it does not come up, or cannot be reached.
        """
        if self.is_lab:
            return Lab.up(self._name(kernel), kernel=kernel, memory="4G", append=append, say=say)
        if self.text == "vagrant":
            machine = f"host-{kernel.replace('.', '-')}"
            lab = Lab.reach(self._name(kernel), machine, config=_vagrant_ssh_config(machine), say=say)
        else:
            lab = Lab.reach(self._name(""), self.text.removeprefix("ssh:"), say=say)
        # a kernel that runs already takes no words; of ours this one decides what tests can see
        if SMALL_PAGES in append.split():
            lab.run("echo never >/sys/kernel/mm/transparent_hugepage/enabled")
        return lab

    def _name(self, kernel: str) -> str:
        if self.is_lab:
            return f"suite-{kernel.replace('.', '-')}"
        return re.sub(r"[^A-Za-z0-9]+", "-", f"{self.text}-{kernel}").strip("-")[:40]


def parse(text: str) -> Chosen:
    """What was given as ``--host``.

    Raises:
        ValueError: it is none of the three.
    """
    if text not in {"lab", "vagrant"} and not re.fullmatch(r"ssh:\S+", text):
        raise ValueError(f"{text!r} is not lab, vagrant or ssh:[USER@]HOST")
    return Chosen(text)


def _vagrant_ssh_config(machine: str) -> Path:
    """The way in as Vagrant has it, as root instead of its own user."""
    vagrant = shutil.which("vagrant")
    if vagrant is None:
        raise LabError("vagrant is not installed", "see vagrant/README.md")
    said = subprocess.run(
        [vagrant, "ssh-config", machine],
        cwd=VAGRANT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if said.returncode:
        raise LabError(f"no Vagrant machine {machine}: {said.stderr.strip()[-300:]}", f"vagrant up {machine}")
    with tempfile.NamedTemporaryFile("w", prefix="ssh-config-", delete=False) as file:
        file.write(re.sub(r"(?m)^(\s*User) .*$", r"\1 root", said.stdout))
    return Path(file.name)
