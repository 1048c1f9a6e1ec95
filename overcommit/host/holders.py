"""Finds what holds a process's memory in place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from overcommit.errors import Unreadable
from overcommit.host.kernel import Kernel
from overcommit.host.memory import parse_meminfo
from overcommit.model.blocks import Companion, Holder, HolderKind
from overcommit.units import MIB, format_size

_OPEN: Mapping[str, tuple[HolderKind, str]] = {
    r"/dev/vfio/.*": (HolderKind.DEVICE, "a VFIO device (QEMU has {} open)"),
    r"/dev/iommu": (HolderKind.DEVICE, "a device behind iommufd (QEMU has {} open)"),
    r"/dev/vhost-vdpa-\d+": (HolderKind.DEVICE, "a vDPA device (QEMU has {} open)"),
    r"anon_inode:\[vfio-device\]": (HolderKind.DEVICE, "a VFIO device (QEMU has one open)"),
    r"/dev/sev": (HolderKind.ENCRYPTION, "AMD SEV: QEMU has {} open"),
    r"anon_inode:\[kvm-gmem\]": (HolderKind.GUEST_MEMFD, "guest_memfd"),
}
_OWN_BYTES = 16 * MIB
"""Memory that QEMU may pin for itself, for example for io_uring buffers."""

# /proc/PID/comm has 15 characters at most.
_HELPERS = (
    *("swtpm", "virtiofsd", "qemu-pr-helper", "slirp-helper", "passt", "pasta", "vhost-user-gpu"),
    *(
        "vhost-user-inpu",
        "dbus-daemon",
        "nbdkit",
        "qemu-nbd",
        "qemu-storage-da",
        "qemu-rdp",
        "libvirt_iohelpe",
    ),
)


def read_open(kernel: Kernel, pid: int) -> tuple[Holder, ...]:
    """Devices that access a process's memory, and memory that only a descriptor refers to.

    Raises:
        OSError: the open files cannot be read.
    """
    found: dict[str, Holder] = {}
    for target in kernel.links(f"/proc/{pid}/fd"):
        for pattern, (kind, what) in _OPEN.items():
            if re.fullmatch(pattern, target):
                found.setdefault(what, Holder(kind=kind, what=what.format(target)))
    return tuple(found.values())


def read_pinned(kernel: Kernel, pid: int, locked_bytes: int) -> tuple[Holder, ...]:
    """Memory that is pinned beyond the ``locked_bytes`` of mappings locked by mlock.

    VFIO counts pinned memory in VmLck, vDPA and iommufd in VmPin (drivers/vfio/vfio_iommu_type1.c,
    drivers/vhost/vdpa.c, drivers/iommu/iommufd/pages.c).

    Raises:
        OSError: the process's status cannot be read.
        Unreadable: the status does not have these figures.
    """
    status = parse_meminfo(kernel.read(f"/proc/{pid}/status"))
    if "VmLck" not in status:
        raise Unreadable(f"/proc/{pid}/status has no figure for locked memory")
    pinned = {"VmLck": status["VmLck"] - locked_bytes, "VmPin": status.get("VmPin", 0)}
    return tuple(
        Holder(kind=HolderKind.PINNED, what=f"somebody ({format_size(size)} by {name} of /proc/{pid}/status)")
        for name, size in pinned.items()
        if size > _OWN_BYTES
    )


def read_companions(kernel: Kernel, pids: tuple[int, ...]) -> Iterator[Companion]:
    """The other processes in a domain's cgroup. Values that cannot be read are None."""
    for pid in pids:
        name, anonymous = None, None
        try:
            name = kernel.read(f"/proc/{pid}/comm").strip() or None
            anonymous = parse_meminfo(kernel.read(f"/proc/{pid}/smaps_rollup")).get("Anonymous")
        except (OSError, Unreadable):
            pass
        helper = name is not None and name.partition(".")[0] in _HELPERS  # passt.avx2
        yield Companion(pid=pid, name=name, helper=helper, anonymous_bytes=anonymous)
