"""The product's wheel: built from the checkout, installed in the host VM as a Debian user would."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import paths
from integration.lab.errors import LabError

if TYPE_CHECKING:
    from integration.lab.machine import Machine

VENV = "/opt/overcommit"
#: What installs a wheel, in the lab and under Vagrant.
INSTALL = paths.CHECKOUT / "integration/lab/install.sh"


def build(target: Path) -> Path:
    """Build the checkout's wheel into a directory, in place of any that is there."""
    for old in target.glob("*.whl"):
        old.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=paths.CHECKOUT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    wheels = list(target.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [""]
        raise LabError(f"cannot build the wheel: {last[0]}", "is hatchling in this venv?")
    return wheels[0]


def install(vm: Machine, wheel: Path) -> bool:
    """Install a wheel in the host VM; tell whether that was needed.

    A host VM that has it is asked only that: nothing is copied.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if not vm.run(["test", "-e", f"{VENV}/installed-{digest[:16]}"], check=False).returncode:
        return False
    remote = f"/tmp/{wheel.name}"
    vm.copy(wheel, remote)
    vm.run(["bash", "-s", "--", remote], stdin=INSTALL.read_text(), timeout=300)
    return True


def push(vm: Machine) -> bool:
    """Build and install; tell whether the host VM's copy was out of date."""
    with tempfile.TemporaryDirectory() as scratch:
        return install(vm, build(Path(scratch)))
