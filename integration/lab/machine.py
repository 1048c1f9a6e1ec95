"""A machine that commands and files go to over ssh: a host VM of ours, or a host that was there before."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

from integration.lab.errors import HostVmDiedError, LabError, LabTimeoutError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from integration.lab.ssh import Ssh


class Machine(ABC):
    """Commands and copies; every wait has a limit and ends at once when the machine has died."""

    name: str
    ssh: Ssh

    @abstractmethod
    def check_alive(self) -> None:
        """Raise when the machine has died.

        Raises:
            HostVmDiedError: it has.
        """

    @abstractmethod
    def alive(self) -> bool:
        """Whether it runs."""

    @abstractmethod
    def console_tail(self, lines: int = 20) -> str:
        """The last lines of its console; empty where nobody keeps them."""

    @abstractmethod
    def stop(self) -> None:
        """Be done with it."""

    @property
    @abstractmethod
    def kernel(self) -> str:
        """The release of the kernel that it runs."""

    def run(
        self, command: Sequence[str] | str, *, check: bool = True, timeout: float = 120,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command on it; a string is a shell line.

        Raises:
            LabError: it failed and ``check`` is set.
            LabTimeoutError: it took too long.
            HostVmDiedError: it died meanwhile.
        """
        self.check_alive()
        shown = command if isinstance(command, str) else " ".join(command)
        with subprocess.Popen(
            self.ssh.command(command), text=True, errors="replace", stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                output, errors = self._communicate(process, stdin, timeout, shown)
            except BaseException:
                process.kill()
                raise
        if process.returncode == 255:
            self.check_alive()
        if check and process.returncode:
            last = (errors or output).strip().splitlines()[-1:] or ["no output"]
            raise LabError(f"{shown!r} failed with {process.returncode} there: {last[0]}")
        return subprocess.CompletedProcess(shown, process.returncode, output, errors)

    def _communicate(
        self, process: subprocess.Popen[str], stdin: str | None, timeout: float, shown: str
    ) -> tuple[str, str]:
        end = time.monotonic() + timeout
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(stdin, timeout=0.5)
            stdin = None  # what was begun to be sent is remembered by communicate()
            self.check_alive()
            if time.monotonic() > end:
                process.kill()
                said = "".join(part or "" for part in process.communicate())[-2000:].strip()
                raise LabTimeoutError(
                    f"{shown!r} took longer than {timeout:.0f} s there; "
                    + (f"it had said:\n{said}" if said else "it had said nothing")
                )

    def stream(self, command: Sequence[str] | str, *, tty: bool = False) -> int:
        """Run a command with this process's own stdin and stdout; return its exit code."""
        self.check_alive()
        with subprocess.Popen(self.ssh.command(command, tty=tty)) as process:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
                try:
                    self.check_alive()
                except HostVmDiedError:
                    process.kill()
        if process.returncode == 255 or process.returncode < 0:
            self.check_alive()
        return process.returncode

    def copy(self, source: Path, target: str, *, pull: bool = False, timeout: float = 300) -> None:
        """Copy a file or a directory to it, or from it to ``source`` with ``pull``."""
        self.check_alive()
        pair = [f"{self.ssh.destination}:{target}", str(source)]
        command = ["scp", *self._scp_options(), "-r", *(pair if pull else reversed(pair))]
        with subprocess.Popen(
            command, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            try:
                _, errors = self._communicate(process, None, timeout, "the copy")
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            self.check_alive()
            reason = errors.strip().splitlines()[-1:] or ["is the path right?"]
            raise LabError(f"cannot copy {target if pull else source}", reason[0])

    def _scp_options(self) -> list[str]:
        options = self.ssh.options()
        at = options.index("-S")  # scp means something else by -S
        port = ["-P", str(self.ssh.port)] if self.ssh.port else []
        return [*options[:at], "-o", f"ControlPath={options[at + 1]}", *options[at + 2 :], *port]
