"""Cold memory goes to a slower memory node before it goes to swap, on a host VM of its own with two nodes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.conftest import own_host_vm
from integration.suite.host import MIB, POLICY, domain_of, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.suite.host import Host

pytestmark = pytest.mark.quick("7.3")

HOT, TOTAL = 64 * MIB, 300 * MIB
PACE = HOT // 4096 / 2
SLOW_NODE = "/var/tmp/slow-node.yaml"
SAVED = "/var/tmp/slow-node.plan"


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host VM with a second node that has no CPU, and a guest with a steady hot set."""
    with own_host_vm(request, "nodes", request.param, nodes=2) as host:
        lab = host.lab
        policy = POLICY.read_text().replace("reclaim: proactive", "cold_node: 1")
        lab.run(f"cat > {SLOW_NODE}", stdin=policy.replace("balloon, pageout", "balloon, demotion, pageout"))
        settings = {"total": "300M", "hot": "64M", "hz": "0.5"}
        lab.guest_add(GuestSpec("web", workload="hotset", settings=settings))
        host.await_workload("web", "touch")
        yield host


@pytest.fixture(scope="module")
def plan(host: Host) -> dict[str, Any]:
    """The plan for it, saved as well."""
    planned = host.plan("--json", "-o", SAVED, policy=SLOW_NODE)
    assert planned.returncode == 0, planned.stderr
    made: dict[str, Any] = json.loads(planned.stdout)
    return made


def on_node(host: Host, nid: int) -> int:
    """What the kernel charges the domain for anonymous memory on a node."""
    line = host.shell(f"grep '^anon ' {host.cgroup('web')}/memory.numa_stat")
    return int(dict(figure.split("=") for figure in line.split()[1:])[f"N{nid}"])


def can_migrate(host: Host) -> bool:
    """DAMON moves memory of processes since Linux 6.17."""
    major, minor = host.shell("uname -r").split(".")[:2]
    return (int(major), int(minor)) >= (6, 17)


def test_cold_memory_moves_and_hot_memory_stays(host: Host, plan: dict[str, Any]) -> None:
    """By the host's own counters; nothing leaves memory, the guest works on, DAMON is left as it was."""
    if not can_migrate(host):
        pytest.skip("this kernel's DAMON moves no memory of processes")
    found, baseline, resident = host.damon(), min(host.rate("web"), PACE), host.guest_ram_bytes("web")
    (action,) = plan["actions"]
    assert (action["kind"], action["node"]) == ("demotion", 1)
    assert action["expected_bytes"] >= 0.8 * (TOTAL - HOT)
    assert on_node(host, 1) == action["before_bytes"] == 0

    applied = host.ctl("apply", "-q", "--json", "--take-over", "--policy", SLOW_NODE, SAVED)

    assert applied.returncode == 0, applied.stdout + applied.stderr
    (done,) = (line for line in json_lines(applied.stdout) if line["type"] == "done")
    assert done["moved_bytes"] >= 0.9 * action["expected_bytes"]
    assert abs(done["moved_bytes"] - on_node(host, 1)) <= 8 * MIB, "what it reports is what the host says"
    assert (done["freed_bytes"], domain_of(plan, "web")["swapped_bytes"]) == (0, 0)
    assert on_node(host, 0) >= HOT
    assert host.guest_ram_bytes("web") >= resident - 8 * MIB, "nothing left memory"
    assert host.rate("web") >= 0.9 * baseline
    assert host.damon() == found
    again = json.loads(host.plan("--json", policy=SLOW_NODE).stdout)
    # What the first watch had missed may follow; what lies there is neither moved nor paged out again.
    assert sum(a["expected_bytes"] for a in again["actions"]) <= 0.15 * action["expected_bytes"]
    assert {a["kind"] for a in again["actions"]} <= {"demotion"}
    assert all(a["after_bytes"] <= domain_of(again, "web")["cold_bytes"] for a in again["actions"])


def test_where_the_kernel_cannot_it_is_said_and_the_memory_is_paged_out(
    host: Host, plan: dict[str, Any]
) -> None:
    """Such a kernel takes the action and does nothing: it must not be asked."""
    if can_migrate(host):
        pytest.skip("this kernel's DAMON moves memory of processes")
    reason = "this kernel's DAMON cannot move the memory of a process to another node"
    assert domain_of(plan, "web")["eligible"]["demotion"] == {
        "ok": False,
        "reason": reason,
        "remedy": "boot Linux 6.17 or later",
    }
    assert [a["kind"] for a in plan["actions"]] == ["pageout"]
    doctor = host.ctl("doctor", "--probe", "--policy", SLOW_NODE)
    assert f"demotion cannot: {reason}" in doctor.stdout
