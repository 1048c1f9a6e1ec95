"""The lab as Python sees it: what the integration tests and the command line both use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from integration.lab import deb, paths, state
from integration.lab.errors import LabError
from integration.lab.guests import Guests, GuestSpec
from integration.lab.hostvm import HostSpec, HostVm, check_name, mebibytes
from integration.lab.image.build import Image, build
from integration.lab.reached import ReachedHost

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from integration.lab.machine import Machine


def _silent(_: str) -> None:
    """Say nothing."""


class Lab:
    """A running host VM with its guests.

    Every call that waits has a time limit and ends at once, with the console's last lines, when the
    host VM has died.
    """

    def __init__(self, vm: Machine, image: Image) -> None:
        self.vm = vm
        self.image = image
        self.guests = Guests(vm)

    @classmethod
    def up(
        cls, name: str = "lab", *, kernel: str | None = None, memory: str = "4G",
        cpus: int | None = None, nodes: int = 1, append: str = "", machine: str = "q35",
        qemu_arguments: tuple[str, ...] = (), throwaway: bool = False, reuse: bool = False,
        timeout: float = 180, say: Callable[[str], None] = _silent,
    ) -> Self:  # fmt: skip
        """Build the image if need be and boot a host VM.

        With ``reuse`` a running one of the same name is taken when it has the same image, kernel,
        memory, nodes and kernel command line, and replaced when it has not. A ``throwaway`` one is replaced
        by whoever wants its name after this process has ended.
        """
        check_name(name)  # before minutes are spent on an image
        mebibytes(memory)
        image = build(say)
        spec = HostSpec(name, kernel, memory, cpus, nodes, append, machine, qemu_arguments, throwaway)
        running = HostVm.find(name)
        if running and reuse:
            if _same(running, spec, image):
                return cls(running, image)
            running.stop()
        return cls(HostVm.start(spec, image, say, timeout), image)

    @classmethod
    def find(cls, name: str = "lab") -> Self:
        """The running lab of a name.

        Raises:
            LabError: there is none.
        """
        vm = HostVm.find(name)
        if vm is None:
            died = state.LabState.load(name) is not None
            raise LabError(
                f"lab {name!r} {'has died' if died else 'is not up'}",
                f"python -m integration.lab up --name {name}",
            )
        # the image it was started with: the checkout may have moved on
        return cls(vm, Image(paths.cache() / vm.state.image))

    @classmethod
    def reach(
        cls, name: str, destination: str, *, config: Path | None = None, say: Callable[[str], None] = _silent
    ) -> Self:
        """A host that runs already, with guests from the same images.

        Raises:
            LabError: it cannot be reached, or no image can be built.
        """
        return cls(ReachedHost.reach(check_name(name), destination, config), build(say))

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.vm.name

    def console_tail(self, lines: int = 20) -> str:
        """The last lines of the host VM's console."""
        return self.vm.console_tail(lines)

    def run(
        self, command: Sequence[str] | str, *, check: bool = True, timeout: float = 120,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command in the host VM; a string is a shell line."""
        return self.vm.run(command, check=check, timeout=timeout, stdin=stdin)

    def push(self, say: Callable[[str], None] = _silent) -> bool:
        """Install the checkout's Debian package in the host VM; tell whether that was needed."""
        return deb.push(self.vm, say)

    def put(self, local: Path, remote: str, timeout: float = 300) -> None:
        """Copy a file or directory into the host VM."""
        self.vm.copy(local, remote, timeout=timeout)

    def pull(self, remote: str, local: Path, timeout: float = 300) -> None:
        """Copy a file or directory out of the host VM."""
        self.vm.copy(local, remote, pull=True, timeout=timeout)

    def guest_add(self, spec: GuestSpec, timeout: float = 240) -> float:
        """Start a guest, wait until it answers; return the seconds it took."""
        return self.guests.add(spec, self.image, timeout)

    def guest_list(self) -> list[dict[str, Any]]:
        """The running guests."""
        return self.guests.running()

    def guest_log(self, name: str) -> str:
        """A guest's console."""
        return self.guests.log(name)

    def guest_send(self, name: str, line: str, timeout: float = 60) -> dict[str, Any]:
        """Send a line to a guest, return its answer."""
        return self.guests.send(name, line, timeout)

    def guest_remove(self, name: str) -> None:
        """End a guest."""
        self.guests.remove(name)

    def down(self) -> None:
        """Take the host VM down and remove all it left."""
        self.vm.stop()


def _same(running: HostVm, spec: HostSpec, image: Image) -> bool:
    known = running.state
    return (
        known.image == image.key
        and known.kernel == image.release(spec.kernel)
        and mebibytes(known.memory) == mebibytes(spec.memory)
        and known.nodes == spec.nodes
        and known.append == spec.append
        and spec.cpus in (None, known.cpus)
    )
