"""Parses the memory part of a live domain XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

from overcommit.errors import Unreadable
from overcommit.hypervisor.memory_xml import (
    VIRTIO_MEM,
    alias_of,
    arguments_of,
    bytes_of,
    encrypted_by,
    number_of,
    parts_of,
    passed_through,
    size_of,
    virtio_mem,
)
from overcommit.model.blocks import storage_bytes
from overcommit.model.facts import Definition
from overcommit.model.nodes import NodeBinding
from overcommit.units import KIB, parse_nodes

LABELS_NAMESPACE = "urn:overcommit:domain:1"
"""Namespace of ``<overcommit:labels tier="batch"/>`` in a domain's ``<metadata>``."""
CLAIM_NAMESPACE = "urn:overcommit:claim:1"
"""Namespace of this program's ``<overcommit:claim>`` there."""

# Devices that pin guest RAM or forbid discarding it. QEMU then ignores the balloon silently
# (virtio_balloon_inhibited, hw/virtio/virtio-balloon.c) and pages cannot be reclaimed.
_PASSTHROUGH = {
    "a VFIO PCI device": "./devices/hostdev[@type='pci']",
    "a VFIO mediated device": "./devices/hostdev[@type='mdev']",
    "a passed-through network function": "./devices/interface[@type='hostdev']",
    "a network resolved to passthrough": "./devices/interface/actual[@type='hostdev']",
    "a vDPA network device": "./devices/interface[@type='vdpa']",
    "a vDPA disk": "./devices/disk[@type='vhostvdpa']",
    "an NVMe passthrough disk": "./devices/disk[@type='nvme']",
}

_LIBOSINFO = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
_MANAGERS = {"http://ovirt.org/vm/1.0": "oVirt", "http://ovirt.org/vm/tune/1.0": "oVirt"}
_AGENT = "./devices/channel/target[@type='virtio'][@name='org.qemu.guest_agent.0']"


def parse_definition(xml: str) -> Definition:
    """The facts that affect reclaim, from ``virsh dumpxml`` of a live domain.

    The XML comes from libvirtd, which serialises it itself. Tenants cannot put entities into it.

    Raises:
        Unreadable: it is not a domain definition, or has a size or a device that is not known.
    """
    root = _root(xml)
    memory = root.find("./memory")
    if root.tag != "domain" or memory is None:
        raise Unreadable("not a domain definition")
    balloon = root.find("./devices/memballoon")
    device = balloon.attrib if balloon is not None else {"model": "none"}
    statistics = root.find("./devices/memballoon/stats")
    security = root.find("./launchSecurity")
    labels = root.find(f"./metadata/{{{LABELS_NAMESPACE}}}labels")
    system = root.find(f"./metadata/{{{_LIBOSINFO}}}libosinfo/{{{_LIBOSINFO}}}os")
    agent = root.find(_AGENT)
    parts = parts_of(root)
    devices = [what for what, path in _PASSTHROUGH.items() if root.find(path) is not None]
    return Definition(
        maximum_bytes=size_of(memory) - storage_bytes(parts),
        balloon_model=device.get("model", "none"),
        free_page_reporting=device.get("freePageReporting") == "on",
        autodeflate=device.get("autodeflate") == "on",
        stats_period_seconds=number_of(statistics.get("period", "0")) if statistics is not None else 0,
        locked=root.find("./memoryBacking/locked") is not None,
        hugepages=root.find("./memoryBacking/hugepages") is not None,
        launch_security=security.get("type") if security is not None else encrypted_by(arguments_of(root)),
        bindings=tuple(binding for binding in _bindings(root) if binding.nodes),
        bound=_bound(root),
        passthrough=tuple(dict.fromkeys((*devices, *passed_through(arguments_of(root))))),
        parts=parts,
        labels=dict(labels.attrib) if labels is not None else {},
        claim=_claim(root.find(f"./metadata/{{{CLAIM_NAMESPACE}}}claim")),
        virtio_mem=tuple(virtio_mem(device) for device in root.findall(VIRTIO_MEM)),
        os=system.get("id") if system is not None else None,
        manager=next(filter(None, map(_manager, root.findall("./metadata/*"))), None),
        agent_connected=agent.get("state") == "connected" if agent is not None else None,
    )


_BINDING = {"strict", "restrictive"}
"""Modes without fallback to another node; ``strict`` is libvirt's default."""


def _bindings(root: ET.Element) -> Iterator[NodeBinding]:
    """The bindings of memory cells and memory devices with nodes of their own, and of the rest."""
    rest = root.find("./numatune/memory")
    mode = rest.get("mode", "strict") if rest is not None else "strict"
    cells = {cell.get("id"): cell for cell in root.findall("./cpu/numa/cell")}
    for node in root.findall("./numatune/memnode"):
        cell = cells.get(node.get("cellid"))
        if node.get("mode", "strict") in _BINDING and cell is not None:
            size = bytes_of(cell, cell.get("memory", "0"))
            yield NodeBinding(nodes=_nodes(node.get("nodeset", "")), size_bytes=size)
    for device in root.findall("./devices/memory"):
        mask = device.find("./source/nodemask")
        if device.get("model") in {"dimm", "virtio-mem"} and mask is not None and mode in _BINDING:
            size = size_of(device.find("./target/size"))
            yield NodeBinding(nodes=_nodes(mask.text or ""), size_bytes=size)
    if rest is not None and mode in _BINDING and rest.get("nodeset"):
        yield NodeBinding(nodes=_nodes(rest.get("nodeset", "")))


def _bound(root: ET.Element) -> bool:
    """Whether a part of the memory may not lie on any node.

    The mode of ``<numatune><memory>`` applies to a device's own nodes too (qemuBuildMemoryBackendProps,
    src/qemu/qemu_command.c).
    """
    if any(wish.get("mode") != "preferred" for wish in root.findall("./numatune/*")):
        return True
    masks = root.findall("./devices/memory/source/nodemask")
    return bool(masks) and root.find("./numatune/memory") is None


def claim_element(claim: Mapping[str, int]) -> str:
    """A claim as XML for a domain's metadata."""
    element = ET.Element("claim")
    for what, size in sorted(claim.items()):
        ET.SubElement(element, "had", {"what": what, "bytes": str(size)})
    return ET.tostring(element, encoding="unicode")


def _claim(element: ET.Element | None) -> dict[str, int]:
    """The claim in the metadata; empty where somebody changed it to nonsense."""
    if element is None:
        return {}
    try:
        return {had.attrib["what"]: int(had.attrib["bytes"]) for had in element}
    except (KeyError, ValueError):
        return {}


def _manager(metadata: ET.Element) -> str | None:
    """The program that put an element into the metadata, by its namespace."""
    return _MANAGERS.get(metadata.tag.removeprefix("{").partition("}")[0])


def resized_device(xml: str, alias: str, requested_bytes: int) -> str | None:
    """A virtio-mem device's XML with another requested size; None where there is no such device.

    Raises:
        Unreadable: it is not a domain definition.
    """
    for device in _root(xml).findall(VIRTIO_MEM):
        requested = device.find("./target/requested")
        if requested is not None and alias_of(device) == alias:
            requested.set("unit", "KiB")
            requested.text = str(requested_bytes // KIB)
            return ET.tostring(device, encoding="unicode")
    return None


def _nodes(text: str) -> frozenset[int]:
    try:
        return parse_nodes(text)
    except ValueError as error:
        raise Unreadable(str(error)) from error


def _root(xml: str) -> ET.Element:
    try:
        return ET.fromstring(xml)  # noqa: S314 - libvirtd's
    except (ET.ParseError, ValueError) as error:  # a character that has no encoding is the latter
        raise Unreadable(f"not XML: {error}") from error
