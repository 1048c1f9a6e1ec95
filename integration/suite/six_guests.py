"""Six guests on a host that has promised them half as much again as it has; three of them are no help."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, POLICY, json_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from integration.suite.host import Host

HOST_MEMORY = "2G"
APPLIED_IN_PART = 3
SIX = "/var/tmp/six-guests.yaml"

PACE = {"web": 16 * MIB / 4096 / 2, "files": 32 * MIB / 4096 / 4}
"""Pages that the busy guests touch, or read, in a second when nothing slows them."""
GIVEN_UP = 96 * MIB
"""What the web guest needed for a while, and freed."""
WINDOW_SECONDS = 8


class Role(NamedTuple):
    """A guest, and the phase of its workload that it is at work in."""

    guest: GuestSpec
    phase: str


#: The honest ones have swap of their own: a guest that is squeezed too hard would use it.
HONEST = (
    Role(
        GuestSpec("web", "512M", "hotset", {"total": "80M", "hot": "16M", "hz": "0.5"}, swap="64M"), "touch"
    ),
    Role(
        GuestSpec("files", "320M", "pagecache", {"files": "120M", "hot": "32M", "hz": "0.25"}, swap="64M"),
        "read",
    ),
    Role(GuestSpec("anon", "512M", "idle", {"total": "100M"}, swap="64M"), "idle"),
)
LIARS = (
    Role(GuestSpec("needy", "576M", "idle", {"total": "100M"}, balloon="needy"), "idle"),
    Role(GuestSpec("phantom", "576M", "idle", {"total": "160M"}, balloon="phantom"), "idle"),
    Role(GuestSpec("deaf", "576M", "idle", {"total": "100M"}, balloon="nodriver"), "idle"),
)
NAMES = tuple(role.guest.name for role in HONEST + LIARS)
HONEST_NAMES = tuple(role.guest.name for role in HONEST)


class Look(NamedTuple):
    """One guest by the host's own counters, without the product."""

    resident: int
    swapped: int
    said: dict[str, int]


class Story(NamedTuple):
    """All that happened."""

    held: int
    """What the host held for the web guest while that held what it freed later."""
    freed: int
    """And after that, before anything else."""
    alone: dict[str, Any]
    """The plan while there were only the honest guests."""
    before: dict[str, Look]
    status: int
    lines: list[dict[str, Any]]
    after: dict[str, Look]
    guest_swap: dict[str, dict[str, int]]
    rates: tuple[dict[str, float], dict[str, float]]
    """Of the busy guests, with all six at work, before and after."""
    again: dict[str, Any]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one type, in order."""
        return [line for line in self.lines if line["type"] == kind]

    @property
    def ends(self) -> dict[tuple[str, str], dict[str, Any]]:
        """How each action ended, by domain and kind."""
        return {(line["domain"], line["kind"]): line for line in self.lines if "status" in line}


def say(sentence: str) -> None:
    """On stderr."""
    print(f"six guests: {sentence}", file=sys.stderr)


class Clock:
    """Tells how long each act took."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, what: str) -> None:
        """An act is over."""
        now = time.monotonic()
        say(f"{what} after {now - self._began:.0f} s")
        self._began = now


def play(host: Host) -> Story:
    """From the first guest to the second plan, and a look at their pace after it."""
    # The idle guests' working sets are a few MiB, of which 1 % is too few pages to tell pain by.
    policy = POLICY.read_text().replace("_after: 30s", "_after: 15s").replace("1%/min", "5%/min")
    host.lab.run(f"cat > {SIX}", stdin=policy)
    clock = Clock()
    start(host, HONEST[0])
    held, freed = give_up_memory(host, "web")
    clock.tell("the web guest has freed what it had needed")
    suspend(host, HONEST[:1])
    start_in_turn(host, HONEST[1:])
    resume(host, HONEST)
    clock.tell("the honest guests are at work")
    alone = plan(host)
    clock.tell("they were planned for")
    suspend(host, HONEST)
    start_in_turn(host, LIARS)
    resume(host, HONEST + LIARS)
    await_statistics(host)
    clock.tell("all six are at work")
    calm = rates(host)
    before = look(host)
    clock.tell("they were looked at")
    applied = host.ctl("apply", "-q", "--yes", "--json", "--take-over", "--policy", SIX)
    assert applied.returncode in {0, APPLIED_IN_PART}, applied.stdout + applied.stderr
    lines = json_lines(applied.stdout)
    after = look(host)
    clock.tell("applied")
    swap = {name: host.lab.guest_send(name, "mem") for name in HONEST_NAMES}
    again = plan(host)
    clock.tell("planned again")
    later = rates(host)
    clock.tell("they were looked at again")
    told = Story(held, freed, alone, before, applied.returncode, lines, after, swap, (calm, later), again)
    show(told)
    return told


def show(story: Story) -> None:
    """What was measured, for people (pytest -s)."""
    say(f"web held {story.held // MIB} MiB, and {story.freed // MIB} after it had freed {GIVEN_UP // MIB}")
    for line in story.lines:
        if "status" in line:
            freed = f"freed {line['freed_bytes'] / MIB:.1f} MiB in {line['seconds']:.0f} s"
            say(f"{line['kind']} {line['domain']}: {line['status']}, {freed}; {line['detail']}")
    for name in NAMES:
        before, after = story.before[name], story.after[name]
        say(f"{name}: resident {before.resident // MIB} -> {after.resident // MIB} MiB, "
            f"swapped {after.swapped / MIB:.1f}, balloon {after.said['actual'] // 1024}")  # fmt: skip
    say(f"rates before and after: {story.rates}; left: {amounts(story.again['actions'])}")


def start(host: Host, role: Role) -> None:
    """And wait until it is at work."""
    host.lab.guest_add(role.guest)
    host.await_workload(role.guest.name, role.phase)


def start_in_turn(host: Host, roles: Sequence[Role]) -> None:
    """Each is stopped when it is at work, so that the next has the processor alone."""
    for role in roles:
        start(host, role)
        suspend(host, [role])


def suspend(host: Host, roles: Sequence[Role]) -> None:
    """Stop guests."""
    host.shell("; ".join(f"virsh -q suspend {role.guest.name}" for role in roles))


def resume(host: Host, roles: Sequence[Role]) -> None:
    """Let them go on."""
    host.shell("; ".join(f"virsh -q resume {role.guest.name}" for role in roles))


def give_up_memory(host: Host, guest: str) -> tuple[int, int]:
    """Have a guest need memory for a while; what the host holds for it then, and after it was freed."""
    host.lab.guest_send(guest, f"alloc {GIVEN_UP}")
    deadline = time.monotonic() + 120
    while host.lab.guest_send(guest, "stat")["extra_bytes"] < GIVEN_UP:
        assert time.monotonic() < deadline, "the guest does not get its memory"
        time.sleep(1)
    held = freed = host.guest_ram_bytes(guest)
    host.lab.guest_send(guest, "free")
    deadline = time.monotonic() + 30
    while held - freed < 0.7 * GIVEN_UP and time.monotonic() < deadline:
        time.sleep(1)
        freed = host.guest_ram_bytes(guest)
    return held, freed


def await_statistics(host: Host) -> None:
    """Wait until every guest that speaks has spoken since: a balloon is not moved on old news."""
    now = int(host.shell("date +%s"))
    deadline = time.monotonic() + 60
    for name in NAMES:
        while name != "deaf" and host.balloon_statistics(name).get("last_update", 0) <= now:
            assert time.monotonic() < deadline, f"{name} says nothing"
            time.sleep(1)


def look(host: Host) -> dict[str, Look]:
    """All six guests, now."""
    return {
        name: Look(host.guest_ram_bytes(name), host.swapped_bytes(name), host.balloon_statistics(name))
        for name in NAMES
    }


def rates(host: Host) -> dict[str, float]:
    """What the busy guests do in a second, by their own clock and count: the better of two windows."""
    seen = [{name: host.lab.guest_send(name, "stat") for name in PACE}]
    for _ in range(2):
        time.sleep(WINDOW_SECONDS)
        seen.append({name: host.lab.guest_send(name, "stat") for name in PACE})
    return {
        name: max(
            (b[name]["ops"] - a[name]["ops"]) / (b[name]["t"] - a[name]["t"]) for a, b in pairwise(seen)
        )
        for name in PACE
    }


def plan(host: Host) -> dict[str, Any]:
    """For all guests that there are."""
    planned = host.plan("--json", policy=SIX)
    assert planned.returncode == 0, planned.stderr
    made: dict[str, Any] = json.loads(planned.stdout)
    return made


def amounts(actions: Sequence[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """The bytes wanted of each domain by each rung."""
    name = [a["domain"]["name"] if isinstance(a["domain"], dict) else a["domain"] for a in actions]
    return {(n, a["kind"]): a["expected_bytes"] for n, a in zip(name, actions, strict=True)}
