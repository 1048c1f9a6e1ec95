"""Take a Debian kernel apart: the uncompressed image, and modules in the order they load in.

QEMU boots an uncompressed kernel directly.  That skips the firmware and, which matters more, the
decompression of the kernel by an emulated processor.
"""

from __future__ import annotations

import lzma
import re
import struct
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SETUP_SECTORS = 0x1F1  # offsets in the x86 boot protocol's header
_PAYLOAD = 0x248


def extract_vmlinux(bzimage: bytes) -> bytes:
    """Return the ELF image that a bzImage carries."""
    setup_size = ((bzimage[_SETUP_SECTORS] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", bzimage, _PAYLOAD)
    payload = bzimage[setup_size + offset : setup_size + offset + length]
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        # the last four bytes are the size, which is the boot code's own addition
        image = subprocess.run(["zstd", "-dcq"], input=payload[:-4], capture_output=True, check=True).stdout
    elif payload.startswith(b"\xfd7zXZ\0"):
        image = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        image = zlib.decompressobj(31).decompress(payload)
    else:
        raise LabError(f"kernel payload of unknown compression: {payload[:6].hex()}")
    if not image.startswith(b"\x7fELF"):
        raise LabError("the kernel's payload is not an ELF image")
    return image


def in_order(releases: Iterable[str]) -> list[str]:
    """Kernel releases, oldest first."""
    return sorted(releases, key=lambda release: [int(n) for n in re.findall(r"\d+", release)])


def releases(root: Path) -> list[str]:
    """The kernel releases installed in a root, oldest first."""
    modules = root / "usr/lib/modules"
    return in_order(path.name for path in modules.iterdir() if path.is_dir())


def copy_modules(root: Path, release: str, wanted: list[str], target: Path) -> list[str]:
    """Copy modules and what they need, uncompressed; return their names in load order.

    A name that has no module file is built into this kernel (or unknown to it) and is left out:
    which drivers are modules differs between kernels.
    """
    base = root / "usr/lib/modules" / release
    needs: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in (base / "modules.dep").read_text().splitlines():
        path, _, dependencies = line.partition(":")
        needs[path] = dependencies.split()
        path_of[_module_name(path)] = path
    order: list[str] = []

    def add(path: str) -> None:
        name = _module_name(path)
        if name in order:
            return
        for dependency in reversed(needs[path]):
            add(dependency)
        (target / f"{name}.ko").write_bytes(_decompressed(base / path))
        order.append(name)

    target.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if name in path_of:
            add(path_of[name])
    (target / "order").write_text("".join(f"{name}\n" for name in order))
    return order


def _module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def _decompressed(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(raw)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq"], input=raw, capture_output=True, check=True).stdout
    return raw


def write_initramfs(tree: Path, target: Path) -> None:
    """Pack a directory as an initramfs, owned by root.

    It is left uncompressed: an emulated processor unpacks slower than QEMU reads a larger file.
    """
    names = "".join(f"{path.relative_to(tree)}\0" for path in sorted(tree.rglob("*")))
    with target.open("wb") as archive:
        subprocess.run(
            ["cpio", "-o", "-0", "-H", "newc", "-R", "0:0", "--quiet"],
            input=names.encode(), stdout=archive, cwd=tree, check=True,
        )  # fmt: skip
