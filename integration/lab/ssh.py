"""Commands in the host VM, over one shared connection.

A handshake costs an emulated processor a second or two, so a master connection is opened once and
stays until the lab goes down.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Ssh:
    """The way to one machine: ours by port and key, another one by the user's own ssh configuration."""

    destination: str
    sockets: Path
    port: int = 0
    key: Path | None = None
    config: Path | None = None

    @property
    def _control(self) -> str:
        return str(self.sockets / "ssh")

    def options(self) -> list[str]:
        """Options that ssh, scp and rsync share, without the port."""
        ours = [
            "-F", "/dev/null", "-i", str(self.key), "-o", "IdentitiesOnly=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "KexAlgorithms=curve25519-sha256", "-o", "Compression=no",
        ] if self.key else self._given()  # fmt: skip
        return [
            *ours, "-q", "-S", self._control, "-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
            "-o", "StreamLocalBindUnlink=yes",
        ]  # fmt: skip

    def _given(self) -> list[str]:
        """Nobody sees the process of such a host: one that is silent for three minutes has died."""
        known = ["-F", str(self.config)] if self.config else []
        return [*known, "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=12"]

    def command(self, remote: Sequence[str] | str, *, tty: bool = False) -> list[str]:
        """The local command line of a remote command; an empty one is a login shell."""
        words = remote if isinstance(remote, str) else shlex.join(remote)
        return [*self._ssh(), *(["-t"] if tty else []), self.destination, *([words] if words else [])]

    def _ssh(self) -> list[str]:
        return ["ssh", *self.options(), *(["-p", str(self.port)] if self.port else [])]

    def banner(self, timeout: float = 1.0) -> bool:
        """Whether sshd answers.

        QEMU's user network accepts a connection at once and retries towards the VM ever more
        slowly, so it is asked by short-lived connections, not by one patient one.
        """
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as link:
            link.settimeout(timeout)
            return link.recv(4) == b"SSH-"
        return False

    def open_master(self, timeout: float) -> bool:
        """Start the shared connection; its output must not be the caller's pipe."""
        command = [*self._ssh(), "-fNM", self.destination]
        with suppress(subprocess.TimeoutExpired):
            return not subprocess.run(
                command, check=False, timeout=timeout, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ).returncode  # fmt: skip
        return False

    def forward(self, local: Path, remote: str, timeout: float = 30) -> bool:
        """Make a unix socket of the host VM reachable on this machine."""
        return self._control_command(["forward", "-L", f"{local}:{remote}"], timeout)

    def cancel_forward(self, local: Path, remote: str) -> None:
        """Undo :meth:`forward`."""
        self._control_command(["cancel", "-L", f"{local}:{remote}"], 10)
        local.unlink(missing_ok=True)

    def is_open(self) -> bool:
        """Whether the shared connection stands."""
        return self._control_command(["check"], 10)

    def close(self) -> None:
        """End the shared connection."""
        self._control_command(["exit"], 5)

    def _control_command(self, words: list[str], timeout: float) -> bool:
        command = [*self._ssh(), "-O", *words, self.destination]
        with suppress(subprocess.TimeoutExpired):
            return not subprocess.run(
                command, check=False, timeout=timeout, stdin=subprocess.DEVNULL,
                capture_output=True,
            ).returncode  # fmt: skip
        return False
