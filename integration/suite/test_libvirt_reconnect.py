"""One connection that outlives libvirtd: what hangs holds up nothing else, and what comes back is found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import Host, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick("6.12")

UNREACHABLE = "libvirt is not reachable"
#: An emulated host is slow; a call that waits for its deadline takes 5 s, and a second more for the question
#: whether libvirtd is alive.
AT_ONCE, ONE_DEADLINE = 2.0, 9.0


@pytest.fixture(scope="module")
def guests(host: Host) -> Iterator[tuple[str, str]]:
    """The UUIDs of two guests."""
    for name in ("hangs", "works"):
        host.lab.guest_add(GuestSpec(name, memory="128M"))
    yield host.shell("virsh domuuid hangs"), host.shell("virsh domuuid works")
    for name in ("hangs", "works"):
        host.lab.guest_remove(name)


def call(host: Host, *steps: str) -> list[dict[str, Any]]:
    """Take the steps over one connection in the host VM."""
    host.lab.put(Path(__file__).with_name("caller.py"), "/var/tmp/caller.py")
    command = ["python3", "/var/tmp/caller.py", *steps]
    return json_lines(host.lab.run(command, timeout=300).stdout)


def test_a_restarted_libvirtd_is_found_again(host: Host, guests: tuple[str, str]) -> None:
    """Its end is told at once, and the next call is answered by the new one, whose events come too."""
    _, works = guests
    restart = "systemctl restart libvirtd && virsh -q list"  # it is started before it answers
    first, _, found, balloon, paused, event, _ = call(
        host, "domains", f"sh:{restart} >/dev/null", "domains", f"balloon:{works}",
        "sh:virsh suspend works; virsh resume works", "wait:5",
    )  # fmt: skip
    assert found["answer"] == first["answer"] == ["hangs", "works"]
    assert balloon["answer"] == 128
    # They come within the call to virsh, or right after it.
    assert ["lifecycle", works] in [wake[:2] for wake in (*paused["wakes"], *event["wakes"])]


def test_a_hung_qemu_costs_one_deadline_and_its_neighbour_nothing(
    host: Host, guests: tuple[str, str]
) -> None:
    """From the second call on it fails at once, and once it goes on it answers again."""
    hangs, works = guests
    pid = host.pid("hangs")
    try:
        _, _, _, late, soon, busy, other, listed, _, _, again, _ = call(
            host, f"balloon:{hangs}", f"balloon:{works}", f"sh:kill -STOP {pid}", f"balloon:{hangs}",
            f"balloon:{hangs}", f"busy_with:{hangs}", f"balloon:{works}", "domains", f"sh:kill -CONT {pid}",
            "sleep:3", f"balloon:{hangs}",
        )  # fmt: skip
    finally:
        host.shell(f"kill -CONT {pid}")
    assert "did not read its balloon" in late["error"]
    assert late["seconds"] < ONE_DEADLINE
    assert "an earlier call has not returned" in soon["error"]
    assert soon["seconds"] < AT_ONCE
    assert "monitor command in flight" in busy["answer"]
    assert other["answer"] == 128
    assert listed["answer"] == ["hangs", "works"]
    assert again["answer"] == 128


def test_a_hung_libvirtd_costs_one_deadline_in_all(host: Host, guests: tuple[str, str]) -> None:
    """It is told from a hung QEMU, and trusted again once it answers."""
    hangs, works = guests
    pid = host.shell("pidof libvirtd")
    try:
        _, _, late, *soon, _, _, again, _ = call(
            host, f"balloon:{works}", f"sh:kill -STOP {pid}", f"balloon:{works}", f"balloon:{hangs}",
            "domains", f"busy_with:{works}", f"sh:kill -CONT {pid}", "sleep:3", f"balloon:{works}",
        )  # fmt: skip
    finally:
        host.shell(f"kill -CONT {pid}")
    assert UNREACHABLE in late["error"]
    assert late["seconds"] < ONE_DEADLINE
    assert all(UNREACHABLE in step["error"] and step["seconds"] < AT_ONCE for step in soon)
    assert again["answer"] == 128
