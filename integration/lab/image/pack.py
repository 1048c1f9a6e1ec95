"""Turn the tar of a Debian root into what the lab boots.

Runs as a process of its own: files of many owners are unpacked here, so it needs to be root, if
only in a user namespace (see ``build.py``).  Nothing is mounted and no loop device is used.

    python3 -m integration.lab.image.pack ROOT.tar TARGET
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from integration.lab.image import kernel, packages

FILES = Path(__file__).parent / "files"
DISK_SIZE_MIB = 8192
LOADER = "/lib64/ld-linux-x86-64.so.2"

#: Where the guests' kernels lie inside the host VM.
KERNELS_IN_HOST = Path("/var/lib/lab/kernels")


def pack(tar: Path, target: Path) -> None:
    """Write kernels, initrds, the guests' parts and the disk to ``target``."""
    with tempfile.TemporaryDirectory(dir=target, prefix="unpack-") as scratch_name:
        scratch = Path(scratch_name)
        root = scratch / "root"
        root.mkdir()
        # device nodes cannot be made in a user namespace, and the kernel provides them anyway
        subprocess.run(["tar", "xf", tar, "-C", root, "--numeric-owner", "--exclude=./dev/*"], check=True)
        for release in kernel.releases(root):
            _pack_kernel(root, release, target / "kernels" / release, scratch)
        _pack_guest_parts(root, target / "guest-parts")
        _pack_probe(root, target, scratch)
        _pack_disk(root, target, scratch)


def _pack_kernel(root: Path, release: str, target: Path, scratch: Path) -> None:
    target.mkdir(parents=True)
    image = kernel.extract_vmlinux((root / f"boot/vmlinuz-{release}").read_bytes())
    (target / "vmlinux").write_bytes(image)
    in_host = root / KERNELS_IN_HOST.relative_to("/") / release
    in_host.mkdir(parents=True)
    shutil.copy(target / "vmlinux", in_host / "vmlinux")

    tree = scratch / f"initrd-{release}"
    for directory in ("bin", "proc", "sys", "dev", "mnt", "mod"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", tree / "bin/busybox")
    shutil.copy(FILES / "host-init", tree / "init")
    shutil.copy(FILES / "udhcpc", tree / "udhcpc")
    kernel.copy_modules(root, release, list(packages.HOST_MODULES), tree / "mod")
    kernel.write_initramfs(tree, target / "initrd")
    # beside Debian's kernel, so that a boot loader finds both on the disk (integration/lab/box.py)
    shutil.copy(target / "initrd", root / f"boot/initrd.img-{release}")


def _pack_guest_parts(root: Path, target: Path) -> None:
    """Keep what guests are made of, so that a new workload does not need a new root."""
    (target / "tree/bin").mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", target / "tree/bin/busybox")
    for program in packages.GUEST_EXTRAS:
        _copy_with_libraries(root, program, target / "extras")
    for release in kernel.releases(root):
        kernel.copy_modules(root, release, list(packages.GUEST_MODULES), target / "modules" / release)


def _copy_with_libraries(root: Path, binary: str, tree: Path) -> None:
    listing = subprocess.run(
        ["chroot", root, LOADER, "--list", f"/{binary}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    # lines such as "libevent-2.1.so.7 => /lib/x86_64-linux-gnu/libevent-2.1.so.7 (0x...)"
    words = [word for line in listing.splitlines() for word in line.split()]
    for path in (f"/{binary}", LOADER, *(word for word in words if word.startswith("/"))):
        copy = tree / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path.lstrip("/"), copy)


def _pack_probe(root: Path, target: Path, scratch: Path) -> None:
    tree = scratch / "probe"
    for directory in ("bin", "proc", "dev"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", tree / "bin/busybox")
    shutil.copy(FILES / "probe-init", tree / "init")
    kernel.write_initramfs(tree, target / "probe.initrd")


def _pack_disk(root: Path, target: Path, scratch: Path) -> None:
    raw = scratch / "disk.raw"
    # No journal: the disk is a throw-away overlay.  Lazy initialisation keeps the image small.
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-L", "labhost", "-m", "0",
         "-O", "^metadata_csum_seed,^orphan_file,^has_journal",
         "-E", "lazy_itable_init=1,nodiscard", "-d", root, raw, f"{DISK_SIZE_MIB}M"],
        check=True,
    )  # fmt: skip
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, target / "disk.qcow2"], check=True)


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
