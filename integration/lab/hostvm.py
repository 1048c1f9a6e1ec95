"""One host VM: start it, know at once when it dies, take it down."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from integration.lab import accel, paths, qmp, state
from integration.lab.errors import HostVmDiedError, LabError, LabTimeoutError
from integration.lab.image.build import Image, ssh_key
from integration.lab.machine import Machine
from integration.lab.ssh import Ssh
from integration.lab.state import LabState, ProcessId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: The host VM's kernel command line.  An oops ends the VM, so that it is noticed: a host that limps
#: on makes tests fail for reasons that have nothing to do with them.
KERNEL_WORDS: Final = (
    "root=/dev/vda", "rw", "console=ttyS0", "quiet", "systemd.show_status=false", "panic=-1",
    "oops=panic", "mitigations=off", "lsm=", "audit=0", "psi=1", "transparent_hugepage=madvise",
    "tsc=reliable", "nowatchdog",
)  # fmt: skip

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_SIZE = re.compile(r"(\d+)([KMG])i?B?", re.IGNORECASE)


def mebibytes(size: str) -> int:
    """``4G`` or ``512M`` in MiB."""
    match = _SIZE.fullmatch(size.strip())
    if not match:
        raise LabError(f"{size!r} is not a size", "write it as 512M or 4G")
    number, unit = int(match[1]), match[2].upper()
    return {"K": number // 1024, "M": number, "G": number * 1024}[unit]


def check_name(name: str) -> str:
    """Refuse names that would not do as a file, host or domain name."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is not usable as a name", "letters, digits, '.', '_', '-'")
    return name


@dataclass(frozen=True)
class HostSpec:
    """What a host VM shall be."""

    name: str = "lab"
    kernel: str | None = None
    memory: str = "4G"
    cpus: int | None = None
    nodes: int = 1
    append: str = ""
    machine: str = "q35"
    qemu_arguments: tuple[str, ...] = field(default=())
    throwaway: bool = False
    """Of no use once the process that started it has ended: its name may be taken then."""


class HostVm(Machine):
    """A started host VM."""

    def __init__(self, vm_state: LabState) -> None:
        self.state = vm_state
        self.name = vm_state.name
        self.ssh = Ssh("root@127.0.0.1", paths.socket_dir(vm_state.name), vm_state.port, ssh_key())

    @property
    def kernel(self) -> str:
        """The release that it was booted with."""
        return self.state.kernel

    # --- life

    @classmethod
    def find(cls, name: str) -> HostVm | None:
        """The running host VM of a name."""
        known = LabState.load(check_name(name))
        return cls(known) if known and known.process.alive() else None

    @classmethod
    def start(cls, spec: HostSpec, image: Image, say: Callable[[str], None], timeout: float) -> HostVm:
        """Boot a host VM and wait until it takes commands.

        Raises:
            LabError: one of this name runs already, or QEMU refused to start.
            HostVmDiedError: it died while it booted.
            LabTimeoutError: it did not come up in time.
        """
        with exclusive(check_name(spec.name), "is just being started"):
            if running := cls.find(spec.name):
                if not running.state.abandoned:
                    raise LabError(
                        f"lab {spec.name!r} is up already",
                        f"python -m integration.lab down --name {spec.name}, or use another name",
                    )
                say(f"{spec.name} was left behind by a run that has died: taking it down")
                running.stop()
            state.forget(spec.name)
            chosen = accel.probe(image)
            say(chosen.reason)
            begin = time.monotonic()
            vm = cls(_launch(spec, image, chosen))
            try:
                vm.wait_for_ssh(begin + timeout)
            except BaseException:  # a test's time limit and Ctrl-C as well: QEMU would outlive us
                vm.stop()
                raise
            return vm

    def alive(self) -> bool:
        """Whether the VM's process runs."""
        return self.state.process.alive()

    def check_alive(self) -> None:
        """Raise when the VM has died."""
        if not self.alive():
            raise HostVmDiedError(self.name, self.console_tail())

    def console_tail(self, lines: int = 20) -> str:
        """The last lines of the VM's console."""
        return "\n".join(console_text(self.console).splitlines()[-lines:])

    @property
    def console(self) -> Path:
        """The file the VM's serial console is written to."""
        return paths.run_dir(self.name) / "console.log"

    def wait_for_ssh(self, end: float) -> None:
        """Wait for sshd, then open the shared connection."""
        while not self.ssh.banner():
            self.check_alive()
            if time.monotonic() > end:
                raise LabTimeoutError(f"no ssh in host VM {self.name!r}", self.console_tail())
            time.sleep(0.1)
        while not self.ssh.open_master(30):
            self.check_alive()
            if time.monotonic() > end:
                raise LabTimeoutError(f"cannot log in to host VM {self.name!r}", self.console_tail())

    def stop(self) -> None:
        """Take the VM down and remove all it left; its disk is a throw-away overlay."""
        self.ssh.close()
        if self.alive():
            _qmp_quit(paths.socket_dir(self.name) / "qmp")
            self.state.process.wait_gone(5)
        self.state.process.kill()
        state.forget(self.name)


def console_text(path: Path) -> str:
    """A console file without the carriage returns and control sequences of a terminal."""
    try:
        raw = path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", raw)


@contextmanager
def exclusive(name: str, what: str) -> Iterator[None]:
    """One process at a time does ``what`` with the host of a name.

    Raises:
        LabError: somebody else does.
    """
    locks = paths.cache() / "run"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"{name}.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"host {name!r} {what} by somebody else") from None
        yield


def _launch(spec: HostSpec, image: Image, chosen: accel.Accel) -> LabState:
    run = paths.run_dir(spec.name)
    run.mkdir(parents=True)
    disk = run / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", image.disk, "-F", "qcow2", disk],
        check=True,
    )
    release = image.release(spec.kernel)
    cpus = spec.cpus or (1 if chosen.emulated else 2)
    for _ in range(3):  # between finding a free port and using it somebody may take it
        port = _free_port()
        command = _qemu_command(spec, image, chosen, release, cpus, port)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            timeout=60,
        )  # fmt: skip
        if not done.returncode or "forward" not in done.stderr:
            break
    if done.returncode:
        state.forget(spec.name)
        raise LabError(f"QEMU did not start: {done.stderr.strip().splitlines()[-1:]}")
    process = ProcessId.of(int((run / "pid").read_text()))
    if not process:
        raise HostVmDiedError(spec.name, console_text(run / "console.log"))
    saved = LabState(
        spec.name, process, port, release, image.key, spec.memory, cpus, chosen.name,
        spec.append, time.time(), spec.nodes, ProcessId.of(os.getpid()) if spec.throwaway else None,
    )  # fmt: skip
    saved.save()
    return saved


def _qemu_command(
    spec: HostSpec, image: Image, chosen: accel.Accel, release: str, cpus: int, port: int
) -> list[str]:
    run, sockets = paths.run_dir(spec.name), paths.socket_dir(spec.name)
    disk = str(run / "disk.qcow2").replace(",", ",,")  # a comma separates QEMU's options
    return [
        accel.QEMU, "-name", f"lab-{spec.name}", "-machine", spec.machine, *chosen.arguments(),
        "-smp", str(cpus), *_memory_arguments(spec), "-nodefaults", "-display", "none",
        "-no-reboot", "-monitor", "none",
        "-kernel", str(image.vmlinux(release)), "-initrd", str(image.initrd(release)),
        "-append", " ".join((*KERNEL_WORDS, spec.append)).strip(),
        "-drive", f"file={disk},if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap",
        "-device", "virtio-blk-pci,drive=disk",
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
        "-serial", f"file:{run / 'console.log'}",
        "-qmp", f"unix:{sockets / 'qmp'},server=on,wait=off",
        "-pidfile", str(run / "pid"), "-daemonize", *spec.qemu_arguments,
    ]  # fmt: skip


def _memory_arguments(spec: HostSpec) -> list[str]:
    """The memory; of two nodes the second has a quarter of it, and QEMU puts the only socket on the first."""
    whole = mebibytes(spec.memory)
    arguments = ["-m", f"{whole}M"]
    for node, size in enumerate((whole - whole // 4, whole // 4) if spec.nodes == 2 else ()):
        arguments += ["-object", f"memory-backend-ram,id=ram{node},size={size}M"]
        arguments += ["-numa", f"node,nodeid={node},memdev=ram{node}"]
    return arguments


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _qmp_quit(path: Path) -> None:
    """Have QEMU end itself, which flushes and closes what it has open."""
    with suppress(OSError, ValueError), qmp.connected(path) as link:
        link.execute("quit")
