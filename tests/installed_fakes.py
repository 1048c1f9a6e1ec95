"""``overcommitctl`` on a fake host: fakes in place of the ports that its verbs open."""

from __future__ import annotations

from pytest_mock import MockerFixture

from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import GIB, MIB


class Unforked(FakeKernel):
    """In place of the worker: what it does must be seen here, and a test with threads does not fork."""

    def close(self) -> None:
        pass


def put_in_place(mocker: MockerFixture, host: FakeHost, hypervisor: FakeHypervisor | None = None) -> None:
    """Have verbs find this host, its clock and its libvirt."""
    libvirt = FakeHypervisor(host) if hypervisor is None else hypervisor
    mocker.patch("overcommit.cli.session.DamonWorker", return_value=Unforked(host))
    mocker.patch("overcommit.cli.session.SystemClock", return_value=FakeClock(host))
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=libvirt)


def two_guests(cold: str, free: str) -> FakeHost:
    """A guest with cold memory and one with free memory, on 2 GiB."""
    rest = set(range(25, 100))
    return FakeHost(
        [
            FakeGuest(cold, "uuid-1", 501, 128 * MIB, resident=set(range(100)), hot=set(range(16))),
            FakeGuest(free, "uuid-2", 502, 128 * MIB, set(range(100)), hot=set(range(8)), free=rest),
        ],
        total_bytes=2 * GIB,
    )
