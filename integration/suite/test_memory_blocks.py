"""What guests are made of on other people's hosts: the kernel's own word decides, not the definition.

On a host VM of its own, which has an (emulated) IOMMU and a device to pass through.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.conftest import own_host_vm
from integration.suite.host import MIB, POLICY, REMOTE_POLICY, domain_of
from integration.suite.service import Overcommitd, await_true

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.suite.host import Host

MEMORY, TOTAL = 256 * MIB, 150 * MIB
DEVICE = "0000:00:10.0"
IOMMU = ("-device", "intel-iommu,intremap=off", "-device", "pci-testdev,addr=10")
SHORT = ("--observe-for", "8s")
SOME = 8 * MIB
"""What QEMU and a guest's kernel may do meanwhile."""

#: libvirt's own /dev and its limit of locked memory know nothing of a device on QEMU's command line.
LET_QEMU_HAVE_THE_DEVICE = f"""
set -e
modprobe vfio-pci
echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
echo vfio-pci > /sys/bus/pci/devices/{DEVICE}/driver_override
echo {DEVICE} > /sys/bus/pci/drivers_probe
group=$(basename $(readlink /sys/bus/pci/devices/{DEVICE}/iommu_group))
cat >> /etc/libvirt/qemu.conf <<END
namespaces = []
user = "root"
group = "root"
cgroup_device_acl = [ "/dev/null", "/dev/full", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/ptmx",
  "/dev/kvm", "/dev/vfio/vfio", "/dev/vfio/$group" ]
END
mkdir -p /etc/systemd/system/libvirtd.service.d
printf '[Service]\\nLimitMEMLOCK=infinity\\n' > /etc/systemd/system/libvirtd.service.d/lab.conf
systemctl daemon-reload
systemctl restart libvirtd
"""


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host VM with a device that can be passed through."""
    with own_host_vm(request, "blocks", request.param, append="intel_iommu=on", qemu_arguments=IOMMU) as host:
        host.lab.run(LET_QEMU_HAVE_THE_DEVICE)
        yield host


@contextmanager
def guest(host: Host, name: str, memory: str = "256M", **settings: Any) -> Iterator[str]:
    """A guest that uses a little of what it holds."""
    workload = {"total": "150M", "hot": "16M", "hz": "0.5"}
    host.lab.guest_add(GuestSpec(name, memory, "hotset", workload, free_page_reporting=False, **settings))
    try:
        host.await_workload(name, "touch")
        yield name
    finally:
        host.lab.guest_remove(name)


def planned(host: Host, *options: str) -> dict[str, Any]:
    """The plan, as JSON."""
    done = host.plan("--json", *options)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def doctor(host: Host) -> str:
    """What doctor says; it ends with a failure where DAMON is somebody else's."""
    said: str = host.ctl("doctor").stdout
    return said


def refusal(plan: dict[str, Any], name: str, actuator: str) -> str:
    """Why an actuator is not used on a domain."""
    verdict = domain_of(plan, name)["eligible"][actuator]
    assert not verdict["ok"], verdict
    reason: str = verdict["reason"]
    return reason


def acts_on(plan: dict[str, Any], name: str) -> set[str]:
    """What the plan does to a domain."""
    return {a["kind"] for a in plan["actions"] if a["domain"] and a["domain"]["name"] == name}


def test_what_a_shared_memfd_has_in_swap_is_seen_where_only_a_cell_says_so(host: Host) -> None:
    """The page map shows nothing of it where a page is out; smaps does."""
    with guest(host, "cell", backing="cell") as name:
        done = host.ctl("apply", "--yes", "--take-over", "--policy", REMOTE_POLICY)
        assert done.returncode == 0, done.stderr
        swapped = host.swapped_bytes(name)
        assert swapped > 32 * MIB, done.stdout
        domain = domain_of(planned(host, *SHORT), name)
        assert domain["swapped_bytes"] == pytest.approx(host.swapped_bytes(name), abs=SOME)
        assert domain["resident_bytes"] == pytest.approx(host.guest_ram_bytes(name), abs=SOME)


def test_ram_in_a_file_is_page_cache_and_nothing_is_taken_from_it(host: Host) -> None:
    """It goes back to its file by itself, and MemAvailable has it already."""
    with guest(host, "file", backing="file") as name:
        plan = planned(host, *SHORT)
        assert "the page cache of /var/lib/libvirt/qemu/ram/" in refusal(plan, name, "pageout")
        assert "the page cache of" in refusal(plan, name, "balloon")
        assert acts_on(plan, name) == set()
        assert domain_of(plan, name)["resident_bytes"] == 0


def test_an_nvdimm_is_no_ram(host: Host) -> None:
    """Its file is larger than the guest's RAM, of which its kernel needs more than usual for it."""
    with guest(host, "pmem", memory="384M", nvdimm="512M") as name:
        plan = planned(host)
        domain = domain_of(plan, name)
        assert domain["ceiling_bytes"] == 384 * MIB
        anonymous = int(host.shell(f"grep '^anon ' {host.cgroup(name)}/memory.stat").split()[1])
        assert domain["resident_bytes"] <= anonymous, "what it writes to is RAM, the file is not"
        assert domain["resident_bytes"] > TOTAL - SOME
        taken = sum(a["expected_bytes"] for a in plan["actions"] if a["domain"]["name"] == name)
        assert taken < domain["resident_bytes"]


def test_blocks_in_huge_pages_free_nothing_for_others(host: Host) -> None:
    """What they give only the pool of huge pages would get."""
    with guest(host, "huge", plug="128M", plug_pages="2M") as name:
        plan = planned(host, *SHORT)
        assert f"domain {name}: virtio_mem cannot: its virtio-mem is in hugetlb pages" in doctor(host)
        assert acts_on(plan, name) <= {"pageout"}
        assert host.shell("cat /proc/sys/vm/nr_hugepages") == "64"


def test_an_emulated_tpm_is_named_and_accounted_for(host: Host) -> None:
    """Libvirt puts swtpm into the domain's own cgroup."""
    with guest(host, "tpm", tpm=True) as name:
        processes = host.shell(
            f"for p in $(cat {host.cgroup(name)}/cgroup.procs); do cat /proc/$p/comm; done"
        )
        assert "swtpm" in processes.split(), processes
        plan = planned(host, *SHORT)
        assert domain_of(plan, name)["eligible"]["pageout"]["ok"]
        assert not [said for said in plan["host"]["budget"]["rests_on"] if "overhead" in said]


def test_a_slice_that_may_not_swap_forbids_page_out(host: Host) -> None:
    """In the plan, in doctor and in the worst case alike."""
    with guest(host, "slice") as name:
        host.shell("systemctl set-property --runtime machine.slice MemorySwapMax=0")
        try:
            plan, said = planned(host, *SHORT), doctor(host)
        finally:
            host.shell("systemctl set-property --runtime machine.slice MemorySwapMax=infinity")
        assert "may not swap (memory.swap.max 0 of " in refusal(plan, name, "pageout")
        assert "machine.slice" in refusal(plan, name, "pageout")
        assert "machine.slice" in said
        assert plan["host"]["budget"]["worst_case"]["swap_bytes"] == 0
        assert domain_of(planned(host, *SHORT), name)["eligible"]["pageout"]["ok"]


def test_a_device_on_qemus_command_line_pins_guest_memory(host: Host) -> None:
    """Real VFIO, with an emulated IOMMU: libvirt knows nothing of it, the kernel does."""
    with guest(host, "vfio", vfio=DEVICE) as name:
        status = host.shell(f"cat /proc/{host.pid(name)}/status")
        locked = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmLck:"))
        assert locked * 1024 >= MEMORY, "VFIO pins all guest memory"
        plan = planned(host, *SHORT)
        assert "VFIO" in refusal(plan, name, "balloon")
        assert "VFIO" in refusal(plan, name, "pageout")
        assert acts_on(plan, name) == set()
        assert domain_of(plan, name)["resident_bytes"] == pytest.approx(MEMORY, abs=SOME)


def test_a_guest_that_reports_absurd_figures_is_noted_and_the_others_are_looked_after(host: Host) -> None:
    """Its balloon says that it holds 16 TiB, so that QEMU reports a size near 2^64; and so is all else."""
    with guest(host, "honest") as honest, guest(host, "absurd", balloon="absurd") as absurd:
        actual = host.balloon_statistics(absurd)["actual"]
        assert actual > 2**50, "QEMU subtracts what the guest says"
        plan = planned(host, *SHORT)
        assert "balloon" in acts_on(plan, honest) or domain_of(plan, honest)["eligible"]["balloon"]["ok"]
        assert acts_on(plan, absurd) == set()
        assert str(domain_of(plan, absurd)["gaps"]), "what it says is a gap"
        daemon = Overcommitd(host, POLICY.read_text())
        daemon.start()
        try:
            await_true(host, lambda: host.swapped_bytes(honest) > 2 * SOME, "page-out of it", 600, daemon.log)
            status = daemon.status()
            assert status["mode"] == "active"
            assert {d["name"] for d in status["domains"]} == {honest, absurd}
        finally:
            restored = daemon.undo()
        assert restored.returncode == 0, restored.stderr
