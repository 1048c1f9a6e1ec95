"""Where the lab keeps its images and the state of what runs."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from integration.lab.errors import LabError

CHECKOUT = Path(__file__).resolve().parents[2]


def cache() -> Path:
    """The lab's directory outside of the checkout."""
    if chosen := os.environ.get("OVERCOMMIT_LAB_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "overcommit-lab"


def run_dir(name: str) -> Path:
    """Disk, console and state of one lab."""
    return cache() / "run" / name


def socket_dir(name: str) -> Path:
    """A short private directory for one lab's sockets.

    The path of a unix socket is limited to 107 bytes, which a cache below a deep home exceeds.
    """
    digest = hashlib.sha256(str(run_dir(name)).encode()).hexdigest()[:10]
    directory = Path("/tmp") / f"ocl-{os.getuid()}-{digest}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise LabError(f"{directory} belongs to somebody else", "remove it")
    return directory
