"""A libvirt that dies, hangs and comes back; each hang is a real one, in a real thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from pytest_mock import MockerFixture

from overcommit.errors import Gone, HostError, UsageError
from overcommit.hypervisor import libvirt_client, reconnecting
from overcommit.hypervisor.calls import Calls
from overcommit.hypervisor.reconnecting import ReconnectingLibvirt
from overcommit.model.facts import RunState
from overcommit.model.moments import Wall
from overcommit.model.wake import Wake, WakeKind
from overcommit.testing import FakeClock, FakeHost
from overcommit.units import MIB
from tests.libvirt_stand_in import StandIn

DEADLINE, PATIENCE = 0.02, 30.0
UNREACHABLE = "libvirt is not reachable: "
DOMAINS = [f"domain-{number}" for number in range(12)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(FakeHost([]))


@pytest.fixture
def libvirtd(mocker: MockerFixture) -> Iterator[StandIn]:
    libvirtd = StandIn(*DOMAINS)
    for module in (libvirt_client, reconnecting):
        mocker.patch.object(module, "binding", return_value=libvirtd)
    bounded = Calls.bounded

    def patient(
        self: Calls, subject: str, doing: str, call: Callable[[], object], *, seconds: float
    ) -> object:
        """Only what hangs runs into a deadline, however slow this machine is."""
        hung = libvirtd.hung_domains.get(subject, libvirtd.let_go)
        if subject.startswith("survey"):
            holding = libvirtd.hung_domains.keys() - libvirtd.jobs
            hung = libvirtd.hung_domains[min(holding)] if holding else hung
        return bounded(self, subject, doing, call, seconds=PATIENCE if hung.is_set() else seconds)

    mocker.patch.object(Calls, "bounded", patient)
    yield libvirtd
    libvirtd.release_all()


@pytest.fixture
def told() -> list[Wake]:
    return []


@pytest.fixture
def libvirt(libvirtd: StandIn, clock: FakeClock, told: list[Wake]) -> Iterator[ReconnectingLibvirt]:
    libvirt = ReconnectingLibvirt(
        "qemu:///system", read_only=False, clock=clock, notify=told.append, deadline_seconds=DEADLINE
    )
    yield libvirt
    libvirtd.release_all()
    libvirt.close()


def balloon(libvirt: ReconnectingLibvirt, uuid: str) -> int:
    return libvirt.balloon(uuid, now=Wall(0.0)).actual_bytes


def until(come: Callable[[], bool]) -> None:
    """Let other threads run until it has come; the test's own deadline bounds it."""
    pause = threading.Event()
    while not come():
        pause.wait(0.001)


def test_a_wrong_uri_is_refused_at_once(libvirtd: StandIn, clock: FakeClock) -> None:
    with pytest.raises(UsageError, match="cannot manage xen:///"):
        ReconnectingLibvirt("xen:///", read_only=False, clock=clock, notify=lambda _: None)
    assert libvirtd.order == []


def test_it_connects_when_it_is_first_asked_after_the_loop_was_registered(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt
) -> None:
    assert libvirtd.attempts == 0
    assert [domain.uuid for domain in libvirt.domains()] == sorted(DOMAINS, key=lambda u: f"name-of-{u}")
    assert libvirt.describe() == "libvirt 11.3.0, QEMU 10.0.0 at qemu:///system"
    assert libvirtd.order == ["register loop", "open"]
    assert libvirtd.opened[0].kept_alive


def test_questions_to_a_qemu_have_a_connection_of_their_own(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt
) -> None:
    for uuid in DOMAINS:
        assert balloon(libvirt, uuid) == MIB
    control, monitors = libvirtd.opened
    assert control.callbacks != {}
    assert monitors.callbacks == {}


def test_a_domain_that_left_is_gone(libvirt: ReconnectingLibvirt) -> None:
    with pytest.raises(Gone):
        balloon(libvirt, "somebody else")


def test_after_a_restart_of_libvirtd_the_next_call_connects_again(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, told: list[Wake]
) -> None:
    libvirt.domains()
    balloon(libvirt, DOMAINS[0])
    before = list(libvirtd.opened)
    for connection in before:
        connection.lose(1)
    assert told == [Wake(kind=WakeKind.CONNECTION, detail="libvirtd closed it")]
    assert balloon(libvirt, DOMAINS[0]) == MIB
    control, _ = libvirtd.opened[2:]
    assert all(connection.callbacks == {} and connection.on_close is None for connection in before)
    control.happens(StandIn.VIR_DOMAIN_EVENT_ID_REBOOT, DOMAINS[3])
    assert told[1:] == [Wake(kind=WakeKind.REBOOT, uuid=DOMAINS[3])]


def test_only_the_connection_that_was_lost_is_made_anew(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt
) -> None:
    balloon(libvirt, DOMAINS[0])
    libvirtd.opened[1].lose(1)
    assert balloon(libvirt, DOMAINS[0]) == MIB
    assert [connection.is_closed for connection in libvirtd.opened] == [False, True, False]


def test_while_libvirtd_is_down_it_is_tried_ever_less_often(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, clock: FakeClock
) -> None:
    libvirtd.is_down = True
    begin, attempts = clock.monotonic(), []
    for _ in range(150):
        before = libvirtd.attempts
        with pytest.raises(HostError, match=UNREACHABLE + ".*Failed to connect socket") as caught:
            libvirt.domains()
        assert "virsh -c qemu:///system list" in (caught.value.hint or "")
        if libvirtd.attempts > before:
            attempts.append(clock.monotonic() - begin)
        clock.wait(1)
    assert attempts == [0, 1, 3, 7, 15, 31, 61, 91, 121]
    libvirtd.is_down = False
    clock.wait(30)
    assert len(libvirt.domains()) == 12


def test_a_connection_that_held_begins_with_a_short_pause_again(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, clock: FakeClock
) -> None:
    libvirtd.is_down = True
    for pause in (1, 2, 4):
        with pytest.raises(HostError, match=UNREACHABLE):
            libvirt.domains()
        clock.wait(pause)
    libvirtd.is_down = False
    libvirt.domains()
    libvirtd.is_down = True
    libvirtd.opened[0].lose(1)
    with pytest.raises(HostError, match=UNREACHABLE):
        libvirt.domains()
    libvirtd.is_down = False
    clock.wait(1)
    assert len(libvirt.domains()) == 12


def test_a_call_that_is_cut_off_says_that_libvirt_is_not_reachable(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, mocker: MockerFixture
) -> None:
    balloon(libvirt, DOMAINS[0])
    control, monitors = libvirtd.opened
    mocker.patch.object(control, "isAlive", side_effect=[1, 0, 0])
    control.is_closed = True
    with pytest.raises(HostError, match=UNREACHABLE + ".*client socket is closed"):
        libvirt.domains()
    balloon(libvirt, DOMAINS[0])
    mocker.patch.object(libvirtd.opened[3], "isAlive", side_effect=[1, 0, 0])
    libvirtd.opened[3].is_closed = True
    with pytest.raises(HostError, match=UNREACHABLE + ".*client socket is closed"):
        balloon(libvirt, DOMAINS[0])
    assert monitors.is_closed


def test_a_libvirtd_that_hangs_costs_one_deadline_not_one_for_each_call(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, clock: FakeClock
) -> None:
    libvirt.domains()
    balloon(libvirt, DOMAINS[0])
    libvirtd.let_go.clear()
    with pytest.raises(HostError, match=UNREACHABLE + "libvirt did not list domains within 0 s"):
        libvirt.domains()
    clock.wait(7)
    threads = threading.active_count()
    for uuid in DOMAINS:
        with pytest.raises(HostError, match=UNREACHABLE + "libvirtd has not answered for 7 s"):
            balloon(libvirt, uuid)
        with pytest.raises(HostError, match=UNREACHABLE + "libvirtd has not answered for 7 s"):
            libvirt.busy_with(uuid)
    assert threading.active_count() == threads
    libvirtd.let_go.set()
    until(lambda: libvirt._control is not None and libvirt._control.waiting_seconds("libvirtd") is None)
    assert len(libvirt.domains()) == 12
    assert libvirtd.attempts == 2


def test_a_libvirtd_found_hung_over_a_balloon_is_told_from_a_hung_qemu(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, mocker: MockerFixture
) -> None:
    mocker.patch.object(reconnecting, "_SIGN_OF_LIFE_SECONDS", DEADLINE)
    balloon(libvirt, DOMAINS[0])
    libvirtd.let_go.clear()
    with pytest.raises(HostError, match=UNREACHABLE + "libvirt did not answer a keepalive"):
        balloon(libvirt, DOMAINS[0])
    with pytest.raises(HostError, match=UNREACHABLE + "libvirtd has not answered"):
        balloon(libvirt, DOMAINS[1])


def test_a_libvirtd_that_hangs_while_we_connect_is_waited_for_once(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, clock: FakeClock
) -> None:
    libvirtd.let_go.clear()
    with pytest.raises(HostError, match=UNREACHABLE + "libvirt did not accept a connection within 0 s"):
        libvirt.domains()
    clock.wait(40)
    threads = threading.active_count()
    for _ in range(8):  # which are no attempts, so that the next one need not wait for long
        with pytest.raises(HostError, match=UNREACHABLE + "libvirtd has not answered for 40 s"):
            libvirt.domains()
    assert (threading.active_count(), libvirtd.attempts) == (threads, 1)
    libvirtd.let_go.set()
    until(lambda: libvirt._opening.waiting_seconds("libvirtd") is None)
    assert len(libvirt.domains()) == 12


def test_a_hung_qemu_fails_at_once_from_the_second_call_on_and_alone(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt, clock: FakeClock
) -> None:
    hung, other = DOMAINS[:2]
    libvirtd.hang(hung)
    with pytest.raises(HostError, match=r"libvirt did not read its balloon .* within 0 s") as caught:
        balloon(libvirt, hung)
    assert UNREACHABLE not in str(caught.value)
    clock.wait(9)
    for ask in (lambda: balloon(libvirt, hung), lambda: libvirt.set_balloon(hung, MIB)):
        with pytest.raises(HostError, match="an earlier call has not returned for 9 s"):
            ask()
    assert libvirt.busy_with(hung) == "a monitor command in flight since 7 s"
    assert balloon(libvirt, other) == MIB
    libvirtd.hung_domains[hung].set()
    until(lambda: libvirt._for_monitors[0].waiting_seconds(hung) is None)
    assert balloon(libvirt, hung) == MIB


def test_six_hung_qemus_keep_nothing_from_the_others(libvirtd: StandIn, libvirt: ReconnectingLibvirt) -> None:
    """The stand-in fails a sixth request on one connection, which a real libvirtd would let wait."""
    for uuid in DOMAINS[:6]:
        libvirtd.hang(uuid)
        with pytest.raises(HostError, match="did not read its balloon"):
            balloon(libvirt, uuid)
    assert [balloon(libvirt, uuid) for uuid in DOMAINS[6:]] == [MIB] * 6
    assert len(libvirt.domains()) == 12
    for uuid in DOMAINS[:6]:
        with pytest.raises(HostError, match="an earlier call has not returned"):
            balloon(libvirt, uuid)


def test_so_many_hung_qemus_that_libvirtd_would_run_out_of_workers_end_the_asking(
    libvirtd: StandIn, libvirt: ReconnectingLibvirt
) -> None:
    for uuid in DOMAINS[:10]:
        libvirtd.hang(uuid)
        with pytest.raises(HostError, match="did not read its balloon"):
            balloon(libvirt, uuid)
    threads = threading.active_count()
    with pytest.raises(HostError, match="5 other calls have not returned"):
        balloon(libvirt, DOMAINS[11])
    assert len(libvirt.domains()) == 12
    with pytest.raises(HostError, match="5 other calls have not returned"):
        libvirt.busy_with(DOMAINS[11])  # it may have a job, which its QEMU would have to tell
    assert "a monitor command in flight" in str(libvirt.busy_with(DOMAINS[0]))
    assert threading.active_count() == threads
    assert libvirtd.attempts == 3


def test_closing_ends_all_threads_that_do_not_hang(libvirtd: StandIn, clock: FakeClock) -> None:
    before = set(threading.enumerate())
    libvirt = ReconnectingLibvirt("qemu:///system", read_only=True, clock=clock, notify=lambda _: None)
    balloon(libvirt, DOMAINS[0])
    libvirt.close()
    until(lambda: set(threading.enumerate()) <= before)
    assert all(connection.is_closed for connection in libvirtd.opened)


def test_all_domains_are_told_of_in_one_call(libvirt: ReconnectingLibvirt, libvirtd: StandIn) -> None:
    told = libvirt.survey(now=Wall(107.5))
    assert libvirtd.bulk_calls == 1
    assert [each.domain.uuid for each in told] == sorted(DOMAINS, key=lambda uuid: f"name-of-{uuid}")
    for each in told:
        assert (each.domain.state, each.domain.maximum_bytes) == (RunState.RUNNING, MIB)
        assert each.balloon is not None
        assert (each.balloon.actual_bytes, each.balloon.usable_bytes) == (768 << 10, 256 << 10)
        assert each.balloon.age_seconds == 7.5
        assert each.read_bytes == 7 + 8, "of all disks"


def test_a_qemu_that_hangs_is_left_out_of_the_survey_and_the_others_are_not(
    libvirt: ReconnectingLibvirt, libvirtd: StandIn
) -> None:
    for hung in (DOMAINS[3], DOMAINS[7], DOMAINS[5]):
        libvirtd.hang(hung)
        told = {each.domain.uuid: each for each in libvirt.survey(now=Wall(107.5))}
        assert told.keys() == set(DOMAINS)
        silent = {uuid for uuid, each in told.items() if each.balloon is None}
        assert silent == {uuid for uuid, each in told.items() if each.read_bytes is None}
        assert silent == set(libvirtd.hung_domains)
    before = libvirtd.bulk_calls
    libvirt.survey(now=Wall(107.5))
    assert libvirtd.bulk_calls == before + 1
    assert balloon(libvirt, DOMAINS[0]) == MIB  # there is room for other calls


def test_a_libvirtd_that_hangs_is_not_asked_twice_for_a_survey(
    libvirt: ReconnectingLibvirt, libvirtd: StandIn
) -> None:
    libvirt.survey(now=Wall(0.0))
    libvirtd.let_go.clear()
    for _ in range(2):
        with pytest.raises(HostError, match=UNREACHABLE):
            libvirt.survey(now=Wall(0.0))
    assert libvirtd.bulk_calls == 2


def test_a_driver_that_cannot_tell_of_all_is_asked_of_each(
    libvirt: ReconnectingLibvirt, libvirtd: StandIn
) -> None:
    libvirtd.knows_bulk = False
    told = libvirt.survey(now=Wall(0.0))
    assert len(told) == len(DOMAINS)
    assert all(each.domain.maximum_bytes == MIB for each in told)
