"""Blocks of virtio-mem on a real guest: taken, gone from the host, and plugged back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick("6.12")

PLUGGED = 256 * MIB
POLICY = """\
version: 1
classes: {lab: {floor: 20%, cold_after: 10s, actuators: [virtio_mem]}}
default_class: lab
"""
USE = ("--take-over", "--policy", "/var/tmp/virtio-mem.yaml")


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[str]:
    """One that has used nearly all of its memory, and needs none of that any more."""
    settings = {"total": "200M", "after": "1"}
    spec = GuestSpec("plugged", "256M", "freed", settings, free_page_reporting=False, plug="256M")
    host.lab.run("cat > /var/tmp/virtio-mem.yaml", stdin=POLICY)
    host.lab.guest_add(spec)
    host.await_workload("plugged", "freed")
    yield "plugged"
    host.lab.guest_remove("plugged")


def device_bytes(host: Host, domain: str) -> tuple[int, int]:
    """What is requested of the guest's device, and what the guest has of it, from libvirt."""
    target = ET.fromstring(host.shell(f"virsh dumpxml {domain}")).find("./devices/memory/target")
    assert target is not None
    return int(target.findtext("requested", "")) * 1024, int(target.findtext("current", "")) * 1024


def ram_bytes(host: Host, domain: str) -> int:
    """What the host holds of both blocks of RAM, which are the largest mappings of QEMU."""
    sizes = "/^Size:/ { size = $2 } /^Rss:/ && size >= 262144 { rss += $2 } END { print rss }"
    return int(host.shell(f"awk '{sizes}' /proc/{host.pid(domain)}/smaps")) * 1024


def test_blocks_go_and_come_back(host: Host, guest: str) -> None:
    """By the host's own counters; the guest answers all the while."""
    saved = ("--domain", guest, "--observe-for", "4s", "-o", "/var/tmp/blocks.plan")
    planned = host.ctl("plan", "-q", "--json", *saved, *USE)
    assert planned.returncode == 0, planned.stderr
    (action,) = json.loads(planned.stdout)["actions"]
    assert (action["kind"], action["before_bytes"]) == ("virtio_mem", PLUGGED)
    taken = PLUGGED - action["after_bytes"]
    assert taken % (2 * MIB) == 0
    assert 0 < action["expected_bytes"] <= taken

    held = ram_bytes(host, guest)
    applied = host.ctl("apply", "-q", "--json", *USE, "/var/tmp/blocks.plan")
    (done,) = (line for line in json_lines(applied.stdout) if line["type"] == "done")
    requested, current = device_bytes(host, guest)
    assert requested == current, "no target is left that the guest has not reached"
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert current == action["after_bytes"]
    gone = held - ram_bytes(host, guest)
    assert gone >= 0.9 * action["expected_bytes"]
    assert abs(done["freed_bytes"] - gone) <= 8 * MIB, "what it reports is what the host got"
    assert host.lab.guest_send(guest, "stat")["errors"] == 0

    restored = host.ctl("restore")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert device_bytes(host, guest) == (PLUGGED, PLUGGED)
