"""Block devices under swap: their counters, the devices that they consist of, and encryption."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from overcommit.errors import HostError, Unreadable
from overcommit.host.figures import numbers
from overcommit.host.kernel import Kernel
from overcommit.model.swap import BlockDevice

DEVICES = "/sys/class/block"
_BY_NUMBER = "/sys/dev/block"
_MOUNTS = "/proc/self/mountinfo"
_SECTOR = 512
_STATISTICS = 8
"""Requests, merged, sectors and milliseconds, of reads and of writes (Documentation/block/stat.rst)."""
_DEEPEST = 16
"""A bound on devices stacked on devices. No host stacks that many."""

_DISK = re.compile(
    r"(sd|hd|vd|xvd|dasd)[a-z]+[0-9]*|nvme[0-9]+(c[0-9]+)?n[0-9]+(p[0-9]+)?"
    r"|mmcblk[0-9]+(p[0-9]+)?|pmem[0-9]+.*"
)
"""Disks and their partitions. sysfs does not show what is below other devices (a zvol, loop, nbd, rbd)."""
_LVM = "LVM-"
_NO_CIPHER = ("CRYPT-INTEGRITY-", "CRYPT-VERITY-")
"""UUID prefixes of cryptsetup that protect from changes, not from reading."""
_LOCAL_TRANSPORTS = frozenset({"pcie", "apple-nvme", "loop"})


class Mount(NamedTuple):
    """A mounted file system: device number, type, source, mount point, options."""

    number: str
    filesystem: str
    source: str
    point: str
    options: str


class PhysicalDevices(NamedTuple):
    """The lowest devices below a device, by the kernel's names.

    ``encrypted`` None: not known. ``remote``: some are reached over a network.
    """

    encrypted: bool | None
    devices: tuple[str, ...]
    remote: bool


def unescaped(name: str) -> str:
    """The name without the octal escapes that the kernel writes for white space in ``/proc`` (seq_path)."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda escape: chr(int(escape[1], 8)), name)


def parse_mounts(text: str) -> Iterator[Mount]:
    """The mounts of a mountinfo (proc_pid_mountinfo(5)). Malformed lines are left out."""
    for line in text.split("\n"):
        placed, dash, mounted = line.partition(" - ")
        fields, of = placed.split(" "), mounted.split(" ")
        if dash and len(fields) >= 5 and len(of) >= 2 and re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", fields[2]):
            yield Mount(fields[2], of[0], unescaped(of[1]), unescaped(fields[4]), " ".join(of[2:]))


def read_mount(kernel: Kernel, path: str) -> Mount:
    """The mount that holds a file. Where mounts cover each other, it is the last.

    Raises:
        OSError: the mounts cannot be read.
        HostError: no mount holds the file.
    """
    found, longest = None, -1
    for mount in parse_mounts(kernel.read(_MOUNTS)):
        point = mount.point
        if f"{path}/".startswith(f"{point.rstrip('/')}/") and len(point) >= longest:
            found, longest = mount, len(point)
    if found is None:
        raise HostError(f"no mount holds {path}")
    return found


def directory_of_mount(kernel: Kernel, mount: Mount) -> str:
    """The sysfs directory of the block device under a file system.

    Raises:
        HostError: it has no block device that can be found.
    """
    directory = f"{_BY_NUMBER}/{mount.number}"
    if not mount.number.startswith("0:"):
        if not kernel.exists(directory):
            raise HostError(f"no {directory}")
        return directory
    # Btrfs has numbers of its own, and says what it was mounted from.
    name = mount.source.removeprefix("/dev/").removeprefix("mapper/")
    if mount.source.startswith("/dev/"):
        if kernel.exists(f"{DEVICES}/{name}"):
            return f"{DEVICES}/{name}"
        for device in kernel.list(DEVICES) if kernel.exists(DEVICES) else ():
            mapped = f"{DEVICES}/{device}/dm/name"
            if device.startswith("dm-") and kernel.exists(mapped) and kernel.read(mapped).strip() == name:
                return f"{DEVICES}/{device}"
    raise HostError(f"it is on {mount.filesystem}, which has no block device on this host")


def read_name(kernel: Kernel, directory: str) -> str:
    """The kernel's name of a device. A device that was found by number has it in its uevent.

    Raises:
        OSError: the uevent cannot be read.
        Unreadable: the uevent has no name.
    """
    if not directory.startswith(_BY_NUMBER):
        return directory.rpartition("/")[2]
    match = re.search(r"^DEVNAME=(\S+)$", kernel.read(f"{directory}/uevent"), re.MULTILINE)
    if match is None:
        raise Unreadable(f"no DEVNAME in {directory}/uevent")
    return match[1]


def read_device(kernel: Kernel, directory: str) -> BlockDevice:
    """A block device with its counters.

    Raises:
        OSError: it cannot be read.
        Unreadable: its counters are malformed.
    """
    fields = numbers(kernel.read(f"{directory}/stat"), f"{directory}/stat", at_least=_STATISTICS)
    reads, _, sectors_read, read_ms, writes, _, sectors_written, write_ms, *_ = fields
    queue = f"{directory}/queue"
    if not kernel.exists(f"{queue}/rotational"):
        queue = f"{directory}/../queue"  # a partition is below its disk
    return BlockDevice(
        name=read_name(kernel, directory),
        rotational=kernel.read(f"{queue}/rotational").strip() == "1",
        reads=reads,
        read_bytes=sectors_read * _SECTOR,
        read_seconds=read_ms / 1000,
        writes=writes,
        written_bytes=sectors_written * _SECTOR,
        write_seconds=write_ms / 1000,
    )


def read_physical_devices(kernel: Kernel, directory: str, depth: int = 0) -> PhysicalDevices:
    """The lowest devices below a device, through dm (LVM, dm-crypt, multipath), md and bcache.

    The device is encrypted if dm-crypt lies above each disk (cryptsetup's UUIDs begin with CRYPT-). It is not
    encrypted if a disk of this host lies below without dm-crypt. Other cases, and LVM over several disks, are
    not known.

    Raises:
        OSError: it cannot be read.
    """
    path = f"{directory}/dm/uuid"
    uuid = kernel.read(path) if kernel.exists(path) else ""
    ciphered = uuid.startswith("CRYPT-") and not uuid.startswith(_NO_CIPHER)
    below = f"{directory}/slaves"
    parts = kernel.list(below) if kernel.exists(below) and depth < _DEEPEST else ()
    if not parts:
        name, remote = _name_or_number(kernel, directory), _is_remote(kernel, directory)
        bare = False if _DISK.fullmatch(name) and not remote else None
        return PhysicalDevices(True if ciphered else bare, (name,), remote)
    found = [read_physical_devices(kernel, f"{DEVICES}/{part}", depth + 1) for part in parts]
    kinds = {each.encrypted for each in found}
    encrypted = False if False in kinds else None if None in kinds else True
    if ciphered:
        encrypted = True
    elif uuid.startswith(_LVM) and kinds == {False}:
        encrypted = None
    devices = tuple(dict.fromkeys(device for each in found for device in each.devices))
    return PhysicalDevices(encrypted, devices, any(each.remote for each in found))


def _name_or_number(kernel: Kernel, directory: str) -> str:
    try:
        return read_name(kernel, directory)
    except (OSError, Unreadable):
        return directory.rpartition("/")[2]


def _is_remote(kernel: Kernel, directory: str) -> bool:
    """Whether a disk is reached over a network: iSCSI, NVMe over fabrics."""
    for disk in (directory, f"{directory}/.."):  # a partition is below its disk
        if kernel.exists(f"{disk}/device/../../iscsi_session"):
            return True
        controllers = [f"{disk}/device"]
        if kernel.exists(f"{disk}/device"):
            # With native multipath it is a subsystem, which has the controllers.
            names = kernel.list(f"{disk}/device")
            controllers += [f"{disk}/device/{name}" for name in names if re.fullmatch(r"nvme[0-9]+", name)]
        for controller in controllers:
            path = f"{controller}/transport"
            if kernel.exists(path) and kernel.read(path).strip() not in _LOCAL_TRANSPORTS:
                return True
    return False
