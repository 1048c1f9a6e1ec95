"""Which host the suite works on: a host VM of its own, a Vagrant machine, or one given by ssh."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from integration.lab import paths
from integration.lab.errors import LabError
from integration.lab.hostvm import exclusive
from integration.lab.lab import Lab
from integration.lab.reached import ReachedHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KERNELS = ("7.3", "6.12")
PAIR = {"leaves": "host1", "arrives": "host2"}
"""Vagrant's machines, with a wire between them, for the modules' own hosts of these names."""
PAIRS_KERNEL = "7.3"
VAGRANT = paths.CHECKOUT / "vagrant"
VAGRANT_SECONDS = 120
#: Guest RAM in 4 KiB pages, so that what DAMON sees can be held against the workload's own truth; with huge
#: pages (QEMU asks for them) everything is seen in pieces of 2 MiB.
SMALL_PAGES = "transparent_hugepage=never"
TRANSPARENT = "/sys/kernel/mm/transparent_hugepage/enabled"
NEWER = 7.0
"""From this kernel on a host is asked for what 7.3 can do."""


@dataclass(frozen=True)
class Chosen:
    """What ``--host`` says, ``lab``, ``vagrant``, or ``ssh:DESTINATION``, and what host VMs are called."""

    text: str
    lab: str = "suite"

    @property
    def is_lab(self) -> bool:
        """Whether host VMs are the suite's own, to be made as each test needs them."""
        return self.text == "lab"

    def lacks_own(self, of: str, kernel: str) -> str:
        """Why there is no host that one module may have for itself; empty where there is one.

        Raises:
            LabError: Vagrant does not say.
        """
        if self.is_lab:
            return ""
        if self.text != "vagrant" or of not in PAIR or kernel != PAIRS_KERNEL:
            return "needs a host VM of its own making: --host lab"
        said = _vagrant("status", "--machine-readable", PAIR[of])
        if said.returncode:
            raise LabError(f"vagrant status {PAIR[of]}: {said.stderr.strip()[-300:]}")
        # One that was made and has died since is a failure, and nothing to be skipped.
        if f",{PAIR[of]},state,not_created\n" not in said.stdout:
            return ""
        return f'there is no {PAIR[of]}: make vagrant-test MACHINES="{" ".join(PAIR.values())}"'

    def kernels(self, asked: list[str] | None) -> tuple[str, ...]:
        """The kernels to test, by the name of the one of ours that is most like it."""
        if not self.text.startswith("ssh:"):
            return tuple(asked or KERNELS)
        asked_there = ReachedHost.reach(self.name("asked"), self.text.removeprefix("ssh:"))
        release = asked_there.kernel
        asked_there.stop()
        found = re.match(r"\d+\.\d+", release)
        assert found, release
        kernel = "7.3" if float(found[0]) >= NEWER else "6.12"
        if asked and asked != [kernel]:
            raise LabError(f"it runs {release}, which is tested as {kernel}", f"--kernel {kernel}, or none")
        return (kernel,)

    def name(self, kernel: str, of: str = "") -> str:
        """What a host VM with that kernel is called, or what is kept of a given host; ``of`` one module."""
        if self.is_lab:
            return "-".join(filter(None, (self.lab, of, kernel.replace(".", "-"))))
        if self.text == "vagrant":
            return f"vagrant-{PAIR.get(of, kernel).replace('.', '-')}"
        # What a name has no room or no letters for is told apart by this.
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:8]
        return re.sub(r"[^A-Za-z0-9]+", "-", f"{self.text[:27]}-{digest}-{kernel}").strip("-")

    @contextmanager
    def host(
        self, kernel: str, say: Callable[[str], None], *, of: str = "", append: str = "", **spec: Any
    ) -> Iterator[Lab]:
        """The host with that kernel; a given one is left without guests and with the settings that it had.

        Raises:
            LabError: it does not come up, cannot be reached, has domains that are not ours, or somebody else
                is at work on it.
        """
        if self.is_lab:
            spec = {"memory": "4G", **spec}
            words = f"{SMALL_PAGES} {append}".strip()
            lab = Lab.up(self.name(kernel, of), kernel=kernel, append=words, say=say, throwaway=True, **spec)
            try:
                yield lab
            finally:
                lab.down()
            return
        with exclusive(self.name(kernel, of), "is used"):
            lab = self._reach(kernel, of, say)
            try:
                _check_nobody_lives_there(lab)
                # A kernel that runs already takes no words.
                usual = lab.run(f"sed 's/.*\\[//; s/\\].*//' {TRANSPARENT}").stdout.strip()
                lab.run(f"echo never >{TRANSPARENT}")
                try:
                    yield lab
                finally:
                    try:
                        _end_ours(lab)
                    finally:
                        lab.run(f"echo {usual} >{TRANSPARENT}")
            finally:
                lab.down()

    def _reach(self, kernel: str, of: str, say: Callable[[str], None]) -> Lab:
        if self.text == "vagrant":
            name, machine = self.name(kernel, of), PAIR.get(of) or f"host-{kernel.replace('.', '-')}"
            return Lab.reach(name, machine, config=_vagrant_ssh_config(machine, name), say=say)
        return Lab.reach(self.name(""), self.text.removeprefix("ssh:"), say=say)


def parse(text: str, lab: str) -> Chosen:
    """What was given as ``--host`` and ``--lab``.

    Raises:
        ValueError: the host is none of the three.
    """
    if text not in {"lab", "vagrant"} and not re.fullmatch(r"ssh:\S+", text):
        raise ValueError(f"{text!r} is not lab, vagrant or ssh:[USER@]HOST")
    return Chosen(text, lab)


def _end_ours(lab: Lab) -> None:
    for name in lab.guests.ours():
        lab.guest_remove(name)


def _check_nobody_lives_there(lab: Lab) -> None:
    """End the guests of a run that has died; refuse a host with others: libvirtd and swap will go away."""
    _end_ours(lab)
    if foreign := lab.guests.names():
        raise LabError(f"{lab.name} runs {', '.join(foreign)}", "give the suite a host that nobody needs")


def _vagrant(*words: str) -> subprocess.CompletedProcess[str]:
    vagrant = shutil.which("vagrant")
    if vagrant is None:
        raise LabError("vagrant is not installed", "see vagrant/README.md")
    try:
        return subprocess.run(
            [vagrant, *words],
            cwd=VAGRANT,
            capture_output=True,
            text=True,
            check=False,
            timeout=VAGRANT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"vagrant {' '.join(words)} took longer than {VAGRANT_SECONDS} s") from None


def _vagrant_ssh_config(machine: str, name: str) -> Path:
    """The way in as Vagrant has it, as root instead of its own user."""
    said = _vagrant("ssh-config", machine)
    if said.returncode:
        raise LabError(f"no Vagrant machine {machine}: {said.stderr.strip()[-300:]}", f"vagrant up {machine}")
    file = paths.run_dir(name) / "ssh-config"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(re.sub(r"(?m)^(\s*User) .*$", r"\1 root", said.stdout))
    return file
