"""Guests of the host VM: transient libvirt domains with a line protocol on a virtio-serial port."""

from __future__ import annotations

import json
import secrets
import socket
import time
import xml.etree.ElementTree as ET
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from integration.lab import paths
from integration.lab.errors import LabError, LabTimeoutError
from integration.lab.hostvm import check_name, mebibytes
from integration.lab.image.build import guest_image
from integration.lab.image.pack import KERNELS_IN_HOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from integration.lab.image.build import Image
    from integration.lab.machine import Machine

QEMU_NAMESPACE: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
CHANNEL: Final = "org.overcommit.lab"
AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"
PING_AGAIN: Final = 3.0
#: Workloads that read a disk: they get the host VM's own, which has real data, to read only.
DISK_WORKLOADS: Final = ("pagecache",)
#: Workloads that start the key-value server.
SERVER_WORKLOADS: Final = ("kv",)
#: MiB in which virtio-mem plugs and unplugs; no less than a transparent huge page.
PLUG_BLOCK: Final = "2"
Balloon = Literal["virtio", "none", "nodriver", "needy", "phantom", "absurd"]
#: What is behind guest RAM: a memfd that its NUMA cell shares, or a file on the host's disk.
Backing = Literal["", "cell", "file"]
#: How a guest's init starts the program that lies instead of the driver (guest/liar.c).
LIARS: Final = ("needy", "phantom", "absurd")

#: A guest's kernel command line: what a small emulated machine does not have is not searched for.
KERNEL_WORDS: Final = (
    "console=ttyS0", "quiet", "panic=-1", "mitigations=off", "lsm=", "audit=0", "nowatchdog",
    "i8042.noaux=1", "i8042.nokbd=1", "8250.nr_uarts=1", "cryptomgr.notests=1",
    "rcupdate.rcu_expedited=1", "damon_stat.enabled=N", "tsc=reliable", "no_timer_check", "nokaslr",
    "transparent_hugepage=madvise",
)  # fmt: skip


@dataclass(frozen=True)
class GuestSpec:
    """What a guest shall be.

    ``balloon="nodriver"`` gives it the device and tells its init not to load the driver, which is
    how a guest looks that ignores the balloon. ``"needy"``, ``"phantom"`` and ``"absurd"`` lie to the host
    over that device (guest/liar.c). ``swap`` is the size of a swap disk of its own. ``plug`` is memory beside
    ``memory``, in a virtio-mem device; all of it is plugged at first. ``agent`` gives it the channel and
    QEMU's guest agent, which refuses the commands ``block_rpcs``; with the setting ``agent=off`` the channel
    only. One that ``reboots`` comes back when it is reset; the others end, so that a crash shows. ``nvdimm``
    is the size of a persistent memory device, in a file. ``plug_pages`` is the size of the huge pages that
    its virtio-mem device is made of. ``tpm`` emulates one. ``vfio`` is the host's PCI device that it gets by
    QEMU's command line, which libvirt does not look into.
    """

    name: str
    memory: str = "512M"
    workload: str = "idle"
    settings: dict[str, str] = field(default_factory=dict)
    balloon: Balloon = "virtio"
    free_page_reporting: bool = True
    autodeflate: bool = True
    stats_period: int = 2
    vcpus: int = 1
    hugepages: bool = False
    locked: bool = False
    shared: bool = False
    agent: bool = False
    block_rpcs: str = ""
    swap: str = ""
    kernel: str = "6.12"
    append: str = ""
    machine: str = "pc"
    plug: str = ""
    reboots: bool = False
    backing: Backing = ""
    nvdimm: str = ""
    plug_pages: str = ""
    tpm: bool = False
    vfio: str = ""

    def command_line(self) -> str:
        """The guest's kernel command line."""
        settings = dict(self.settings)
        if self.balloon == "nodriver":
            settings["balloon"] = "off"
        elif self.balloon in LIARS:
            settings["balloon"] = self.balloon
        if self.swap:
            settings["swap"] = "on"
        if self.agent:
            settings.setdefault("agent", "on")
        if self.block_rpcs:
            settings["block_rpcs"] = self.block_rpcs
        words = [f"workload={self.workload}", *(f"wl.{k}={v}" for k, v in settings.items())]
        if broken := [word for word in words if len(word.split()) != 1]:
            raise LabError(f"a setting must not contain spaces: {broken[0]!r}")
        # Plugged memory is put to use by itself, and only for what can be moved out of it again.
        plugging = ["memhp_default_state=online_movable"] if self.plug else []
        return " ".join((*KERNEL_WORDS, *plugging, *words, self.append)).strip()

    @property
    def console(self) -> str:
        """The console file inside of the host VM."""
        return f"/var/log/libvirt/qemu/{self.name}.console"

    @property
    def nvdimm_file(self) -> str:
        """What is behind the guest's persistent memory, inside of the host VM."""
        return f"/var/lib/lab/{self.name}.nvdimm"

    @property
    def devices_mib(self) -> int:
        """The memory that it has beside ``memory``, in devices."""
        return sum(mebibytes(size) for size in (self.plug, self.nvdimm) if size)

    @property
    def swap_file(self) -> str:
        """What is behind the guest's swap disk, inside of the host VM."""
        return f"/var/lib/lab/{self.name}.swap"

    @property
    def channel(self) -> str:
        """The channel's socket inside of the host VM."""
        return f"/run/lab-{self.name}.sock"


def _silent(_: str) -> None:
    """A guest image takes a blink: nothing to report."""


def _element(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text or None
    return element


def domain_xml(spec: GuestSpec, kernel: str, initrd: str) -> str:
    """The libvirt domain of a guest."""
    domain = ET.Element("domain", type="kvm")
    mebi = str(mebibytes(spec.memory))
    _element(domain, "name", spec.name)
    if spec.devices_mib:
        most = str(mebibytes(spec.memory) + spec.devices_mib)
        _element(domain, "maxMemory", most, unit="MiB", slots="2")
    _element(domain, "memory", mebi, unit="MiB")
    # libvirt counts an NVDIMM as memory that the balloon leaves.
    current = mebibytes(spec.memory) + (mebibytes(spec.nvdimm) if spec.nvdimm else 0)
    _element(domain, "currentMemory", str(current), unit="MiB")
    if spec.hugepages or spec.locked or spec.shared or spec.backing:
        backing = _element(domain, "memoryBacking")
        if spec.hugepages:
            _element(backing, "hugepages")
        if spec.locked:
            _element(backing, "locked")
        if spec.shared:
            _element(backing, "source", type="memfd")
            _element(backing, "access", mode="shared")
        if spec.backing == "cell":
            _element(backing, "source", type="memfd")
        if spec.backing == "file":
            _element(backing, "source", type="file")
            _element(backing, "access", mode="shared")
    _element(domain, "vcpu", str(spec.vcpus))
    system = _element(domain, "os")
    _element(system, "type", "hvm", arch="x86_64", machine=spec.machine)
    _element(system, "kernel", kernel)
    _element(system, "initrd", initrd)
    _element(system, "cmdline", spec.command_line())
    _element(_element(domain, "features"), "acpi")
    # QEMU would pulse its line 90 times a second, masked by a guest that keeps time by another clock.
    _element(_element(domain, "clock", offset="utc"), "timer", name="hpet", present="no")
    processor = _element(domain, "cpu", mode="host-passthrough")
    if spec.devices_mib or spec.backing == "cell":
        cpus = f"0-{spec.vcpus - 1}"
        cell = _element(_element(processor, "numa"), "cell", id="0", cpus=cpus, memory=mebi, unit="MiB")
        if spec.backing == "cell":
            cell.set("memAccess", "shared")
    _element(domain, "on_poweroff", "destroy")
    _element(domain, "on_reboot", "restart" if spec.reboots else "destroy")
    _element(domain, "on_crash", "destroy")
    _add_devices(_element(domain, "devices"), spec)
    if spec.vfio:
        line = ET.SubElement(domain, f"{{{QEMU_NAMESPACE}}}commandline")
        for word in ("-device", f"vfio-pci,host={spec.vfio},addr=1e"):
            ET.SubElement(line, f"{{{QEMU_NAMESPACE}}}arg", value=word)
    return ET.tostring(domain, encoding="unicode")


def _add_devices(devices: ET.Element, spec: GuestSpec) -> None:
    serial = _element(devices, "serial", type="file")
    _element(serial, "source", path=spec.console)
    _element(serial, "target", port="0")
    channel = _element(devices, "channel", type="unix")
    _element(channel, "source", mode="bind", path=spec.channel)
    _element(channel, "target", type="virtio", name=CHANNEL)
    if spec.agent:
        _element(_element(devices, "channel", type="unix"), "target", type="virtio", name=AGENT_CHANNEL)
    _element(devices, "controller", type="usb", model="none")
    if spec.workload in DISK_WORKLOADS:
        disk = _element(devices, "disk", type="block", device="disk")
        _element(disk, "driver", name="qemu", type="raw", cache="none")
        _element(disk, "source", dev="/dev/vda")
        _element(disk, "target", dev="vda", bus="virtio")
        _element(disk, "readonly")
        _element(disk, "shareable")
    if spec.plug:
        device = _element(devices, "memory", model="virtio-mem")
        if spec.plug_pages:
            pages = str(mebibytes(spec.plug_pages))
            _element(_element(device, "source"), "pagesize", pages, unit="MiB")
        target = _element(device, "target")
        size = str(mebibytes(spec.plug))
        _element(target, "size", size, unit="MiB")
        _element(target, "node", "0")
        _element(target, "block", PLUG_BLOCK, unit="MiB")
        _element(target, "requested", size, unit="MiB")
    if spec.nvdimm:
        device = _element(devices, "memory", model="nvdimm")
        _element(_element(device, "source"), "path", spec.nvdimm_file)
        target = _element(device, "target")
        _element(target, "size", str(mebibytes(spec.nvdimm)), unit="MiB")
        _element(target, "node", "0")
    if spec.tpm:
        tpm = _element(devices, "tpm", model="tpm-crb")
        _element(tpm, "backend", type="emulator", version="2.0")
    if spec.swap:
        disk = _element(devices, "disk", type="file", device="disk")
        # Nothing of it may stay in the host's page cache, which would be the guest's memory by another name.
        _element(disk, "driver", name="qemu", type="raw", cache="none")
        _element(disk, "source", file=spec.swap_file)
        _element(disk, "target", dev="vdb", bus="virtio")
        _element(disk, "serial", "swap")
    if spec.balloon == "none":
        _element(devices, "memballoon", model="none")
        return
    balloon = _element(
        devices, "memballoon", model="virtio",
        autodeflate="on" if spec.autodeflate else "off",
        freePageReporting="on" if spec.free_page_reporting else "off",
    )  # fmt: skip
    if spec.stats_period:
        _element(balloon, "stats", period=str(spec.stats_period))


class Guests:
    """The guests of one host VM."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._records = paths.run_dir(vm.name) / "guests"
        self.started_again: list[str] = []

    def add(self, spec: GuestSpec, image: Image, timeout: float = 240) -> float:
        """Start a guest and wait until it answers; return the seconds it took.

        One that does not answer is started once more, and told of in ``started_again``: now and then an
        emulated guest stands still while it boots, for reasons that are not the tests'.
        """
        try:
            return self._add(spec, image, timeout)
        except LabTimeoutError as error:
            self.started_again.append(f"{spec.name}: {error}")
            return self._add(spec, image, timeout)

    def _add(self, spec: GuestSpec, image: Image, timeout: float) -> float:
        check_name(spec.name)
        begin = time.monotonic()
        kernel, initrd = self._provide(spec, image)
        xml = domain_xml(spec, kernel, initrd)
        if spec.nvdimm:
            self._vm.run(f"truncate -s {mebibytes(spec.nvdimm)}M {spec.nvdimm_file}")
        if spec.swap:
            disk = spec.swap_file
            self._vm.run(f"rm -f {disk}; truncate -s {mebibytes(spec.swap)}M {disk} && mkswap -q {disk}")
        self._change_huge_pages(spec, "+")
        try:
            self._vm.run(f"rm -f {spec.console}; virsh -q create /dev/stdin", stdin=xml, timeout=timeout)
        except LabError:
            self._change_huge_pages(spec, "-")
            raise
        self._record(spec)
        try:
            self.send(spec.name, "ping", begin + timeout - time.monotonic())
        except LabError as error:
            self._vm.check_alive()
            # leave nothing half-started behind, but tell what it last said
            last = self._vm.run(f"tail -n 3 {spec.console}", check=False).stdout
            self.remove(spec.name)
            raise type(error)(f"guest {spec.name!r} did not come up: {error}", last.strip()) from None
        return time.monotonic() - begin

    def expect(self, spec: GuestSpec, image: Image) -> None:
        """Make ready for a guest that another host sends: what its definition names is in place."""
        self._provide(spec, image)
        self._record(spec)

    def running(self) -> list[dict[str, Any]]:
        """The running guests with what they were started with and what libvirt says of them."""
        listing = self._vm.run("virsh -q domstats --state --balloon --list-active").stdout
        found: list[dict[str, Any]] = []
        for line in listing.splitlines():
            if line.startswith("Domain:"):
                found.append({"name": line.split("'")[1]})
            elif found and "=" in line:
                key, _, value = line.strip().partition("=")
                found[-1][key] = int(value) if value.isdigit() else value
        for guest in found:
            guest["spec"] = asdict(self._spec(guest["name"]))
        return found

    def names(self) -> list[str]:
        """The names of the running guests."""
        return self._vm.run("virsh -q list --name").stdout.split()

    def ours(self) -> list[str]:
        """Those that were added and not removed since, running or not."""
        return sorted(record.stem for record in self._records.glob("*.json"))

    def send(self, name: str, line: str, timeout: float = 60) -> dict[str, Any]:
        """Send a line to a guest's channel and return its answer."""
        end = time.monotonic() + timeout
        with self._connect(name) as link:
            answers = _Answers(link)
            # A guest drops an answer while its driver has not noticed yet that somebody listens,
            # so a request that must not be repeated is sent only after a ping was answered.
            answer = self._ask(name, answers, "ping", end, repeat=PING_AGAIN)
            if line != "ping":
                answer = self._ask(name, answers, line, end)
            return answer

    def log(self, name: str) -> str:
        """All that a guest has written on its console."""
        text = self._vm.run(["cat", self._spec(name).console]).stdout
        return text.replace("\r", "")

    def console_path(self, name: str) -> str:
        """A guest's console file inside of the host VM."""
        return self._spec(name).console

    def remove(self, name: str) -> None:
        """End a guest at once and forget it."""
        done = self._vm.run(["virsh", "-q", "destroy", name], check=False)
        spec = self._spec(name)
        self._vm.ssh.cancel_forward(self._local_socket(name), spec.channel)
        record = self._records / f"{name}.json"
        known = record.exists()
        record.unlink(missing_ok=True)
        if known:
            self._change_huge_pages(spec, "-")
        if done.returncode and not known:
            raise LabError(f"no guest {name!r}", "see guest list")

    # --- parts

    def _change_huge_pages(self, spec: GuestSpec, sign: str) -> None:
        """The host has as many huge pages as such guests, or their devices, have memory."""
        huge = (spec.memory if spec.hugepages else "", spec.plug if spec.plug_pages else "")
        if pages := sum(mebibytes(size) for size in huge if size) // 2:
            path = "/proc/sys/vm/nr_hugepages"
            self._vm.run(f"echo $(( $(cat {path}) {sign} {pages} )) > {path}")

    def _record(self, spec: GuestSpec) -> None:
        self._records.mkdir(exist_ok=True)
        (self._records / f"{spec.name}.json").write_text(json.dumps(asdict(spec)))

    def _provide(self, spec: GuestSpec, image: Image) -> tuple[str, str]:
        """Its kernel and initramfs, inside of the host VM."""
        release = image.release(spec.kernel)
        extras = spec.agent or spec.workload in SERVER_WORKLOADS
        initrd = self._provide_initrd(guest_image(image, _silent).initrd(release, extras=extras))
        return self._provide_kernel(image, release), initrd

    def _provide_kernel(self, image: Image, release: str) -> str:
        """A guests' kernel; a host VM has it from its image, another host gets it now."""
        remote = str(KERNELS_IN_HOST / release / "vmlinux")
        if self._vm.run(["test", "-e", remote], check=False).returncode:
            self._vm.run(["mkdir", "-p", str(KERNELS_IN_HOST / release)])
            self._vm.copy(image.vmlinux(release), f"{remote}.part")
            self._vm.run(["mv", f"{remote}.part", remote])
        return remote

    def _provide_initrd(self, source: Path) -> str:
        """Copy a guests' initramfs into the host VM unless this very one is there."""
        name = f"{source.parent.name}-{source.name}"
        remote = f"/var/lib/lab/{name}"
        if self._vm.run(["test", "-e", remote], check=False).returncode:
            self._vm.run(["mkdir", "-p", "/var/lib/lab"])
            self._vm.copy(source, f"{remote}.part")
            self._vm.run(["mv", f"{remote}.part", remote])
        return remote

    def _spec(self, name: str) -> GuestSpec:
        with suppress(FileNotFoundError):
            return GuestSpec(**json.loads((self._records / f"{name}.json").read_text()))
        return GuestSpec(name)

    def _local_socket(self, name: str) -> Path:
        return paths.socket_dir(self._vm.name) / f"g-{name}"

    def _connect(self, name: str) -> socket.socket:
        local = self._local_socket(name)
        for attempt in (1, 2):
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(1.0)
            try:
                link.connect(str(local))
            except (FileNotFoundError, ConnectionRefusedError):
                link.close()
                local.unlink(missing_ok=True)
                if attempt == 2 or not self._vm.ssh.forward(local, self._spec(name).channel):
                    self._vm.check_alive()
                    raise LabError(f"cannot reach the channel of guest {name!r}") from None
            else:
                return link
        raise AssertionError("unreachable")

    def _ask(
        self, name: str, answers: _Answers, line: str, end: float, repeat: float | None = None
    ) -> dict[str, Any]:
        """Send a line until it is answered; without ``repeat``, once."""
        mark = secrets.token_hex(4)
        again = 0.0
        while time.monotonic() < end:
            if time.monotonic() >= again:
                answers.send(f"{line} @{mark}")
                again = time.monotonic() + repeat if repeat else end
            for answer in answers.receive():
                if answer.pop("id", None) == mark:
                    return answer
            if answers.closed:
                raise LabError(f"the channel of guest {name!r} closed", "is it running?")
            self._vm.check_alive()
        raise LabTimeoutError(f"guest {name!r} does not answer {line!r}")


class _Answers:
    """One JSON object a line, from a socket with a short time limit."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._rest = b""
        self.closed = False

    def send(self, line: str) -> None:
        """Send one line."""
        try:
            self._link.sendall(line.encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def receive(self) -> Iterator[dict[str, Any]]:
        """The answers that have come, after waiting for a moment at most."""
        try:
            chunk = self._link.recv(65536)
        except TimeoutError:
            return
        except ConnectionResetError:
            chunk = b""
        self.closed = self.closed or not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict):
                    yield answer
