"""A definition that ``prepare`` changed: after a power cycle reporting works, and undo is exact."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host, domain_of

if TYPE_CHECKING:
    from collections.abc import Iterator

USED = 120 * MIB
WATCH = ("--observe-for", "8s", "--json", "--domain", "plain")
INACTIVE = "virsh dumpxml --inactive --security-info plain"


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[str]:
    """It used 120 MiB once and freed them; its definition, a persistent one, has no reporting."""
    settings = {"total": "120M", "after": "3"}
    host.lab.guest_add(GuestSpec("plain", "256M", "freed", settings, free_page_reporting=False))
    try:
        host.shell(f"{INACTIVE} > /var/tmp/plain.xml && virsh -q define /var/tmp/plain.xml")
        host.await_workload("plain", "freed")
        yield "plain"
    finally:
        host.lab.run("virsh -q undefine plain", check=False)
        host.lab.guest_remove("plain")


def test_a_power_cycle_after_prepare_gives_the_host_what_the_guest_frees(host: Host, guest: str) -> None:
    """What runs goes on as it was; the definition comes back byte for byte."""
    before, held = host.shell(INACTIVE), host.guest_ram_bytes(guest)
    assert held >= USED, "without reporting the host keeps what the guest freed"
    plan = json.loads(host.plan(*WATCH).stdout)
    assert any("free page reporting would have given" in note for note in plan["notes"])
    assert "freePageReporting='on'" not in before

    prepared = host.ctl("prepare", guest, "--apply", "--json")

    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    (told,) = json.loads(prepared.stdout)["domains"]
    assert (told["written"], "free page reporting" in told["lacks"]) == (True, True)
    assert "freePageReporting='on'" in host.shell(INACTIVE)
    assert "freePageReporting='on'" not in host.shell(f"virsh dumpxml {guest}"), "it runs on as it was"
    host.shell(f"virsh -q destroy {guest} && virsh -q start {guest}")
    host.await_workload(guest, "freed")
    deadline = time.monotonic() + 120
    while (now := host.guest_ram_bytes(guest)) > held - USED * 3 // 4:
        assert time.monotonic() < deadline, f"{now // MIB} MiB are held, {held // MIB} were"
        time.sleep(2)
    plan = json.loads(host.plan(*WATCH).stdout)
    assert domain_of(plan, guest)["eligible"]["free_page_reporting"]["ok"]

    undone = host.ctl("restore", "--definitions")

    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert host.shell(INACTIVE) == before
