"""What a Vagrant box of the host VM is made of: its description, and where its boot loader lies."""

import json
import struct
import tarfile
from pathlib import Path

import pytest

from integration.lab import box
from integration.lab.errors import LabError
from integration.lab.image.build import Image

BOOT = bytes(0x5C) + struct.pack("<Q", 1) + bytes(512 - 0x5C - 8)
CORE = bytes(0x1F4) + struct.pack("<QHH", 2, 1, 0x820) + b"the rest of GRUB"
RELEASE = "7.3.4+deb13-cloud-amd64"


def test_metadata_is_what_vagrant_libvirt_takes() -> None:
    assert box.metadata(9 << 30) == {"provider": "libvirt", "format": "qcow2", "virtual_size": 9}


def test_name_has_the_kernel_without_its_patch_level() -> None:
    assert box.name_of("6.12.118+deb13-cloud-amd64") == "overcommit/host-6.12"


def test_boot_loader_is_told_where_it_lies_and_nothing_else_changes() -> None:
    boot, core = box.placed(BOOT, CORE + bytes(512), 1000)
    assert struct.unpack_from("<Q", boot, 0x5C)[0] == 1000
    assert struct.unpack_from("<QHH", core, 0x1F4) == (1001, 1, 0x820)
    assert boot[:0x5C] + boot[0x64:] == BOOT[:0x5C] + BOOT[0x64:]
    assert core[:0x1F4] == CORE[:0x1F4]
    assert core[0x1FC:].rstrip(b"\0") == CORE[0x1FC:]
    assert len(core) == 3 * 512  # whole sectors, which is how it is loaded


@pytest.mark.parametrize(
    ("boot", "core"), [(bytes(512), CORE + bytes(512)), (BOOT, bytes(1024)), (BOOT[:-1], CORE + bytes(512))]
)
def test_a_boot_loader_of_another_layout_is_refused(boot: bytes, core: bytes) -> None:
    with pytest.raises(LabError, match="not laid out as expected"):
        box.placed(boot, core, 1000)


def test_one_kernel_is_booted_with_the_labs_own_words_and_an_address_by_dhcp() -> None:
    lines = box.grub_configuration(RELEASE).splitlines()
    kernel = next(line for line in lines if line.startswith("linux "))
    assert kernel.startswith(f"linux /boot/vmlinuz-{RELEASE} root=/dev/vda ")
    assert {"psi=1", "lab.net=dhcp"} <= set(kernel.split())
    assert f"initrd /boot/initrd.img-{RELEASE}" in lines


def test_box_has_what_vagrant_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o600)
    (tmp_path / "image/kernels" / RELEASE).mkdir(parents=True)
    monkeypatch.setattr(box, "ssh_key", lambda: key)
    monkeypatch.setattr(box, "_core", lambda *_: CORE + bytes(512))
    monkeypatch.setattr(box, "GRUB", tmp_path)
    (tmp_path / "boot.img").write_bytes(BOOT)
    image = Image(tmp_path / "image")
    image.disk.touch()
    commands = []

    def run(*command: object) -> str:
        commands.append(command)
        if command[1] == "convert":
            Path(str(command[-1])).write_text("disk")
        return json.dumps({"virtual-size": 8 << 30})

    monkeypatch.setattr(box, "_run", run)
    path = box.make(image, "7.3", tmp_path / "out")

    assert path == tmp_path / "out/overcommit-host-7.3.box"
    assert list(path.parent.iterdir()) == [path]
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive}
        described = archive.extractfile("metadata.json")
        assert described
        assert json.load(described) == {"provider": "libvirt", "format": "qcow2", "virtual_size": 9}
    assert members.keys() == {"metadata.json", "Vagrantfile", "id_ed25519", "box.img"}
    assert members["id_ed25519"].mode == 0o600
    newest = max(image.disk.stat().st_mtime, Path(box.__file__).stat().st_mtime)
    assert members["box.img"].mtime == int(newest), "the same box again is the same to libvirt"
    # behind the file system's end
    assert any(f" {8 << 30} 1536" in str(word) for command in commands for word in command)


def test_box_of_a_kernel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernels" / RELEASE).mkdir(parents=True)
    with pytest.raises(LabError, match=r"no kernel '6\.1'"):
        box.make(Image(tmp_path), "6.1", tmp_path)


@pytest.mark.skipif(not (box.GRUB / "boot.img").exists(), reason="no GRUB for i386-pc on this machine")
def test_grub_of_this_machine_is_laid_out_as_expected(tmp_path: Path) -> None:
    boot, core = box.placed((box.GRUB / "boot.img").read_bytes(), box._core(RELEASE, tmp_path), 1 << 24)
    assert struct.unpack_from("<Q", boot, 0x5C)[0] == 1 << 24
    assert len(core) < 1 << 20  # the gibibyte behind the file system has room for it, and the BIOS's memory
    assert struct.unpack_from("<H", core, 0x1FC)[0] == len(core) // 512 - 1
