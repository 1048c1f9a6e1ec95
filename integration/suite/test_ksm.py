"""Equal pages of two guests are merged where the policy allows it, and KSM is put back to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, POLICY, Host, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

MERGING = "/var/tmp/merging.yaml"
SETTINGS = ("run", "pages_to_scan", "advisor_mode", "advisor_target_scan_time", "sleep_millisecs")
TOTAL = 64 * MIB


@pytest.fixture
def twins(host: Host) -> Iterator[None]:
    """Two guests whose workload fills its memory with the same, and leaves most of it alone."""
    policy = POLICY.read_text().replace("reclaim: proactive", "ksm: true")
    host.lab.run(f"cat > {MERGING}", stdin=policy.replace("balloon, pageout", ""))
    same = {"total": "64M", "hot": "4M", "hz": "0.5", "seed": "7"}
    for name in ("twin-a", "twin-b"):
        host.lab.guest_add(GuestSpec(name, memory="256M", workload="hotset", settings=same))
        host.await_workload(name, "touch")
    yield
    for name in ("twin-a", "twin-b"):
        host.lab.guest_remove(name)


def ksm(host: Host, *names: str) -> dict[str, str]:
    """Files of KSM's as they read."""
    listed = " ".join(names)
    return dict(
        line.split(":", 1) for line in host.shell(f"cd /sys/kernel/mm/ksm; grep -H . {listed}").splitlines()
    )


@pytest.mark.usefixtures("twins")
def test_equal_pages_are_merged_and_ksm_is_put_back_to_the_byte(host: Host) -> None:
    """What is reported is the kernel's own account, and what guests hold is as resident as before."""
    found, held = ksm(host, *SETTINGS), host.guest_ram_bytes("twin-a")
    assert found["run"] == "0"
    use = ("--take-over", "--policy", MERGING, "--observe-for", "8s")
    applied = host.ctl("apply", "-q", "--json", "--yes", *use)

    assert applied.returncode == 0, applied.stdout + applied.stderr
    (done,) = (line for line in json_lines(applied.stdout) if line["type"] == "done")
    assert (done["kind"], done["domain"], done["freed_bytes"]) == ("ksm", None, 0)
    assert ksm(host, "run") == {"run": "1"}
    profit = int(ksm(host, "general_profit", "run")["general_profit"])
    assert 0.5 * TOTAL <= done["merged_bytes"] <= profit + 8 * MIB
    assert host.guest_ram_bytes("twin-a") >= held - 8 * MIB
    again = json.loads(host.plan("--json", "--observe-for", "8s", policy=MERGING).stdout)
    assert again["actions"] == []
    assert any("KSM runs since generation" in note for note in again["notes"])

    restored = host.ctl("restore")
    assert restored.returncode == 0, restored.stderr
    assert ksm(host, *SETTINGS) == found
    assert "stays saved until guests write to those pages" in restored.stdout
    for name in ("twin-a", "twin-b"):
        assert host.lab.guest_send(name, "ping")["ok"]
