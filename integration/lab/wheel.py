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


def build(target: Path) -> Path:
    """Build the checkout's wheel into a directory."""
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

    The venv with Debian's own packages in sight is part of the image: making one takes an emulated
    processor half a minute, and it is the same each time.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    mark = f"{VENV}/installed-{digest[:16]}"
    if not vm.run(["test", "-e", mark], check=False).returncode:
        return False
    remote = f"/tmp/{wheel.name}"
    vm.copy(wheel, remote)
    vm.run(
        f"{VENV}/bin/python -m pip install -q --no-deps --no-index --force-reinstall --no-compile "
        f"--no-cache-dir --disable-pip-version-check --no-input --root-user-action=ignore {remote}"
        f" && ln -sf {VENV}/bin/overcommitd /usr/local/bin/"
        f" && rm -f {VENV}/installed-* && touch {mark}",
        timeout=300,
    )
    return True


def push(vm: Machine) -> bool:
    """Build and install; tell whether the host VM's copy was out of date."""
    with tempfile.TemporaryDirectory() as scratch:
        return install(vm, build(Path(scratch)))
