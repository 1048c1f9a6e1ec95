"""Help inside of a guest whose owner agreed: its free memory in pieces becomes the host's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, POLICY, Host, domain_of, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick("6.12")

AGREED = "/var/tmp/agreed.yaml"


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[str]:
    """It holds about half of the pages that it once used; its agent runs."""
    host.lab.guest_add(GuestSpec("frag", "256M", "frag", {"total": "120M", "after": "1"}, agent=True))
    host.await_workload("frag", "freed")
    policy = POLICY.read_text().replace("floor: 20%", "floor: 20%\n    guest_help: [compaction]")
    host.lab.run(f"cat > {AGREED}", stdin=policy.replace(", balloon, pageout]", "]"))
    yield "frag"
    host.lab.guest_remove("frag")


def test_a_compaction_gives_the_host_what_is_free_in_pieces(host: Host, guest: str) -> None:
    """Nobody's memory is lost, and nothing is left to undo."""
    use = ("--take-over", "--policy", AGREED)
    planned = host.ctl(
        *("plan", "-q", "--json", "--domain", guest, "--observe-for", "8s", "-o", "/var/tmp/f.plan"), *use
    )
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    (action,) = plan["actions"]
    assert (action["kind"], domain_of(plan, guest)["guest_help"]["compaction"]["ok"]) == (
        "free_page_reporting",
        True,
    )
    held, uses = host.guest_ram_bytes(guest), host.lab.guest_send(guest, "stat")["total_bytes"]

    applied = host.ctl("apply", "-q", "--json", *use, "/var/tmp/f.plan")

    assert applied.returncode == 0, applied.stdout + applied.stderr
    gone = held - host.guest_ram_bytes(guest)
    assert gone >= action["expected_bytes"]
    (done,) = (line for line in json_lines(applied.stdout) if line["type"] == "done")
    assert abs(done["freed_bytes"] - gone) <= 8 * MIB, "what it reports is what the host got"
    assert host.lab.guest_send(guest, "stat")["total_bytes"] == uses
    assert host.balloon_bytes(guest) == pytest.approx(256 * MIB, abs=MIB)
    assert "Nothing to restore" in host.ctl("restore").stdout
