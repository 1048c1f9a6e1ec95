"""Vagrant takes the Vagrantfile, with and without KVM, in a session and on the system's libvirt."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VAGRANT = Path(__file__).parents[3] / "vagrant"
EMULATED = {"name": "tcg,thread=single", "cpu": "max,-la57", "reason": "", "emulated": True}
KVM = {"name": "kvm", "cpu": "host", "reason": "", "emulated": False}

needs_vagrant = pytest.mark.skipif(not shutil.which("vagrant"), reason="no Vagrant here: vagrant/setup.sh")
#: Vagrant takes three seconds to start; on a machine that is full, twenty times as long.
slow_to_start = pytest.mark.timeout(240)


def vagrant(scratch: Path, accel: dict[str, object], uri: str, *words: str) -> str:
    lab = scratch / "python"
    lab.write_text(f"#!/bin/sh\n[ \"$3\" = accel ] && echo '{json.dumps(accel)}'\n")
    lab.chmod(0o755)
    environment = {
        **os.environ, "PYTHON": str(lab), "LIBVIRT_DEFAULT_URI": uri, "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_HOME": str(scratch / "home"), "VAGRANT_DOTFILE_PATH": str(scratch / "dot"),
    }  # fmt: skip
    done = subprocess.run(
        ["vagrant", *words], cwd=VAGRANT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_vagrant
@slow_to_start
@pytest.mark.parametrize("accel", [EMULATED, KVM], ids=["emulated", "kvm"])
@pytest.mark.parametrize("uri", ["qemu:///session", "qemu:///system"])
def test_every_machine_validates(tmp_path: Path, accel: dict[str, object], uri: str) -> None:
    said = vagrant(tmp_path, accel, uri, "validate")
    assert "validated successfully" in said
    assert said.count("\n") <= 1, "nothing that it warns of"


@needs_vagrant
@slow_to_start
def test_machines_are_the_kernels_and_a_pair(tmp_path: Path) -> None:
    said = vagrant(tmp_path, EMULATED, "qemu:///session", "status", "--machine-readable")
    rows = [line.split(",") for line in said.splitlines()]
    states = {row[1]: row[3] for row in rows if row[2] == "state"}
    assert states == dict.fromkeys(("host-7-3", "host-6-12", "host1", "host2"), "not_created")


def test_the_lab_answers_what_the_vagrantfile_asks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "integration.lab", "accel"]
    environment = {**os.environ, "OVERCOMMIT_LAB_CACHE": str(tmp_path)}  # no image to boot
    done = subprocess.run(
        command, cwd=VAGRANT.parent, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) | {"reason": ""} == EMULATED


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-accel", "tcg", "-cpu", "max"], ["-accel", "tcg,thread=single", "-cpu", "max"]),
        (["-accel", "kvm", "-name", "tcg"], ["-accel", "kvm", "-name", "tcg"]),
        (["-machine", "accel=kvm:tcg", "-name", "a b"], ["-machine", "accel=kvm:tcg", "-name", "a b"]),
        (["-name", "-accel"], ["-name", "-accel"]),
    ],
)
def test_emulator_takes_one_thread(tmp_path: Path, given: list[str], expected: list[str]) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text("#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    qemu.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [str(VAGRANT / "emulator.sh"), *given]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected
