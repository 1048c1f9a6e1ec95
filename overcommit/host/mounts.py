"""The type of the file system that a mapped file lies on."""

from __future__ import annotations

from typing import NamedTuple

from overcommit.host.block import parse_mounts
from overcommit.host.kernel import Kernel


class FileSystem(NamedTuple):
    """A type of file system.

    ``dax``: its files are mapped without page cache. ``noswap``: tmpfs that the kernel does not swap (since
    Linux 6.4; Documentation/filesystems/tmpfs.rst).
    """

    kind: str
    dax: bool
    noswap: bool = False


def read_file_systems(kernel: Kernel, pid: int) -> dict[str, FileSystem]:
    """The file systems that a process sees, by device number in hexadecimal, as smaps writes it.

    Raises:
        OSError: its mounts cannot be read.
    """
    found = {}
    for mount in parse_mounts(kernel.read(f"/proc/{pid}/mountinfo")):
        major, minor = (int(part) for part in mount.number.split(":"))
        options = set(mount.options.replace(" ", ",").split(","))
        found[f"{major:02x}:{minor:02x}"] = FileSystem(
            mount.filesystem, not options.isdisjoint({"dax", "dax=always"}), "noswap" in options
        )
    return found
