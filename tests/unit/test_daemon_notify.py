"""What the service manager hears."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.daemon.notify import ServiceManager
from overcommit.testing import FakeClock, FakeHost


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = f"@overcommit-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(name.replace("@", "\0"))
        ours.settimeout(5)
        yield ours, name


def test_one_datagram_for_each_message(manager: tuple[socket.socket, str]) -> None:
    ours, name = manager
    clock = FakeClock(FakeHost([]))
    told = ServiceManager(clock, {"NOTIFY_SOCKET": name})
    told.ready("at work")
    told.reloading()
    told.alive("took\n64 MiB")
    told.stopping("asked to")
    assert [ours.recv(1000).decode().split("\n") for _ in range(4)] == [
        ["READY=1", "STATUS=at work"],
        ["RELOADING=1", f"MONOTONIC_USEC={round(float(clock.monotonic()) * 1_000_000)}"],
        ["WATCHDOG=1", "STATUS=took 64 MiB"],
        ["STOPPING=1", "STATUS=asked to"],
    ]


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify", "@nobody-listens-there", "x" * 300])
def test_nobody_to_tell_is_no_failure(address: str | None) -> None:
    environment = {} if address is None else {"NOTIFY_SOCKET": address}
    ServiceManager(FakeClock(FakeHost([])), environment).alive("well")


def test_a_manager_that_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    """More than its queue takes: a message that waited would hang here until the test is killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        told = ServiceManager(FakeClock(FakeHost([])), {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):
            told.alive("x" * 200)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_how_often_the_watchdog_wants_to_hear(environment: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager(FakeClock(FakeHost([])), environment).watchdog_seconds == seconds
