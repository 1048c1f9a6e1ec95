"""The libvirt client, against libvirt's own test driver where that can stand in for QEMU.

The test driver's one domain is ``test``, 2 GiB of at most 8 GiB. The product refuses every URI that is not a
local QEMU, so that check alone is taken out of its way.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from overcommit.errors import Gone, HostError, Unsupported, UsageError
from overcommit.hypervisor import libvirt_client
from overcommit.hypervisor.domain_xml import LABELS_NAMESPACE, parse_definition
from overcommit.hypervisor.libvirt_client import LibvirtClient
from overcommit.model.facts import RunState
from overcommit.model.moments import Wall
from overcommit.units import GIB, MIB

libvirt = pytest.importorskip("libvirt", reason="the libvirt binding is optional")
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def client(mocker: MockerFixture, tmp_path: Path) -> LibvirtClient:
    mocker.patch.object(libvirt_client, "run_directory", return_value=tmp_path)
    return LibvirtClient("test:///default", read_only=False)


@pytest.fixture
def uuid(client: LibvirtClient) -> Iterator[str]:
    """The test driver's domain, which all connections of this process share: leave it as it was."""
    (domain,) = client.domains()
    yield domain.uuid
    client.set_balloon(domain.uuid, 2 * GIB)


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("test:///default", "cannot manage test:///default: DAMON and cgroups are local"),
        ("qemu+ssh://root@kvm2/system", "cannot manage"),
        ("qemu+unix:///system", "cannot manage"),
        ("qemu://kvm2/system", "cannot manage"),
        ("xen:///system", "cannot manage"),
        ("", "cannot manage"),
        ("qemu:///session", "unsupported connection"),
        ("qemu:///", "unsupported connection"),
    ],
)
def test_only_a_local_qemu_can_be_managed(uri: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)) as caught:
        LibvirtClient(uri, read_only=True)
    assert "qemu:///system" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("uri", "directory"),
    [
        ("qemu:///system", "/run/libvirt/qemu"),
        ("qemu:///system?socket=/run/x", "/run/libvirt/qemu"),
        ("qemu:///embed?root=/srv/lab", "/srv/lab/run/qemu"),
    ],
)
def test_pid_files_are_where_libvirt_puts_them(uri: str, directory: str) -> None:
    assert libvirt_client.run_directory(uri) == Path(directory)


def test_embedded_driver_needs_its_root_named() -> None:
    with pytest.raises(UsageError, match="root"):
        LibvirtClient("qemu:///embed", read_only=True)


def test_a_libvirt_that_does_not_answer_is_reported_with_what_to_try(mocker: MockerFixture) -> None:
    mocker.patch.object(libvirt_client, "run_directory")
    with pytest.raises(Unsupported, match="cannot connect to libvirt at test:///nowhere") as caught:
        LibvirtClient("test:///nowhere", read_only=True)
    assert "virsh -c test:///nowhere list" in (caught.value.hint or "")


def test_missing_binding_says_what_to_install(mocker: MockerFixture) -> None:
    mocker.patch.dict("sys.modules", {"libvirt": None})
    with pytest.raises(Unsupported, match="binding is not installed") as caught:
        LibvirtClient("qemu:///system", read_only=True)
    assert "python3-libvirt" in (caught.value.hint or "")


def test_description_names_the_address(client: LibvirtClient) -> None:
    assert re.fullmatch(r"libvirt \d+\.\d+\.\d+, QEMU \d+\.\d+\.\d+ at test:///default", client.describe())


def test_domains_are_listed_with_their_pid_files(client: LibvirtClient, tmp_path: Path) -> None:
    (domain,) = client.domains()
    assert (domain.name, domain.state) == ("test", RunState.RUNNING)
    assert domain.pid_file == str(tmp_path / "test.pid")
    assert client.state(domain.uuid) is RunState.RUNNING


def test_the_state_of_a_domain_that_is_gone_is_not_made_up(client: LibvirtClient) -> None:
    with pytest.raises(Gone):
        client.state(NOBODY)


def test_paused_domain_is_listed_as_paused(client: LibvirtClient, uuid: str) -> None:
    handle = client._connection.lookupByUUIDString(uuid)
    handle.suspend()
    try:
        assert client.domains()[0].state is RunState.PAUSED
        assert client.state(uuid) is RunState.PAUSED
    finally:
        handle.resume()


def test_definition_is_the_live_one(client: LibvirtClient, uuid: str) -> None:
    assert parse_definition(client.xml(uuid)).maximum_bytes == 8 * GIB


def test_a_domain_that_does_not_run_has_a_definition(client: LibvirtClient) -> None:
    memory = "<memory unit='MiB'>64</memory><os><type>hvm</type></os>"
    made = client._connection.defineXML(f"<domain type='test'><name>db 1</name>{memory}</domain>")
    try:
        found = client.defined("db 1")
        assert found is not None
        assert parse_definition(found).maximum_bytes == 64 * MIB
        assert client.defined("nobody") is None
        assert [domain.name for domain in client.domains()] == ["test"]
    finally:
        made.undefine()


def test_balloon_figures_are_in_bytes_and_as_old_as_they_are(client: LibvirtClient, uuid: str) -> None:
    last_update = 627319920  # what the test driver always says
    stats = client.balloon(uuid, now=Wall(last_update + 7.5))
    assert stats.actual_bytes == 2 * GIB
    assert stats.usable_bytes == stats.unused_bytes == GIB
    assert stats.total_bytes == 2 * GIB
    assert stats.cache_bytes == 256 * MIB
    assert stats.age_seconds == 7.5


def test_a_survey_says_what_is_said_of_each_domain(client: LibvirtClient, uuid: str) -> None:
    """The test driver has no figures of balloons in bulk: each domain is asked by itself."""
    now = 627319920 + 7.5
    (told,) = client.survey(now=Wall(now))
    assert told.domain == client.domains()[0]
    # It has no balloon statistics without the resident size of a process.
    assert told.balloon == client.balloon(uuid, now=Wall(now))


def test_statistics_from_the_future_are_fresh_not_negative(client: LibvirtClient, uuid: str) -> None:
    assert client.balloon(uuid, now=Wall(0.0)).age_seconds == 0.0


@pytest.mark.parametrize("update", [{"last_update": 0}, {}], ids=["zero", "absent"])
def test_a_driver_that_never_answered_has_no_age(
    client: LibvirtClient, mocker: MockerFixture, update: dict[str, int]
) -> None:
    handle = mocker.Mock(**{"memoryStats.return_value": {"actual": 1024, "rss": 1, **update}})
    mocker.patch.object(client, "_connection").lookupByUUIDString.return_value = handle
    stats = client.balloon(NOBODY, now=Wall(5.0))
    assert (stats.actual_bytes, stats.age_seconds, stats.usable_bytes) == (MIB, None, None)


def test_a_new_size_reaches_the_live_domain(client: LibvirtClient, uuid: str) -> None:
    client.set_balloon(uuid, 512 * MIB)
    assert client.balloon(uuid, now=Wall(0.0)).actual_bytes == 512 * MIB


def test_a_memory_device_is_resized_in_the_live_domain(client: LibvirtClient, mocker: MockerFixture) -> None:
    """The test driver has no such device; libvirt takes the device's XML with another request."""
    target = "<target><requested unit='KiB'>2048</requested></target><alias name='virtiomem0'/>"
    xml = f"<domain><devices><memory model='virtio-mem'>{target}</memory></devices></domain>"
    handle = mocker.Mock(**{"XMLDesc.return_value": xml, "updateDeviceFlags.return_value": 0})
    mocker.patch.object(client, "_connection").lookupByUUIDString.return_value = handle
    client.resize_memory_device(NOBODY, "virtiomem0", 64 * MIB)
    (device, flags), _ = handle.updateDeviceFlags.call_args
    assert '<requested unit="KiB">65536</requested>' in device
    assert flags == libvirt.VIR_DOMAIN_AFFECT_LIVE
    with pytest.raises(HostError, match="no virtio-mem device virtiomem1"):
        client.resize_memory_device(NOBODY, "virtiomem1", 0)
    assert handle.updateDeviceFlags.call_count == 1


def test_a_claim_is_carried_beside_what_others_have_put_there(client: LibvirtClient, uuid: str) -> None:
    """Against libvirt's own code for metadata, which gives what it is handed a namespace."""
    handle = client._connection.lookupByUUIDString(uuid)
    element, live = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_DOMAIN_AFFECT_LIVE
    handle.setMetadata(element, "<labels tier='batch'/>", "o", LABELS_NAMESPACE, live)
    try:
        client.set_claim(uuid, {"balloon": 2 * GIB, "device ua-x": GIB})
        carried = parse_definition(client.xml(uuid))
        assert (carried.claim, carried.labels) == (
            {"balloon": 2 * GIB, "device ua-x": GIB},
            {"tier": "batch"},
        )
        client.set_claim(uuid, {"balloon": GIB})
        assert parse_definition(client.xml(uuid)).claim == {"balloon": GIB}
        client.set_claim(uuid, {})
        client.set_claim(uuid, {})
        assert "claim" not in client.xml(uuid)
        assert parse_definition(client.xml(uuid)).labels == {"tier": "batch"}
    finally:
        handle.setMetadata(element, None, "o", LABELS_NAMESPACE, live)


@pytest.mark.parametrize(
    ("job", "what"),
    [
        ({"type": 0}, None),
        ({"type": 3, "operation": 5}, None),
        ({"type": 2, "operation": 5, "time_elapsed": 10335}, "a migration to another host"),
        ({"type": 2, "operation": 9}, "a backup"),
        ({"type": 1, "operation": 99}, "a libvirt job"),
        ({"type": 1}, "a libvirt job"),
    ],
)
def test_a_job_is_known_also_while_the_monitor_is_idle(
    client: LibvirtClient, mocker: MockerFixture, job: dict[str, int], what: str | None
) -> None:
    """Of a live migration libvirt 11.3 says so: controlInfo is [0, 0, 0] nearly all the time."""
    handle = mocker.Mock(**{"controlInfo.return_value": [0, 0, 0], "jobStats.return_value": job})
    mocker.patch.object(client, "_connection").lookupByUUIDString.return_value = handle
    assert client.busy_with(NOBODY) == what


def test_a_domain_that_arrives_is_busy_and_not_gone(client: LibvirtClient, mocker: MockerFixture) -> None:
    """Libvirt refuses the question there, by the code that it also has for a domain that is not running."""
    error = libvirt.libvirtError("refused")
    text = "Operation not supported: migration statistics are available only on the source host"
    error.err = (libvirt.VIR_ERR_OPERATION_INVALID, 10, text, 2, text, None, None, -1, -1)
    handle = mocker.Mock(**{"controlInfo.return_value": [0, 0, 0], "jobStats.side_effect": error})
    mocker.patch.object(client, "_connection").lookupByUUIDString.return_value = handle
    assert client.busy_with(NOBODY) == "a migration to this host"


@pytest.mark.parametrize(
    ("control", "what"),
    [
        ([1, 0, 0], "a libvirt job (migration, save, dump or snapshot)"),
        ([2, 0, 12_400], "a monitor command in flight since 12 s"),
        ([3, 2, 0], "a broken monitor"),
    ],
)
def test_busy_monitor(client: LibvirtClient, mocker: MockerFixture, control: list[int], what: str) -> None:
    """The test driver knows no jobs; the values are libvirt's virDomainControlState."""
    handle = mocker.Mock(**{"controlInfo.return_value": control})
    mocker.patch.object(client, "_connection").lookupByUUIDString.return_value = handle
    assert client.busy_with(NOBODY) == what


def test_unknown_domain_is_gone(client: LibvirtClient) -> None:
    with pytest.raises(Gone, match=f"could not read its balloon .domain {NOBODY}"):
        client.balloon(NOBODY, now=Wall(0.0))


def test_domain_that_shut_down_is_gone(client: LibvirtClient, uuid: str) -> None:
    handle = client._connection.lookupByUUIDString(uuid)
    handle.destroy()
    try:
        assert client.domains() == ()
        with pytest.raises(Gone):
            client.set_balloon(uuid, GIB)
    finally:
        handle.create()


@pytest.mark.parametrize(("active", "error"), [(True, HostError), (False, Gone)])
def test_an_error_of_which_libvirt_forgot_the_code_is_told_by_the_domain(
    client: LibvirtClient, mocker: MockerFixture, active: bool, error: type[HostError]
) -> None:
    """A handle that the collector frees in between resets the last error of the thread."""
    refused = libvirt.libvirtError("virDomainSetMemoryFlags() failed")
    assert refused.get_error_code() is None
    handle = mocker.Mock(**{"setMemoryFlags.side_effect": refused, "isActive.return_value": active})
    mocker.patch.object(client, "_connection").lookupByUUIDString.return_value = handle
    with pytest.raises(HostError) as caught:
        client.set_balloon(NOBODY, GIB)
    assert type(caught.value) is error


def test_refused_size_is_an_error_of_the_host(client: LibvirtClient, uuid: str) -> None:
    with pytest.raises(HostError, match="could not set its balloon") as caught:
        client.set_balloon(uuid, 16 * GIB)
    assert not isinstance(caught.value, Gone)


def test_a_missing_balloon_is_not_a_missing_domain(client: LibvirtClient, mocker: MockerFixture) -> None:
    """Libvirt uses one code (operation invalid) for both; taking it for Gone would hide the domain."""
    error = libvirt.libvirtError("refused")
    text = "Unable to change memory of active domain without the balloon device"
    error.err = (libvirt.VIR_ERR_OPERATION_INVALID, 10, text, 2, text, None, None, -1, -1)
    mocker.patch.object(client, "_connection").lookupByUUIDString.side_effect = error
    with pytest.raises(HostError, match="without the balloon device") as caught:
        client.set_balloon(NOBODY, GIB)
    assert not isinstance(caught.value, Gone)


def test_a_hung_domain_does_not_hang_us(client: LibvirtClient, mocker: MockerFixture) -> None:
    hung = threading.Event()

    def never(_: str) -> Any:
        hung.wait()
        return mocker.Mock()

    mocker.patch.object(client, "_deadline_seconds", 0.05)
    mocker.patch.object(client, "_connection").lookupByUUIDString.side_effect = never
    try:
        with pytest.raises(HostError, match="did not read its definition"):
            client.xml(NOBODY)
    finally:
        hung.set()


def failure(code: int, text: str) -> Any:
    error = libvirt.libvirtError("refused")
    error.err = (code, 10, text, 2, text, None, None, -1, -1)
    return error


def test_an_agent_is_asked_for_as_long_as_the_caller_wants(
    client: LibvirtClient, mocker: MockerFixture
) -> None:
    asked = mocker.patch("libvirt_qemu.qemuAgentCommand", return_value='{"return": {}}')
    handle = mocker.Mock()
    mocker.patch.object(client, "_connection").lookupByUUIDString.return_value = handle
    assert client.ask_agent(NOBODY, '{"execute": "guest-info"}', seconds=60) == '{"return": {}}'
    asked.assert_called_once_with(handle, '{"execute": "guest-info"}', 60, 0)


def test_what_an_agent_says_is_told_in_its_own_words(client: LibvirtClient, uuid: str) -> None:
    """Libvirt's test driver has no agents."""
    with pytest.raises(HostError, match=r"could not ask its guest agent .*not supported"):
        client.ask_agent(uuid, '{"execute": "guest-info"}', seconds=1)


@pytest.mark.parametrize(
    ("code", "text", "gone"),
    [
        (55, "Requested operation is not valid: domain is not running", True),
        (86, "Guest agent is not responding: QEMU guest agent is not connected", False),
        (55, "QEMU guest agent is not configured", False),
    ],
)
def test_an_agent_that_is_missing_is_not_a_missing_domain(
    client: LibvirtClient, mocker: MockerFixture, code: int, text: str, gone: bool
) -> None:
    mocker.patch("libvirt_qemu.qemuAgentCommand", side_effect=failure(code, text))
    mocker.patch.object(client, "_connection")
    with pytest.raises(HostError, match=text) as caught:
        client.ask_agent(NOBODY, "{}", seconds=1)
    assert isinstance(caught.value, Gone) is gone


def test_a_definition_is_changed_for_the_next_start_only(client: LibvirtClient, uuid: str) -> None:
    (defined,) = client.defined_domains()
    assert (defined.uuid, defined.active) == (uuid, True)
    before = client.definition(uuid, secrets=True)
    assert before is not None
    client.define(before.replace("<on_crash>", "<description>x</description><on_crash>"))
    assert "<description>x" in (client.definition(uuid) or "")
    client.define(before)
    assert client.definition(uuid, secrets=True) == before
    assert client.definition(NOBODY) is None
    with pytest.raises(HostError, match="could not change a definition"):
        client.define("<domain/>")
