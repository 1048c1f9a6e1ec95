"""A connection to libvirt from the command line: a daemon that is being restarted is waited for, briefly."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.cli import session as module
from overcommit.cli.console import MessageConsole
from overcommit.cli.session import Session
from overcommit.errors import Unsupported
from overcommit.records.journal import Journal
from overcommit.records.ledger import Ledger
from overcommit.testing import FakeClock, FakeHost, FakeKernel
from overcommit.testing.sentence_log import SentenceLog


@pytest.fixture
def session(tmp_path: Path) -> Session:
    host = FakeHost(guests=[])
    return Session(
        kernel=FakeKernel(host),
        clock=FakeClock(host),
        journal=Journal(tmp_path),
        ledger=Ledger(tmp_path, warn=lambda _: None),
        log=SentenceLog(lambda _: None),
        connect_uri="qemu:///system",
        policy_path=None,
        json=False,
        console=MessageConsole(quiet=True),
    )


def away() -> Unsupported:
    return Unsupported("cannot connect to libvirt at qemu:///system: No such file or directory")


def test_a_daemon_that_is_being_restarted_is_waited_for(session: Session, mocker: MockerFixture) -> None:
    client = mocker.patch.object(
        module, "LibvirtClient", side_effect=[away(), away(), mocker.sentinel.connection]
    )
    assert session.hypervisor(read_only=True) is mocker.sentinel.connection
    assert client.call_count == 3


def test_one_that_stays_away_is_given_up_after_seconds(session: Session, mocker: MockerFixture) -> None:
    client = mocker.patch.object(module, "LibvirtClient", side_effect=away())
    began = session.clock.monotonic()
    with pytest.raises(Unsupported, match="cannot connect"):
        session.hypervisor(read_only=True)
    assert client.call_count == 7
    assert session.clock.monotonic() - began == pytest.approx(3.0)


def test_a_binding_that_is_not_installed_does_not_come_back(session: Session, mocker: MockerFixture) -> None:
    error = Unsupported("the libvirt Python binding is not installed")
    error.__cause__ = ImportError("libvirt")
    client = mocker.patch.object(module, "LibvirtClient", side_effect=error)
    with pytest.raises(Unsupported, match="binding"):
        session.hypervisor(read_only=True)
    assert client.call_count == 1
