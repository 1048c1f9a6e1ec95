"""The main job on real guests: what is cold comes back to the host, and nobody is hurt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, POLICY, REMOTE_POLICY, Host, domain_of, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick

HOT, TOTAL = 64 * MIB, 300 * MIB
GUEST_MEMORY = 512 * MIB
PACE = HOT // 4096 / 2
"""Pages that the guest touches in a second, when nothing slows it: all of its hot set every two seconds."""


@pytest.fixture(scope="module")
def guests(host: Host) -> Iterator[None]:
    """A guest with a steady hot set, and one that has freed most of what it used."""
    hot = {"total": "300M", "hot": "64M", "hz": "0.5"}
    host.lab.guest_add(GuestSpec("hot", workload="hotset", settings=hot))
    host.await_workload("hot", "touch")
    freed = {"total": "300M", "after": "1"}
    host.lab.guest_add(GuestSpec("freed", workload="freed", settings=freed, free_page_reporting=False))
    host.await_workload("freed", "freed")
    yield
    for name in ("hot", "freed"):
        host.lab.guest_remove(name)


@pytest.mark.usefixtures("guests")
def test_takes_back_what_is_cold_and_puts_everything_back(host: Host) -> None:
    """Plan, apply, restore, each checked against the guest's truth and the host's own counters."""
    found = host.damon()
    baseline = min(host.rate("hot"), PACE)

    planned = host.plan("--json", "-o", "/var/tmp/night.plan")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    hot = domain_of(plan, "hot")
    assert HOT / 1.5 <= hot["hot_bytes"] <= HOT * 1.5
    assert hot["cold_bytes"] >= 0.8 * (TOTAL - HOT)
    # By generations of pages where reclaim can be limited to anonymous memory (Linux 6.16).
    actor = "memcg-reclaim" if host.lab.vm.kernel.startswith("7.") else "cold-hint+reclaim"
    assert {(a["domain"]["name"], a["kind"], a.get("actor")) for a in plan["actions"]} == {
        ("freed", "balloon", None),
        ("hot", "pageout", actor),
    }
    assert host.damon() == found, "plan leaves DAMON as it was"

    resident, charged = host.resident_bytes("hot"), host.cgroup_bytes("hot")
    held = host.guest_ram_bytes("hot")
    applied = host.ctl(
        "apply", "-q", "--json", "--take-over", "--policy", REMOTE_POLICY, "/var/tmp/night.plan"
    )
    assert applied.returncode == 0, applied.stdout + applied.stderr
    done = {line["domain"]: line for line in json_lines(applied.stdout) if line["type"] == "done"}

    gone = held - host.guest_ram_bytes("hot")
    assert resident - host.resident_bytes("hot") >= 0.6 * hot["cold_bytes"]
    assert charged - host.cgroup_bytes("hot") >= 0.6 * hot["cold_bytes"]
    assert abs(done["hot"]["freed_bytes"] - gone) <= 8 * MIB, "what it reports is what the host got"
    assert host.resident_bytes("hot") >= hot["floor_bytes"]
    assert host.rate("hot") >= 0.9 * baseline

    target = domain_of(plan, "freed")["target_bytes"]
    assert host.balloon_bytes("freed") == pytest.approx(target, abs=2 * MIB)
    assert done["freed"]["freed_bytes"] >= 0.6 * (TOTAL - 64 * MIB)
    assert host.damon() == found

    restored = host.ctl("restore")
    assert restored.returncode == 0, restored.stderr
    assert host.balloon_bytes("freed") == pytest.approx(GUEST_MEMORY, abs=2 * MIB)
    assert host.damon() == found
    again = host.ctl("restore")
    assert (again.returncode, "Nothing to restore" in again.stdout) == (0, True)
    for name in ("hot", "freed"):
        assert host.lab.guest_send(name, "ping")["ok"]


@pytest.mark.usefixtures("guests")
def test_a_second_plan_finds_nothing_more_in_the_hot_guest(host: Host) -> None:
    """Idempotence: what was paged out is not planned again while it stays out."""
    planned = host.plan("--json", "--domain", "hot")
    plan = json.loads(planned.stdout)
    assert plan["actions"] == []
    assert domain_of(plan, "hot")["swapped_bytes"] >= 0.5 * (TOTAL - HOT)


@pytest.mark.usefixtures("guests")
def test_a_kdamond_pages_out_as_well_and_leaves_nothing_behind(host: Host) -> None:
    """The policy can name another actor than the default: here DAMON itself does the work."""
    host.touch_all("hot", TOTAL, usual="64M")
    found = host.damon()
    policy = POLICY.read_text().replace("reclaim: proactive", "pageout_actor: damos-fvaddr")
    host.lab.run("cat > /var/tmp/damos.yaml", stdin=policy)
    use = ("--take-over", "--policy", "/var/tmp/damos.yaml")
    planned = host.ctl("plan", "-q", "--json", "--domain", "hot", "-o", "/var/tmp/damos.plan", *use)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    (action,) = plan["actions"]
    assert (action["kind"], action["actor"]) == ("pageout", "damos-fvaddr")

    held = host.guest_ram_bytes("hot")
    applied = host.ctl("apply", "-q", "--json", *use, "/var/tmp/damos.plan")

    assert applied.returncode == 0, applied.stdout + applied.stderr
    gone = held - host.guest_ram_bytes("hot")
    assert gone >= 0.6 * domain_of(plan, "hot")["cold_bytes"]
    (done,) = (line for line in json_lines(applied.stdout) if line["type"] == "done")
    assert abs(done["freed_bytes"] - gone) <= 8 * MIB
    assert host.damon() == found
