"""The guests that the other tests judge by: each really does what it says, and the agent answers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host

if TYPE_CHECKING:
    from collections.abc import Callable


def await_stat(
    host: Host, guest: str, reached: Callable[[dict[str, Any]], bool], timeout: float = 180
) -> dict[str, Any]:
    """What the guest says of itself, once it says the right thing."""
    deadline = time.monotonic() + timeout
    while not reached(stat := host.lab.guest_send(guest, "stat")):
        assert time.monotonic() < deadline, stat
        time.sleep(1)
    return stat


@pytest.fixture
def guest(host: Host, request: pytest.FixtureRequest) -> Any:
    """One guest of the kind asked for, gone afterwards."""
    spec: GuestSpec = request.param
    host.lab.guest_add(spec)
    yield spec.name
    host.lab.guest_remove(spec.name)


@pytest.mark.parametrize(
    "guest",
    [GuestSpec("phases", "256M", "phases", {"total": "96M", "hot": "16M", "every": "4"})],
    indirect=True,
)
def test_the_hot_set_of_phases_moves(host: Host, guest: str) -> None:
    """Its address, not its size."""
    # A phase begins a moment before its hot set is there: what moved twice has had a whole one in between.
    first = await_stat(host, guest, lambda stat: stat["phase"] == "touch" and stat["hot_bytes"] > 0)
    second = await_stat(host, guest, lambda stat: stat["hot_from"] != first["hot_from"])
    third = await_stat(host, guest, lambda stat: stat["hot_from"] != second["hot_from"])
    assert first["hot_bytes"] == second["hot_bytes"] == third["hot_bytes"] == 16 * MIB
    assert third["phase_no"] > first["phase_no"]


@pytest.mark.parametrize(
    "guest", [GuestSpec("hog", "256M", "hog", {"total": "128M", "base": "16M"})], indirect=True
)
def test_a_hog_takes_all_its_memory_when_woken(host: Host, guest: str) -> None:
    """And the host sees it, but for the pages that the guest had used before, at boot."""
    await_stat(host, guest, lambda stat: stat["phase"] == "base" and stat["ops"] > 0)
    before = host.resident_bytes(guest)
    assert host.lab.guest_send(guest, "wake")["ok"]
    grown = await_stat(host, guest, lambda stat: stat["phase"] == "full")
    assert grown["total_bytes"] == 128 * MIB
    assert grown["need_us"] > 0
    assert host.resident_bytes(guest) - before >= 80 * MIB


@pytest.mark.parametrize(
    "guest", [GuestSpec("kv", "256M", "kv", {"keys": "20000"}, agent=True)], indirect=True
)
def test_a_key_value_server_serves_and_the_guest_agent_answers(host: Host, guest: str) -> None:
    """A real server under a zipfian load, in the guest that has QEMU's agent as well."""
    serving = await_stat(host, guest, lambda stat: stat["phase"] == "serve" and stat["ops"] > 0)
    assert serving["server"] == "memcached"
    later = await_stat(host, guest, lambda stat: stat["ops"] >= serving["ops"] + 100)
    assert (later["errors"], later["server_restarts"]) == (0, 0)
    answer = json.loads(host.shell(f'virsh -q qemu-agent-command {guest} \'{{"execute": "guest-info"}}\''))
    commands = {each["name"] for each in answer["return"]["supported_commands"] if each["enabled"]}
    assert {"guest-ping", "guest-file-open", "guest-exec"} <= commands
