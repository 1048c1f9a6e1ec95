"""What the loop sleeps in, with real descriptors and real signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overcommit.daemon.policy_file import PolicyFile
from overcommit.daemon.wakes import LocalWakes, Pending, Wakes
from overcommit.errors import HostError
from overcommit.host.triggers import PRESSED, STALLED, StallLevel
from overcommit.model.wake import Wake, WakeKind
from overcommit.policy.files import default_path
from overcommit.testing import FakeClock, FakeHost, FakeWakes
from overcommit.testing.policy_at_once import PolicyAtOnce

FOREVER = 30.0
REBOOT = Wake(kind=WakeKind.REBOOT, uuid="web")
POKE = Wake(kind=WakeKind.POKE)


class SocketTrigger:
    """A trigger that fires when a test says so: urgent data on TCP polls as POLLPRI, as PSI does."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._host = socket.create_connection(server.getsockname())
            self._loop, _ = server.accept()

    def fire(self) -> None:
        self._host.send(b"!", socket.MSG_OOB)

    def heard(self) -> None:
        """The kernel's triggers forget that they fired as they are polled; this is how a socket does."""
        self._loop.recv(1, socket.MSG_OOB)

    def die(self) -> None:
        """A reset polls as POLLERR, as a trigger does whose cgroup is gone."""
        self._host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._host.close()

    def fileno(self) -> int:
        return self._loop.fileno()

    def close(self) -> None:
        self._loop.close()
        self._host.close()

    @property
    def is_closed(self) -> bool:
        return self._loop.fileno() < 0


class SocketTriggers:
    def __init__(self) -> None:
        self.begun: dict[StallLevel, SocketTrigger] = {}

    def open(self, path: str, level: StallLevel) -> SocketTrigger:
        assert path == "/proc/pressure/memory"
        self.begun[level] = SocketTrigger()
        return self.begun[level]


class NoTriggers:
    def open(self, path: str, level: StallLevel) -> SocketTrigger:
        raise HostError(
            f"cannot be woken by {path} ({level}): pressure stall information is off", hint="psi=1"
        )


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def triggers() -> SocketTriggers:
    return SocketTriggers()


@contextmanager
def listening(
    triggers: SocketTriggers | NoTriggers, said: list[str], policy_state: Callable[[], object] = lambda: 0
) -> Iterator[LocalWakes]:
    wakes = LocalWakes(triggers, policy_state=policy_state, say=said.append)
    try:
        yield wakes
    finally:
        wakes.close()


@pytest.fixture
def wakes(triggers: SocketTriggers, said: list[str]) -> Iterator[LocalWakes]:
    with listening(triggers, said) as wakes:
        yield wakes


def test_it_sleeps_until_the_time_is_over(wakes: LocalWakes) -> None:
    assert wakes.wait(0.001) == ()
    assert wakes.wait(0) == ()
    assert wakes.wait(-1) == ()


def test_another_thread_ends_a_long_wait(wakes: LocalWakes) -> None:
    thread = threading.Thread(target=wakes.poke)
    thread.start()
    assert wakes.wait(FOREVER) == (POKE,)
    thread.join()
    assert wakes.wait(0) == ()


def test_what_came_before_the_wait_ends_it_at_once_and_comes_once(wakes: LocalWakes) -> None:
    for wake in (REBOOT, POKE, REBOOT, POKE):
        wakes.put(wake)
    assert wakes.wait(FOREVER) == (REBOOT, POKE)
    assert wakes.wait(0) == ()


def test_of_equal_reasons_the_last_is_kept_in_the_place_of_the_first() -> None:
    pending = Pending()
    for uuid, size in (("web", "1 GiB"), ("db", "2 GiB"), ("web", "3 GiB")):
        pending.add(Wake(kind=WakeKind.BALLOON, uuid=uuid, detail=size))
    assert [(wake.uuid, wake.detail) for wake in pending.take()] == [("web", "3 GiB"), ("db", "2 GiB")]
    assert pending.take() == ()


def test_a_storm_of_events_is_bounded_and_wakes_all_the_same(wakes: LocalWakes) -> None:
    for number in range(5000):
        wakes.put(Wake(kind=WakeKind.LIFECYCLE, uuid=str(number)))
    assert len(wakes.wait(FOREVER)) == 1024
    assert wakes.wait(0) == ()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGHUP, WakeKind.RELOAD),
        (signal.SIGTERM, WakeKind.STOP),
        (signal.SIGINT, WakeKind.STOP),
    ],
)
def test_signals_are_wakes(wakes: LocalWakes, number: signal.Signals, kind: WakeKind) -> None:
    for _ in range(3):
        os.kill(os.getpid(), number)
    assert wakes.wait(FOREVER) == (Wake(kind=kind, detail=number.name),)
    assert wakes.wait(0) == ()


def test_a_signal_of_others_is_none_of_ours(wakes: LocalWakes) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert wakes.wait(0) == ()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_signals_do_afterwards_what_they_did_before(triggers: SocketTriggers, said: list[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)]
    with listening(triggers, said) as wakes:
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(n) for n in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1
    wakes.put(REBOOT)  # from libvirt's thread, which may still run


def test_pressure_is_a_wake_and_a_standstill_an_emergency_that_comes_first(
    wakes: LocalWakes, triggers: SocketTriggers
) -> None:
    wakes.poke()
    triggers.begun[PRESSED].fire()
    assert wakes.wait(FOREVER) == (Wake(kind=WakeKind.PRESSURE, detail="memory pressure: some"), POKE)
    triggers.begun[PRESSED].heard()
    assert wakes.wait(0) == ()
    triggers.begun[PRESSED].fire()
    triggers.begun[STALLED].fire()
    kinds = [wake.kind for wake in wakes.wait(FOREVER)]
    assert sorted(kind.value for kind in kinds) == ["emergency", "pressure"]


def test_a_trigger_that_ended_is_let_go_and_does_not_keep_the_loop_awake(
    wakes: LocalWakes, triggers: SocketTriggers, said: list[str]
) -> None:
    triggers.begun[PRESSED].die()
    wakes.wait(FOREVER)
    assert said == ["a memory pressure trigger ended: memory pressure is noticed one tick later"]
    assert triggers.begun[PRESSED].is_closed
    assert wakes.wait(0) == ()
    triggers.begun[STALLED].fire()
    assert [wake.kind for wake in wakes.wait(FOREVER)] == [WakeKind.EMERGENCY]


def test_a_kernel_without_psi_is_said_and_done_without(said: list[str]) -> None:
    with listening(NoTriggers(), said) as wakes:
        wakes.put(REBOOT)
        assert wakes.wait(FOREVER) == (REBOOT,)
    assert [sentence.split(": ", 1)[1] for sentence in said] == [
        "pressure stall information is off (psi=1): memory pressure is noticed one tick later"
    ] * 2


def test_nothing_stays_open(triggers: SocketTriggers, said: list[str]) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with listening(triggers, said):
        assert set(Path("/proc/self/fd").iterdir()) > before
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_the_end_of_the_worker_is_told(triggers: SocketTriggers, said: list[str]) -> None:
    with subprocess.Popen(["sleep", "60"]) as worker:
        wakes = LocalWakes(triggers, policy_state=lambda: 0, say=said.append, worker=worker.pid)
        try:
            assert wakes.wait(0) == ()
            worker.send_signal(signal.SIGSTOP)  # it hangs, which is not the end
            assert wakes.wait(0.1) == ()
            worker.kill()
            assert wakes.wait(FOREVER) == (Wake(kind=WakeKind.WORKER_ENDED),)
        finally:
            worker.kill()
            wakes.close()


def test_a_changed_policy_is_noticed_once(tmp_path: Path, triggers: SocketTriggers, said: list[str]) -> None:
    policy, overrides = tmp_path / "policy.yaml", tmp_path / "policy.d"
    policy.write_text(default_path().read_text())
    watched = PolicyFile(policy, PolicyAtOnce)
    changed = (Wake(kind=WakeKind.RELOAD, detail="the files of the policy changed"),)

    def replaced() -> None:
        new = tmp_path / "new"
        new.write_text(policy.read_text())
        new.rename(policy)

    with listening(triggers, said, watched.state) as wakes:
        assert wakes.wait(0) == ()
        for change in (
            lambda: policy.write_text("version: 1 # longer\n"),
            replaced,
            overrides.mkdir,
            (overrides / "10-site.yaml").touch,
            (overrides / "10-site.yaml").unlink,
            policy.unlink,
            lambda: policy.write_text("version: 1\n"),
        ):
            change()
            expected = () if change == overrides.mkdir else changed
            assert wakes.wait(0) == expected
            assert wakes.wait(0) == ()


def test_the_fake_wakes_when_it_was_arranged_and_lets_that_time_pass() -> None:
    clock = FakeClock(FakeHost([]))
    fake = FakeWakes(clock)
    wakes: Wakes = fake
    begin = clock.monotonic()
    fake.arrange(POKE, at=begin + 7)
    fake.arrange(REBOOT, at=begin + 3)
    assert (wakes.wait(5), clock.monotonic() - begin) == ((REBOOT,), 3)
    assert (wakes.wait(5), clock.monotonic() - begin) == ((POKE,), 7)
    assert (wakes.wait(5), clock.monotonic() - begin) == ((), 12)
    wakes.poke()
    wakes.poke()
    assert (wakes.wait(5), clock.monotonic() - begin) == ((POKE,), 12)
    fake.arrange(REBOOT, at=begin)
    assert (wakes.wait(0), clock.monotonic() - begin) == ((REBOOT,), 12)


def test_what_a_fake_host_does_meanwhile_ends_a_fake_wait() -> None:
    host = FakeHost([])
    clock = FakeClock(host)
    wakes = FakeWakes(clock)
    begin = clock.monotonic()

    def reboots(_: float) -> None:
        if clock.monotonic() - begin > 2:
            wakes.put(REBOOT)

    host.workers.append(reboots)
    assert wakes.wait(60) == (REBOOT,)
    assert 2 < clock.monotonic() - begin <= 4
