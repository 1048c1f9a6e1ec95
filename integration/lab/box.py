"""The lab's host VM as a Vagrant box: the same disk, which also boots by itself.

Vagrant boots what lies on the disk, so this adds what the lab does without: a boot loader. It goes where
ext4 leaves room, GRUB's first sector into the file system's unused first one and the rest behind the file
system's end; nothing of the file system changes (docs/adr/0014-vagrant-box.md).
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from integration.lab.errors import LabError
from integration.lab.hostvm import KERNEL_WORDS
from integration.lab.image.build import ssh_key

if TYPE_CHECKING:
    from integration.lab.image.build import Image

SECTOR: Final = 512
GIB: Final = 1 << 30
GRUB: Final = Path("/usr/lib/grub/i386-pc")
#: What GRUB needs to read a kernel from an ext4 file system that fills a disk.
GRUB_MODULES: Final = ("biosdisk", "ext2", "linux", "echo", "reboot", "sleep")
#: Where GRUB's first sector names the one it loads, and that one the first of all others: 64-bit numbers.
_NEXT_IN_BOOT_SECTOR: Final = 0x5C
_NEXT_IN_CORE: Final = 0x1F4

#: Vagrant reads this for every machine of the box. The image lets in whoever has the lab's key, which is
#: in the box; Vagrant would otherwise try the one that everybody has. Root, because all that is of interest
#: on such a host is root's.
_VAGRANTFILE: Final = """\
Vagrant.configure("2") do |config|
  config.ssh.username = "root"
  config.ssh.private_key_path = File.expand_path("id_ed25519", __dir__)
  config.ssh.insert_key = false
end
"""


def name_of(release: str) -> str:
    """The box's name for a kernel release such as ``6.12.118+deb13-cloud-amd64``."""
    return f"overcommit/host-{'.'.join(release.split('.')[:2])}"


def make(image: Image, kernel: str | None, directory: Path) -> Path:
    """Write the box of a kernel (the newest by default) to a directory; return its path.

    Raises:
        LabError: there is no such kernel in the image, or no GRUB on this machine.
    """
    release = image.release(kernel)
    directory.mkdir(parents=True, exist_ok=True)
    box = directory / f"{name_of(release).replace('/', '-')}.box"
    with tempfile.TemporaryDirectory(dir=directory, prefix=".box-") as scratch_name:
        scratch = Path(scratch_name)
        size = _write_disk(image.disk, release, scratch)
        (scratch / "metadata.json").write_text(json.dumps(metadata(size)) + "\n")
        (scratch / "Vagrantfile").write_text(_VAGRANTFILE)
        shutil.copy(ssh_key(), scratch / "id_ed25519")
        draft = scratch / "box"
        # libvirt's copy of a box is known by the time of its disk: a new one only where something changed
        changed = int(max(image.disk.stat().st_mtime, Path(__file__).stat().st_mtime))
        with tarfile.open(draft, "w") as archive:
            for each in ("metadata.json", "Vagrantfile", "id_ed25519", "box.img"):
                archive.add(scratch / each, each, filter=lambda member: _neutral(member, changed))
        draft.chmod(0o600)  # the key in it opens all host VMs of this user
        draft.replace(box)
    return box


def metadata(disk_bytes: int) -> dict[str, Any]:
    """What Vagrant must know of a disk of whole GiB."""
    return {"provider": "libvirt", "format": "qcow2", "virtual_size": disk_bytes // GIB}


def grub_configuration(release: str) -> str:
    """What GRUB does: no menu, one kernel."""
    words = " ".join((*KERNEL_WORDS, "lab.net=dhcp"))
    return (
        "set root=(hd0)\n"
        f"linux /boot/vmlinuz-{release} {words}\n"
        f"initrd /boot/initrd.img-{release}\n"
        "boot\n"
        "echo the kernel could not be started\n"
        "sleep 5\n"
        "reboot\n"
    )


def placed(boot: bytes, core: bytes, sector: int) -> tuple[bytes, bytes]:
    """GRUB's boot sector and core, changed so that the core lies from a sector of the disk on.

    Raises:
        LabError: this is not GRUB as it is known here.
    """
    if len(boot) != SECTOR or _next(boot, _NEXT_IN_BOOT_SECTOR) != 1:
        raise LabError("GRUB's boot.img is not laid out as expected")
    if len(core) < 2 * SECTOR or _next(core, _NEXT_IN_CORE) != 2:
        raise LabError("GRUB's core image is not laid out as expected")
    padded = core.ljust(-(-len(core) // SECTOR) * SECTOR, b"\0")
    return _with_next(boot, _NEXT_IN_BOOT_SECTOR, sector), _with_next(padded, _NEXT_IN_CORE, sector + 1)


def _next(image: bytes, offset: int) -> int:
    number: int = struct.unpack_from("<Q", image, offset)[0]
    return number


def _with_next(image: bytes, offset: int, sector: int) -> bytes:
    return image[:offset] + struct.pack("<Q", sector) + image[offset + 8 :]


def _write_disk(disk: Path, release: str, scratch: Path) -> int:
    """Write ``box.img``; return its virtual size in bytes."""
    facts = json.loads(_run("qemu-img", "info", "--output=json", disk))
    end: int = facts["virtual-size"]
    size = (end // GIB + 1) * GIB
    boot, core = placed((GRUB / "boot.img").read_bytes(), _core(release, scratch), end // SECTOR)
    (scratch / "boot").write_bytes(boot)
    (scratch / "core").write_bytes(core)
    overlay = scratch / "overlay.qcow2"
    _run("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay, str(size))
    _run(
        "qemu-io", "-f", "qcow2", "-c", f"write -q -s {scratch / 'boot'} 0 {len(boot)}",
        "-c", f"write -q -s {scratch / 'core'} {end} {len(core)}", overlay,
    )  # fmt: skip
    _run("qemu-img", "convert", "-O", "qcow2", overlay, scratch / "box.img")
    return size


def _core(release: str, scratch: Path) -> bytes:
    if not (GRUB / "boot.img").exists() or not shutil.which("grub-mkimage"):
        raise LabError("GRUB for i386-pc is missing", "run vagrant/setup.sh")
    (scratch / "grub.cfg").write_text(grub_configuration(release))
    _run(
        "grub-mkimage", "-O", "i386-pc", "-p", "(hd0)/boot/grub", "-c", scratch / "grub.cfg",
        "-o", scratch / "core.img", *GRUB_MODULES,
    )  # fmt: skip
    return (scratch / "core.img").read_bytes()


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise LabError(f"{command[0]} failed: {last[0]}")
    return done.stdout


def _neutral(member: tarfile.TarInfo, changed: int) -> tarfile.TarInfo:
    """Leave out who built it and when."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = changed
    return member
