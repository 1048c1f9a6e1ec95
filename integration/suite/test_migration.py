"""A guest migrates live between two host VMs with a daemon on each: nobody touches it on its way.

The wire between them is a pair of unix sockets on this machine, or that of Vagrant's pair of machines, with
link-local addresses inside of them. Many minutes, so that ``make test`` leaves it out.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from integration.lab import paths
from integration.lab.errors import HostVmDiedError
from integration.lab.guests import GuestSpec
from integration.suite.conftest import HOST, own_host_vm
from integration.suite.host import MIB, Host
from integration.suite.service import Overcommitd, await_true

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = 256 * MIB
POLICY = """\
version: 1
host: {reclaim: proactive, swap: {max_used: 60%, max_write: 2MiB/s}}
classes: {lab: {floor: 20%, cold_after: 8s, slo: {promotions: 100%/min, psi_some: 90%}}}
default_class: lab
"""
ADDRESSES = {"leaves": "169.254.77.1", "arrives": "169.254.77.2"}
"""RFC 3927: of no use beyond the wire."""
USE = {"total": "160M", "base": "24M", "hold": "8", "hz": "0.5"}
SPEC = GuestSpec("mover", "256M", "hog", USE, free_page_reporting=False)
PATIENT, ON_ITS_WAY = 240.0, 900.0
"""The second for libvirt and the emulators: beside five other hosts it took 437 s, usually a quarter."""
LOG = "/var/tmp/migration.log"
TCP = "/run/systemd/system/libvirtd-tcp.socket.d"
OVER_THE_WIRE = """\
mkdir -p {tcp} && printf '[Socket]\\nListenStream=\\nListenStream={address}:16509\\n' >{tcp}/wire.conf
echo 'auth_tcp = "none" # over the wire' >>/etc/libvirt/libvirtd.conf
systemctl daemon-reload
systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket
systemctl start libvirtd.socket libvirtd-tcp.socket libvirtd.service
"""
"""Whoever is on the wire may do all with libvirt, and nobody else."""
AS_BEFORE = """\
systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tcp.socket
sed -i '/# over the wire$/d' /etc/libvirt/libvirtd.conf
rm -r {tcp} && systemctl daemon-reload
systemctl start libvirtd.socket libvirtd.service
ip addr del {address}/24 dev eth1
"""


def host_vm(request: pytest.FixtureRequest, which: str, kernel: str) -> Iterator[Host]:
    """One end of the wire, where libvirt may be reached over it."""
    chosen, other = request.config.stash[HOST], next(name for name in ADDRESSES if name != which)
    here, there = (paths.socket_dir(chosen.name(kernel, name)) / "wire" for name in (which, other))
    wire = f"dgram,id=wire,local.type=unix,local.path={here},remote.type=unix,remote.path={there}"
    card = f"virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:77:00:0{sorted(ADDRESSES).index(which)}"
    arguments = ("-netdev", wire, "-device", card)
    with own_host_vm(request, which, kernel, memory="2G", qemu_arguments=arguments) as host:
        if chosen.is_lab:  # libvirt migrates nothing to a host of the same name
            host.shell(f"hostname {which} && echo 127.0.0.1 {which} >> /etc/hosts")
        words = {"tcp": TCP, "address": ADDRESSES[which]}
        host.shell(f"ip addr replace {ADDRESSES[which]}/24 dev eth1 && ip link set eth1 up")
        try:
            host.shell(f"set -e; {OVER_THE_WIRE.format(**words)}")
            yield host
        finally:
            with suppress(HostVmDiedError):
                host.shell(AS_BEFORE.format(**words))


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Where the guest is first."""
    yield from host_vm(request, "leaves", request.param)


@pytest.fixture(scope="module")
def destination(request: pytest.FixtureRequest, host: Host) -> Iterator[Host]:
    """Where it goes, with the same kernel."""
    yield from host_vm(request, "arrives", "7.3" if host.shell("uname -r").startswith("7.") else "6.12")


def standing(daemon: Overcommitd) -> dict[str, Any] | None:
    """What a daemon says of the guest, None when it knows of none."""
    return next((d for d in daemon.status()["domains"] if d["name"] == "mover"), None)


def acts_told(daemon: Overcommitd) -> int:
    """Events of actions on the guest that it has logged; one that begins again as before is logged once."""
    return len(re.findall(r"mover: \w+: ", daemon.log()))


def size(text: str) -> float:
    """``48.0 MiB`` in MiB."""
    number, unit = text.split()
    return float(number) * {"B": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 1024.0}[unit]


def test_a_guest_migrates_with_what_was_taken_from_it(host: Host, destination: Host) -> None:
    """Frozen on its way, what is in swap is told, and the other side gives back what this one took."""
    host.lab.guest_add(SPEC)
    destination.lab.guests.expect(SPEC, destination.lab.image)
    host.await_workload("mover", "base")
    host.needs_all_for_a_while("mover")
    here, there = Overcommitd(host, POLICY), Overcommitd(destination, POLICY)
    small = MEMORY - 40 * MIB
    try:
        here.start()
        there.start()
        await_true(host, lambda: host.balloon_bytes("mover") < small, "balloon", PATIENT, here.log)
        await_true(host, lambda: host.swapped_bytes("mover") > 8 * MIB, "page-out", PATIENT, here.log)
        target = f"qemu+tcp://{ADDRESSES['arrives']}/system"
        begin = time.monotonic()
        host.shell(
            f"nohup virsh migrate --live --p2p mover {target} --migrateuri tcp://{ADDRESSES['arrives']} "
            f">{LOG} 2>&1 </dev/null &"
        )
        await_true(host, lambda: "mover migrates to another host" in here.log(), "freeze", PATIENT, here.log)
        told = re.search(r"mover migrates .*: (.*) of it \((.*)\) are in swap", here.log())
        assert told, here.log()
        assert size(told[1]) > 1.0
        # It logs that at once, and publishes at the end of the tick that what was at work has ended.
        still = lambda: (seen := standing(here)) is None or bool(seen["busy_with"] and not seen["doing"])  # noqa: E731
        await_true(host, still, "stillness", PATIENT, here.log)
        left_at, acts = host.balloon_bytes("mover"), acts_told(here)
        while (seen := standing(here)) is not None and seen["state"] == "running":
            assert time.monotonic() - begin < ON_ITS_WAY, host.shell(f"cat {LOG}")
            assert seen["doing"] is None
            assert seen["busy_with"] is None or "migration" in seen["busy_with"]
            time.sleep(2)
        assert acts_told(here) == acts, "something was begun while it left"
        await_true(
            host, lambda: destination.shell("virsh -q list --name --state-running") == "mover", "arrival",
            ON_ITS_WAY, lambda: host.shell(f"cat {LOG}"),
        )  # fmt: skip
        took = time.monotonic() - begin
        await_true(host, lambda: standing(here) is None, "end of it here", PATIENT, here.log)
        assert here.status()["mode"] == "active"

        there.await_said("mover: it came with", PATIENT)
        stat = destination.lab.guest_send("mover", "stat")
        assert (stat["errors"], stat["restarts"]) == (0, 0)
        assert destination.balloon_bytes("mover") >= left_at - MIB
        before = destination.balloon_bytes("mover")
        destination.lab.guest_send("mover", "wake")

        def it_did() -> bool:
            return destination.balloon_bytes("mover") > before + 16 * MIB and "mover: relief: " in there.log()

        relieved = await_true(destination, it_did, "relief", PATIENT, there.log)
        print(f"\n{told[1]} ({told[2]}) in swap; there after {took:.0f} s, relieved after {relieved:.0f} s")
    finally:
        restored = [daemon.undo() for daemon in (here, there)]
    assert [end.returncode for end in restored] == [0, 0], [end.stdout + end.stderr for end in restored]
    assert destination.balloon_bytes("mover") == pytest.approx(MEMORY, abs=MIB)
    assert "urn:overcommit:claim" not in destination.shell("virsh dumpxml mover")
    stat = destination.lab.guest_send("mover", "stat")
    assert (stat["errors"], stat["restarts"]) == (0, 0)
