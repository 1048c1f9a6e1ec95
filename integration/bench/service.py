"""overcommitd on a lab's host, as systemd runs it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from integration.suite.host import Host

POLICY = Path(__file__).parent / "policy.yaml"
REMOTE_POLICY = "/etc/overcommit/policy.yaml"
"""Where the unit's own /tmp and /var/tmp do not hide it."""
SETTINGS = "/etc/default/overcommitd"


def install(host: Host) -> None:
    """Put policy and options where the package's unit looks for them."""
    host.lab.put(POLICY, REMOTE_POLICY)
    host.lab.run(f"cat >{SETTINGS}", stdin="OVERCOMMITD_OPTIONS=--take-over\n")


def start(host: Host) -> float:
    """Start it, and return the seconds until it was ready."""
    began = time.monotonic()
    host.lab.run("systemctl start overcommitd", timeout=180)
    return time.monotonic() - began


def stop(host: Host) -> None:
    """Stop it; the unit has everything put back after it."""
    host.lab.run("systemctl stop overcommitd", timeout=400)


def log(host: Host) -> list[str]:
    """What it said, with the time."""
    return host.shell("journalctl -u overcommitd -o short-iso --no-pager").splitlines()


def status(host: Host) -> dict[str, Any]:
    """What overcommitctl says of it."""
    said: dict[str, Any] = json.loads(host.ctl("status", "--json").stdout)
    return said
