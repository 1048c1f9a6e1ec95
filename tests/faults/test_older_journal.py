"""A journal that an earlier version wrote is restored by this one (rules S4, S10).

``tests/data/journal-v1`` is what `leave_behind` wrote with the format before lines had a checksum: its
controller died at work. The same host is brought into the same state here, and restored from those files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from overcommit.apply.claims import stake
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import host_monitor
from overcommit.hypervisor.guest_agent import DAMON_RECLAIM
from overcommit.journal import BalloonMoved, GuestReclaimSet, Journal, KsmStarted, MemoryDeviceResized
from overcommit.model.facts import Incarnation
from overcommit.model.ranges import Range
from overcommit.policy import loader
from overcommit.testing import FakeAgent, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import GIB, MIB
from tests.faults.conftest import POLICY, Installation

SAMPLE = Path(__file__).parent.parent / "data" / "journal-v1"


def a_host(directory: Path) -> Installation:
    """A guest with blocks, one with an agent, and damon_stat at work."""
    names = ("blocks", "web")
    host = FakeHost(
        [
            FakeGuest(
                name=name,
                uuid=f"00000000-0000-0000-0000-00000000000{number}",
                pid=500 + number,
                memory_bytes=640 * MIB,
                device_bytes=256 * MIB if name == "blocks" else 0,
                resident=set(range(60)),
                agent=FakeAgent() if name == "web" else None,
            )
            for number, name in enumerate(names, start=1)
        ],
        total_bytes=2 * GIB,
    )
    kernel = FakeKernel(host)
    kernel.damon.modules["damon_stat"] = True
    policy = loader.parse(POLICY.format(actor="damos-fvaddr"), "policy.yaml")
    return Installation(host, kernel, directory, policy)


def leave_behind(installation: Installation) -> None:
    """Change each thing that there is to change, with its record, and die at it."""
    host, journal, boot = installation.host, Journal(installation.directory), installation.boot_id
    hypervisor = FakeHypervisor(host)
    blocks, web = (
        Incarnation(uuid=g.uuid, name=g.name, pid=g.pid, start_time=g.start_time) for g in host.guests
    )
    journal.lock()
    earlier = journal.begin("apply", boot_id="00000000-0000-0000-0000-00000000b007", started_at=1.0)
    earlier.record(BalloonMoved(domain=web, before_bytes=640 * MIB, after_bytes=64 * MIB))
    first = journal.begin("apply", boot_id=boot, started_at=2.0)
    for size in (512 * MIB, 448 * MIB):
        first.record(BalloonMoved(domain=web, before_bytes=640 * MIB, after_bytes=size))
        stake(hypervisor, web, "balloon", 640 * MIB)
        hypervisor.set_balloon(web.uuid, size)
    first.record(
        MemoryDeviceResized(domain=blocks, device="virtiomem0", before_bytes=256 * MIB, after_bytes=0)
    )
    stake(hypervisor, blocks, "device virtiomem0", 256 * MIB)
    hypervisor.resize_memory_device(blocks.uuid, "virtiomem0", 0)
    ksm = KsmStarted(
        before={"pages_to_scan": "100", "advisor_mode": "none", "run": "0"},
        after={"pages_to_scan": "100", "advisor_mode": "scan-time", "run": "1"},
    )
    first.record(ksm)
    for name in ("advisor_mode", "run"):
        installation.kernel.write(f"/sys/kernel/mm/ksm/{name}", ksm.after[name])
    agent = host.guests[1].agent
    assert agent is not None
    inside = GuestReclaimSet(
        domain=web, before={"min_age": "120000000", "enabled": "N"}, after={"min_age": "60000000", "enabled": "Y"}
    )
    first.record(inside)
    for name, value in inside.after.items():
        agent.files[f"{DAMON_RECLAIM}/{name}"] = value
    second = journal.begin("apply", boot_id=boot, started_at=3.0)
    settled = second.record(BalloonMoved(domain=web, before_bytes=448 * MIB, after_bytes=400 * MIB))
    second.settle(settled)
    pool = DamonPool(installation.kernel, journal, second)
    pool.claim(2, take_over=True)
    pool.trace(1 << 16)
    pool.start(0, host_monitor((Range(0, GIB),)))
    with second.path.open("ab") as torn:
        torn.write(b'{"number": 5, "record": {"kind": "Kdamo')
    journal.unlock()


def test_restore_brings_the_baseline_back_from_the_sample(tmp_path: Path) -> None:
    installation = a_host(tmp_path / "state")
    found = installation.baseline()
    leave_behind(installation)
    assert installation.baseline() != found
    shutil.rmtree(installation.directory)
    shutil.copytree(SAMPLE, installation.directory)

    result = installation.restore()

    assert result.left == ()
    assert installation.baseline() == found
    assert installation.host.guests[1].agent is not None
    assert installation.host.guests[1].agent.files[f"{DAMON_RECLAIM}/enabled"] == "N"
    assert installation.outstanding == 0
