"""A lab guest with a virtio-mem device: what libvirt is given."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from integration.lab.guests import GuestSpec, domain_xml
from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.units import MIB


def test_plugged_memory_comes_beside_the_rest_and_can_be_moved() -> None:
    text = domain_xml(GuestSpec("g", "256M", plug="128M", vcpus=2), "/vmlinux", "/initrd")
    domain = ET.fromstring(text)
    assert (domain.findtext("maxMemory"), domain.findtext("memory")) == ("384", "256")
    cell = domain.find("cpu/numa/cell")
    assert cell is not None
    assert (cell.get("cpus"), cell.get("memory"), cell.get("unit")) == ("0-1", "256", "MiB")
    (device,) = parse_definition(text).virtio_mem
    assert (device.size_bytes, device.requested_bytes) == (128 * MIB, 128 * MIB)
    assert device.block_bytes == 2 * MIB
    assert "memhp_default_state=online_movable" in (domain.findtext("os/cmdline") or "")


def test_without_it_nothing_changes() -> None:
    text = domain_xml(GuestSpec("g"), "/vmlinux", "/initrd")
    assert not any(word in text for word in ("maxMemory", "numa", "virtio-mem", "memhp"))
