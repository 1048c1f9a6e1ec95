"""A host that somebody else has started: a Vagrant machine, or any host that root can reach by ssh."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from integration.lab import paths
from integration.lab.errors import HostVmDiedError, LabTimeoutError
from integration.lab.machine import Machine
from integration.lab.ssh import Ssh

if TYPE_CHECKING:
    from pathlib import Path

LOGIN_SECONDS = 60.0


class ReachedHost(Machine):
    """It is not ours to start or to end; only what we keep about it is."""

    def __init__(self, name: str, ssh: Ssh) -> None:
        self.name = name
        self.ssh = ssh

    @classmethod
    def reach(cls, name: str, destination: str, config: Path | None = None) -> ReachedHost:
        """Log in.

        Raises:
            LabTimeoutError: it does not let root in without a question.
        """
        host = cls(name, Ssh(destination, paths.socket_dir(name), config=config))
        if not host.alive():
            raise LabTimeoutError(
                f"cannot log in to {destination}", f"does 'ssh {destination} true' work without a question?"
            )
        paths.run_dir(name).mkdir(parents=True, exist_ok=True)
        return host

    def alive(self) -> bool:
        """Whether the shared connection stands, or can be made again."""
        return self.ssh.is_open() or self.ssh.open_master(LOGIN_SECONDS)

    def check_alive(self) -> None:
        """Raise when it cannot be reached any more."""
        if not self.alive():
            raise HostVmDiedError(self.name, "")

    def console_tail(self, lines: int = 20) -> str:
        """Nobody keeps its console here; the kernel's log serves."""
        return self.run(f"dmesg | tail -n {lines}", check=False).stdout

    @property
    def kernel(self) -> str:
        """The release that it runs."""
        return self.run(["uname", "-r"]).stdout.strip()

    def stop(self) -> None:
        """Log out, and forget what was noted about its guests."""
        self.ssh.close()
        shutil.rmtree(paths.run_dir(self.name), ignore_errors=True)
