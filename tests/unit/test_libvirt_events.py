from __future__ import annotations

import queue
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.hypervisor import libvirt_client
from overcommit.hypervisor.events import EventLoop, subscribe
from overcommit.hypervisor.libvirt_client import LibvirtClient
from overcommit.model.wake import Wake, WakeKind
from overcommit.testing import FakeClock, FakeHost
from tests.libvirt_stand_in import StandIn, StandInConnection

WEB = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def libvirt() -> StandIn:
    return StandIn(WEB)


@pytest.fixture
def told() -> list[Wake]:
    return []


@pytest.fixture
def connection(libvirt: StandIn, told: list[Wake]) -> StandInConnection:
    connection = libvirt.open("qemu:///system")
    subscribe(libvirt, connection, told.append)
    return connection


@pytest.mark.parametrize(
    ("event", "arguments", "kind", "detail"),
    [
        (StandIn.VIR_DOMAIN_EVENT_ID_LIFECYCLE, (2, 0), WakeKind.LIFECYCLE, "started"),
        (StandIn.VIR_DOMAIN_EVENT_ID_LIFECYCLE, (8, 0), WakeKind.LIFECYCLE, "crashed"),
        (StandIn.VIR_DOMAIN_EVENT_ID_LIFECYCLE, (99, 0), WakeKind.LIFECYCLE, "event 99"),
        (StandIn.VIR_DOMAIN_EVENT_ID_REBOOT, (), WakeKind.REBOOT, ""),
        (StandIn.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, (524288,), WakeKind.BALLOON, "512 MiB"),
        (StandIn.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, ("hostdev0",), WakeKind.DEVICE, "hostdev0 came"),
        (StandIn.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, ("hostdev0",), WakeKind.DEVICE, "hostdev0 left"),
        (StandIn.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, (2, 2), WakeKind.AGENT, "disconnected"),
    ],
)
def test_each_event_is_a_reason_to_look(
    connection: StandInConnection,
    told: list[Wake],
    event: int,
    arguments: tuple[object, ...],
    kind: WakeKind,
    detail: str,
) -> None:
    connection.happens(event, WEB, *arguments)
    assert told == [Wake(kind=kind, uuid=WEB, detail=detail)]


def test_what_binding_or_libvirtd_do_not_know_is_left_out(connection: StandInConnection) -> None:
    """The stand-in's binding has no METADATA_CHANGE, and its libvirtd refuses JOB_COMPLETED."""
    assert sorted(connection.callbacks) == [0, 1, 13, 15, 18, 19]


@pytest.mark.parametrize(
    ("reason", "detail"),
    [(1, "libvirtd closed it"), (2, "libvirtd does not answer"), (9, "reason 9")],
)
def test_a_lost_connection_is_told(
    connection: StandInConnection, told: list[Wake], reason: int, detail: str
) -> None:
    connection.lose(reason)
    assert told == [Wake(kind=WakeKind.CONNECTION, detail=detail)]


def test_nothing_holds_a_lost_connection_afterwards(libvirt: StandIn, told: list[Wake]) -> None:
    """A callback holds its connection; libvirt takes it off here even where libvirtd cannot be told."""
    connection = libvirt.open("qemu:///system")
    unsubscribe = subscribe(libvirt, connection, told.append)
    connection.lose(1)
    unsubscribe()
    assert connection.callbacks == {}
    assert connection.on_close is None


def test_the_loop_is_registered_stopped_and_leaves_no_timer(libvirt: StandIn) -> None:
    loop = EventLoop(libvirt, FakeClock(FakeHost([])))
    assert loop.stop(seconds=30)
    assert libvirt.order == ["register loop", "remove timer 7"]


def test_a_loop_that_fails_goes_on_and_not_in_a_hurry(libvirt: StandIn) -> None:
    host = FakeHost([])
    libvirt.loop_is_broken = True
    loop = EventLoop(libvirt, FakeClock(host))
    libvirt.virEventUpdateTimeout(7, 0)
    assert loop.stop(seconds=30)
    assert host.uptime - FakeHost([]).uptime == 1.0


def test_whatever_a_callback_met_the_loop_goes_on(libvirt: StandIn, mocker: MockerFixture) -> None:
    faults = [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"), RecursionError("deep"), KeyError(4)]
    run, went_on = libvirt.virEventRunDefaultImpl, queue.SimpleQueue[None]()

    def fail_first() -> None:
        if faults:
            raise faults.pop()
        went_on.put(None)
        run()

    mocker.patch.object(libvirt, "virEventRunDefaultImpl", fail_first)
    loop = EventLoop(libvirt, FakeClock(FakeHost([])))
    went_on.get(timeout=30)
    assert loop.stop(seconds=30)


def test_a_real_libvirt_tells_of_a_paused_domain(mocker: MockerFixture, tmp_path: Path) -> None:
    """Libvirt's own test driver, and its own event loop."""
    libvirt = pytest.importorskip("libvirt", reason="the libvirt binding is optional")
    mocker.patch.object(libvirt_client, "run_directory", return_value=tmp_path)
    told: queue.SimpleQueue[Wake] = queue.SimpleQueue()
    loop = EventLoop(libvirt, FakeClock(FakeHost([])))
    client = LibvirtClient("test:///default", read_only=False, deadline_seconds=30)
    client.watch(told.put)
    (domain,) = client.domains()
    handle = client._connection.lookupByUUIDString(domain.uuid)
    handle.suspend()
    try:
        assert told.get(timeout=30) == Wake(kind=WakeKind.LIFECYCLE, uuid=domain.uuid, detail="paused")
    finally:
        handle.resume()
    assert told.get(timeout=30).detail == "resumed"
    client.close()
    assert loop.stop(seconds=30)
