"""The memory-related part of a live domain XML."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

import pytest

from overcommit.errors import Unreadable
from overcommit.hypervisor.domain_xml import CLAIM_NAMESPACE, parse_definition, resized_device
from overcommit.hypervisor.memory_xml import number_of
from overcommit.model.blocks import VirtioMemDevice
from overcommit.units import GIB, KIB, MIB

BALLOON = (
    "<memballoon model='virtio' autodeflate='on' freePageReporting='on'><stats period='5'/></memballoon>"
)


def xml(*, memory: str = "<memory unit='KiB'>2097152</memory>", top: str = "", devices: str = BALLOON) -> str:
    return (
        "<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web</name>"
        f"{memory}<currentMemory unit='KiB'>1048576</currentMemory>{top}<devices>{devices}</devices>"
        "<qemu:commandline><qemu:arg value='-memory'/></qemu:commandline></domain>"
    )


def test_plain_guest() -> None:
    found = parse_definition(xml())
    assert found.maximum_bytes == 2 * GIB  # <memory>, not <currentMemory>
    assert found.balloon_model == "virtio"
    assert found.free_page_reporting
    assert found.autodeflate
    assert found.stats_period_seconds == 5
    assert (found.locked, found.hugepages) == (False, False)
    assert (found.launch_security, found.passthrough, found.labels) == (None, (), {})


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("<memory>1024</memory>", MIB),  # libvirt's default unit is KiB
        ("<memory unit='KiB'>1</memory>", KIB),
        ("<memory unit='b'>4096</memory>", 4096),
        ("<memory unit='MiB'>3</memory>", 3 * MIB),
        ("<memory unit='G'>2</memory>", 2 * GIB),
        ("<memory unit='TiB' dumpCore='off'>1</memory>", 1024 * GIB),
    ],
)
def test_units_of_memory(memory: str, size: int) -> None:
    assert parse_definition(xml(memory=memory)).maximum_bytes == size


@pytest.mark.parametrize(
    ("top", "bound"),
    [
        ("", False),
        ("<numatune><memory mode='strict' nodeset='0'/></numatune>", True),
        ("<numatune><memory mode='restrictive' placement='auto'/></numatune>", True),
        ("<numatune><memnode cellid='0' mode='interleave' nodeset='0-1'/></numatune>", True),
        ("<numatune><memory mode='preferred' nodeset='0'/></numatune>", False),
    ],
)
def test_memory_bound_to_nodes_is_not_ours_to_move(top: str, bound: bool) -> None:
    assert parse_definition(xml(top=top)).bound is bound


@pytest.mark.parametrize(
    ("top", "bound"),
    [("", True), ("<numatune><memory mode='preferred' nodeset='0'/></numatune>", False)],
)
def test_a_memory_device_may_be_bound_by_itself(top: str, bound: bool) -> None:
    device = (
        "<memory model='dimm'><source><nodemask>0</nodemask></source>"
        "<target><size unit='KiB'>1048576</size><node>0</node></target></memory>"
    )
    assert parse_definition(xml(top=top, devices=BALLOON + device)).bound is bound


@pytest.mark.parametrize(
    "arguments",
    [
        ("-object", "sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=1"),
        ("-object", '{"qom-type":"tdx-guest","id":"tdx0"}'),
        ("-object", "s390-pv-guest,id=pv0"),
    ],
)
def test_encryption_on_the_command_line_is_encryption(arguments: tuple[str, ...]) -> None:
    plain = xml().replace(
        "<qemu:arg value='-memory'/>", "".join(f"<qemu:arg value={quoteattr(each)}/>" for each in arguments)
    )
    found = parse_definition(plain).launch_security
    assert found is not None
    assert found.endswith("-guest on QEMU's command line")


@pytest.mark.parametrize(
    ("device", "what"),
    [
        ("<hostdev mode='subsystem' type='pci' managed='yes'/>", "a VFIO PCI device"),
        ("<hostdev mode='subsystem' type='mdev' model='vfio-pci'/>", "a VFIO mediated device"),
        ("<interface type='hostdev' managed='yes'/>", "a passed-through network function"),
        (
            "<interface type='network'><actual type='hostdev'/></interface>",
            "a network resolved to passthrough",
        ),
        ("<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>", "a vDPA network device"),
        ("<disk type='vhostvdpa' device='disk'/>", "a vDPA disk"),
        ("<disk type='nvme' device='disk'/>", "an NVMe passthrough disk"),
    ],
)
def test_each_kind_of_passthrough_is_named(device: str, what: str) -> None:
    assert parse_definition(xml(devices=BALLOON + device)).passthrough == (what,)


def test_several_devices_are_all_named() -> None:
    devices = "<hostdev type='pci'/><hostdev type='pci'/><disk type='nvme'/>"
    assert parse_definition(xml(devices=devices)).passthrough == (
        "a VFIO PCI device",
        "an NVMe passthrough disk",
    )


@pytest.mark.parametrize(
    "device",
    [
        "<hostdev mode='subsystem' type='usb'/>",
        "<hostdev mode='subsystem' type='scsi'/>",
        "<interface type='network'><actual type='bridge'/></interface>",
        "<interface type='vhostuser'/>",
        "<disk type='file' device='disk'/>",
    ],
)
def test_devices_that_pin_nothing(device: str) -> None:
    assert parse_definition(xml(devices=device)).passthrough == ()


def memory_device(alias: str, *, current: int = 262144, requested: int = 262144) -> str:
    """As libvirt 11.3 shows it for a running domain."""
    return (
        "<memory model='virtio-mem'><target><size unit='KiB'>524288</size><node>1</node>"
        f"<block unit='KiB'>2048</block><requested unit='KiB'>{requested}</requested>"
        f"<current unit='KiB'>{current}</current><address base='0x100000000'/></target>"
        f"<alias name='{alias}'/><address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>"
        "</memory>"
    )


def test_virtio_mem_devices() -> None:
    dimm = "<memory model='dimm'><target><size unit='KiB'>524288</size><node>0</node></target></memory>"
    devices = dimm + memory_device("virtiomem0") + memory_device("virtiomem1", current=0) + BALLOON
    found = parse_definition(xml(devices=devices))
    first, second = found.virtio_mem
    assert first == VirtioMemDevice(
        alias="virtiomem0",
        size_bytes=512 * MIB,
        block_bytes=2 * MIB,
        requested_bytes=256 * MIB,
        current_bytes=256 * MIB,
        node=1,
    )
    assert (first.resized, second.resized) == (True, False)
    assert (found.plugged_bytes, found.leaving_bytes, found.base_bytes) == (256 * MIB, 0, GIB)
    assert found.device("virtiomem1") == second
    assert found.device("dimm0") is None


def test_blocks_that_were_asked_for_and_not_given_yet_are_leaving() -> None:
    devices = memory_device("virtiomem0", requested=2048) + memory_device("virtiomem1", current=0)
    assert parse_definition(xml(devices=devices)).leaving_bytes == 254 * MIB


def test_a_resized_device_is_its_own_xml_with_another_request() -> None:
    definition = xml(devices=memory_device("virtiomem0") + memory_device("virtiomem1"))
    resized = resized_device(definition, "virtiomem1", 64 * MIB)
    assert resized is not None
    assert resized == memory_device("virtiomem1", requested=65536).replace("'", '"').replace('"/>', '" />')
    assert resized_device(definition, "virtiomem2", 0) is None


@pytest.mark.parametrize("kind", ["sev", "sev-snp", "tdx", "s390-pv"])
def test_encrypted_guest(kind: str) -> None:
    assert parse_definition(xml(top=f"<launchSecurity type='{kind}'/>")).launch_security == kind


def test_memory_backing() -> None:
    backing = "<locked/><hugepages/><source type='memfd'/><access mode='shared'/>"
    found = parse_definition(xml(top=f"<memoryBacking>{backing}</memoryBacking>"))
    assert (found.locked, found.hugepages) == (True, True)


@pytest.mark.parametrize("devices", ["", "<memballoon model='none'/>"])
def test_no_balloon(devices: str) -> None:
    found = parse_definition(xml(devices=devices))
    assert found.balloon_model == "none"
    assert not found.free_page_reporting


@pytest.mark.parametrize("stats", ["", "<stats/>", "<stats period='0'/>"])
def test_frozen_statistics_have_period_zero(stats: str) -> None:
    found = parse_definition(xml(devices=f"<memballoon model='virtio'>{stats}</memballoon>"))
    assert found.stats_period_seconds == 0


@pytest.mark.parametrize(
    ("inside", "claim"),
    [
        ("<o:claim><o:had what='balloon' bytes='1048576'/></o:claim>", {"balloon": MIB}),
        ("<o:claim/>", {}),
        ("<o:claim><o:had what='balloon' bytes='much'/></o:claim>", {}),
        ("<o:claim><o:had bytes='1048576'/></o:claim>", {}),
        ("<claim><had what='balloon' bytes='1048576'/></claim>", {}),
    ],
)
def test_a_claim_that_makes_no_sense_is_none(inside: str, claim: dict[str, int]) -> None:
    top = f"<metadata xmlns:o='{CLAIM_NAMESPACE}'>{inside}</metadata>"
    assert parse_definition(xml(top=top)).claim == claim


def test_labels_come_from_our_namespace_only() -> None:
    metadata = (
        "<metadata><o:labels xmlns:o='urn:overcommit:domain:1' tier='batch' owner='a &amp; b'/>"
        "<labels tier='plain'/><x:labels xmlns:x='urn:other' tier='other'/></metadata>"
    )
    assert parse_definition(xml(top=metadata)).labels == {"tier": "batch", "owner": "a & b"}


@pytest.mark.parametrize(
    ("state", "connected"),
    [(None, None), ("state='connected'", True), ("state='disconnected'", False), ("", False)],
)
def test_the_channel_of_a_guest_agent(state: str | None, connected: bool | None) -> None:
    other = "<channel type='unix'><target type='virtio' name='org.other' state='connected'/></channel>"
    ours = f"<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' {state}/></channel>"
    devices = BALLOON + other + ("" if state is None else ours)
    assert parse_definition(xml(devices=devices)).agent_connected is connected


@pytest.mark.parametrize(
    ("system", "windows"),
    [("http://microsoft.com/win/2k22", True), ("http://debian.org/debian/13", False)],
)
def test_the_guests_system_as_libosinfo_names_it(system: str, windows: bool) -> None:
    space = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
    metadata = f"<metadata><l:libosinfo xmlns:l='{space}'><l:os id='{system}'/></l:libosinfo></metadata>"
    found = parse_definition(xml(top=metadata))
    assert (found.os, found.windows) == (system, windows)
    assert (parse_definition(xml()).os, parse_definition(xml()).windows) == (None, False)


@pytest.mark.parametrize(
    ("space", "manager"),
    [
        ("http://ovirt.org/vm/1.0", "oVirt"),
        ("http://ovirt.org/vm/tune/1.0", "oVirt"),
        ("http://openstack.org/xmlns/libvirt/nova/1.1", None),
    ],
)
def test_who_made_a_domain(space: str, manager: str | None) -> None:
    metadata = f"<metadata><other xmlns='urn:x'/><x:vm xmlns:x='{space}'/></metadata>"
    assert parse_definition(xml(top=metadata)).manager == manager


@pytest.mark.parametrize(
    "text",
    ["", "web", "<domain>", "<network><memory>1</memory></network>", "<domain><devices/></domain>"],
    ids=["empty", "text", "unclosed", "another kind", "without memory"],
)
def test_what_is_not_a_domain(text: str) -> None:
    with pytest.raises(ValueError, match=r"not XML|not a domain"):
        parse_definition(text)


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2), (" 2\n", 2), ("\x1f2", None), ("\u0662", None), ("-2", None)]
)
def test_a_number_of_a_definition_is_digits_with_blanks_around(text: str, number: int | None) -> None:
    """What Python calls a blank is not always what its int() strips."""
    if number is None:
        with pytest.raises(Unreadable, match="where a number should be"):
            number_of(text)
    else:
        assert number_of(text) == number
