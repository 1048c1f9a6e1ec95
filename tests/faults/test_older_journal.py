"""A journal that an earlier version wrote is restored by this one (rules S4, S10).

``tests/data/journal-v1`` was written by the program itself, before lines had a checksum, by a controller that
died at work. The same host is brought into the same state here, and restored from those files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from overcommit.damon.schemes import host_monitor
from overcommit.damon.sysfs import DamonSysfs
from overcommit.damon.trace import AccessTrace
from overcommit.hypervisor.guest_agent import DAMON_RECLAIM
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
    """Change each thing that there is to change, as that version did."""
    host, kernel, hypervisor = installation.host, installation.kernel, FakeHypervisor(installation.host)
    blocks, web = host.guests
    assert web.agent is not None
    hypervisor.set_claim(web.uuid, {"balloon": 640 * MIB})
    hypervisor.set_balloon(web.uuid, 448 * MIB)
    hypervisor.set_claim(blocks.uuid, {"device virtiomem0": 256 * MIB})
    hypervisor.resize_memory_device(blocks.uuid, "virtiomem0", 0)
    for name, value in {"advisor_mode": "scan-time", "run": "1"}.items():
        kernel.write(f"/sys/kernel/mm/ksm/{name}", value)
    web.agent.files |= {f"{DAMON_RECLAIM}/min_age": "60000000", f"{DAMON_RECLAIM}/enabled": "Y"}
    kernel.write("/sys/module/damon_stat/parameters/enabled", "N")
    sysfs = DamonSysfs(kernel)
    sysfs.set_slots(2)
    AccessTrace(kernel).open(1 << 16)
    sysfs.configure(0, host_monitor((Range(0, GIB),)), sysfs.probe(0))
    sysfs.command(0, "on")


def test_restore_brings_the_baseline_back_from_the_sample(tmp_path: Path) -> None:
    installation = a_host(tmp_path / "state")
    found = installation.baseline()
    leave_behind(installation)
    assert installation.baseline() != found
    shutil.copytree(SAMPLE, installation.directory)

    result = installation.restore()

    assert result.left == ()
    assert installation.baseline() == found
    assert installation.host.guests[1].agent is not None
    assert installation.host.guests[1].agent.files[f"{DAMON_RECLAIM}/enabled"] == "N"
    assert installation.outstanding == 0
