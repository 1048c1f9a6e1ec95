"""The memory parts in a live domain XML. Libvirt's units become bytes here."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from overcommit.errors import Unreadable
from overcommit.model.blocks import Backing, Part, Use, VirtioMemDevice
from overcommit.units import KIB, parse_nodes

VIRTIO_MEM = "./devices/memory[@model='virtio-mem']"
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"

_POWERS = {letter: power for power, letter in enumerate("kmgtpe", start=1)}
_STORAGE = {"nvdimm", "virtio-pmem"}
_RAM = {"dimm", "virtio-mem"}
_DEVICES = {
    r"vfio-(pci|pci-nohotplug|platform|amd-xgbe|calxeda-xgmac|ap|ccw|user-pci)": "a VFIO device",
    r"vhost-vdpa.*": "a vDPA device",
}
_ENCRYPTION = frozenset({"sev-guest", "sev-snp-guest", "tdx-guest", "s390-pv-guest", "pef-guest"})
"""QEMU's objects for confidential guests (qapi/qom.json)."""
_NETWORKS = {"vhost-vdpa": "a vDPA device"}
_LARGEST_PAGE = 64 * KIB
"""The largest base page size of a kernel. Larger pages are huge pages."""
_WHERE = "on QEMU's command line"


def size_of(element: ET.Element | None) -> int:
    """A size in bytes; 0 where the element is missing.

    Raises:
        Unreadable: it is not a whole number, or has a unit that libvirt does not have.
    """
    return 0 if element is None else bytes_of(element, element.text or "0")


def bytes_of(element: ET.Element, text: str) -> int:
    """A number in the unit that the element names, in bytes.

    Raises:
        Unreadable: it is not a number, or has a unit that libvirt does not have.
    """
    return number_of(text) * _scale(element.get("unit", "KiB"), element.tag)


def number_of(text: str) -> int:
    """A number of a definition, 0 or more.

    Raises:
        Unreadable: it is not such a number.
    """
    found = re.fullmatch(r"\s*([0-9]{1,20})\s*", text, re.ASCII)
    if found is None:
        raise Unreadable(f"the definition has {text[:30]!a} where a number should be")
    return int(found[1])


def _scale(unit: str, where: str) -> int:
    """The bytes of a unit.

    As in libvirt, case does not matter, KB is 1000 and KiB 1024 (virScaleInteger, src/util/virutil.c).
    """
    if unit.lower() in {"b", "byte", "bytes"}:
        return 1
    match = re.fullmatch(r"([kmgtpe])(|b|ib)", unit, re.IGNORECASE | re.ASCII)
    if match is None:
        raise Unreadable(f"<{where}> has the unknown unit {unit[:30]!a}")
    base = 1000 if match[2].lower() == "b" else 1024
    return int(base ** _POWERS[match[1].lower()])


def parts_of(root: ET.Element) -> tuple[Part, ...]:
    """The domain's memory cells (one, where none are listed), followed by its memory devices.

    ``<memory>`` is the sum of both (virDomainDefPostParseMemory, src/conf/domain_conf.c).

    Raises:
        Unreadable: a size or a model is not known, or the devices are larger than all memory.
    """
    devices = tuple(_devices(root))
    left = size_of(root.find("./memory")) - sum(part.size_bytes for part in devices)
    if left < 0:
        raise Unreadable("its memory devices are larger than all of its memory")
    cells = [(cell.get("id", str(n)), cell) for n, cell in enumerate(root.findall("./cpu/numa/cell"))]
    parts = [
        Part(
            size_bytes=bytes_of(cell, cell.get("memory", "0")),
            names=(f"ram-node{nid}",),
            backing=_backing(root, nid, shared=cell.get("memAccess") is not None),
        )
        for nid, cell in cells
    ]
    if sum(part.size_bytes for part in parts) != left:
        parts = [Part(size_bytes=left, backing=_backing(root, "0"))]
    return (*(part for part in parts if part.size_bytes), *devices)


def _devices(root: ET.Element) -> Iterator[Part]:
    for device in root.findall("./devices/memory"):
        model, alias = device.get("model", ""), alias_of(device)
        if model not in _STORAGE | _RAM | {"sgx-epc"}:
            raise Unreadable(f"it has a memory device of an unknown model: {model[:30]!a}")
        path, pages = device.find("./source/path"), size_of(device.find("./source/pagesize"))
        node = device.findtext("./target/node", "")
        yield Part(
            size_bytes=size_of(device.find("./target/size")),
            use=Use.RAM if model in _RAM else Use.ENCLAVE if model == "sgx-epc" else Use.STORAGE,
            names=(f"mem{alias}",) if alias else (),
            alias=alias if model == "virtio-mem" else None,
            path=path.text if path is not None else None,
            backing=Backing.HUGETLB if pages > _LARGEST_PAGE else _backing(root, node, huge=not pages),
        )
    for device in root.findall("./devices/shmem"):
        size = size_of(device.find("./size"))
        if size:
            yield Part(size_bytes=0, use=Use.EXCHANGE, path=f"/dev/shm/{device.get('name', '')}")  # noqa: S108


def _backing(root: ET.Element, node: str, *, shared: bool = False, huge: bool = True) -> Backing:
    """The backing that libvirt uses for the memory of one of the guest's nodes.

    See qemuBuildMemoryBackendProps, src/qemu/qemu_command.c. ``shared``: the element's own access mode.
    ``huge``: page sizes of the node apply.
    """
    backing = root.find("./memoryBacking")
    if backing is None:
        return Backing.FILE if shared else Backing.ANONYMOUS
    pages = backing.find("./hugepages")
    if huge and pages is not None:
        sizes = pages.findall("./page")
        chosen = [page for page in sizes if _names(page.get("nodeset"), node)]
        if not sizes or any(bytes_of(page, page.get("size", "0")) > _LARGEST_PAGE for page in chosen):
            return Backing.HUGETLB
    source = backing.find("./source")
    kind = source.get("type") if source is not None else None
    if kind == "memfd":
        return Backing.SHMEM
    return (
        Backing.FILE
        if kind == "file" or shared or backing.find("./access") is not None
        else Backing.ANONYMOUS
    )


def _names(nodeset: str | None, node: str) -> bool:
    """Whether a page size applies to a node of the guest. Without a node list it applies to all."""
    try:
        return nodeset is None or int(node) in parse_nodes(nodeset)
    except ValueError:
        return False


def virtio_mem(device: ET.Element) -> VirtioMemDevice:
    """A virtio-mem device, with its sizes.

    Raises:
        Unreadable: a size or a node is malformed.
    """
    node = device.find("./target/node")
    return VirtioMemDevice(
        alias=alias_of(device),
        size_bytes=size_of(device.find("./target/size")),
        block_bytes=size_of(device.find("./target/block")),
        requested_bytes=size_of(device.find("./target/requested")),
        current_bytes=size_of(device.find("./target/current")),
        node=number_of(node.text) if node is not None and node.text else None,
    )


def alias_of(device: ET.Element) -> str:
    """Libvirt's name of a device; empty where it has none."""
    alias = device.find("./alias")
    return alias.get("name", "") if alias is not None else ""


def arguments_of(root: ET.Element) -> tuple[str, ...]:
    """Additional arguments of QEMU (``<qemu:commandline>``)."""
    found = root.findall(f"./{QEMU}commandline/{QEMU}arg")
    return tuple(argument.get("value", "") for argument in found)


def passed_through(arguments: tuple[str, ...]) -> Iterator[str]:
    """The devices among QEMU's arguments that access guest memory themselves."""
    for option, value in itertools.pairwise(arguments):
        name = _first(value, "driver" if option.endswith("device") else "type")
        known = _DEVICES if option in {"-device", "--device"} else _NETWORKS if "netdev" in option else {}
        for pattern, what in known.items():
            if re.fullmatch(pattern, name):
                yield f"{what} {_WHERE}"


def encrypted_by(arguments: tuple[str, ...]) -> str | None:
    """The object among QEMU's arguments that encrypts the guest's memory."""
    for option, value in itertools.pairwise(arguments):
        name = _first(value, "qom-type")
        if option in {"-object", "--object"} and name in _ENCRYPTION:
            return f"{name} {_WHERE}"
    return None


def _first(value: str, key: str) -> str:
    """The type of a device: the first item of ``vfio-pci,host=…``, or the value of its key."""
    by_key = re.search(rf'(?:"{key}"\s*:\s*"|(?:^|,){key}=)([\w.-]+)', value)
    return by_key[1] if by_key else value.partition(",")[0]
