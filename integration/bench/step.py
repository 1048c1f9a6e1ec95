"""Somebody needs everything at once: a guest that wakes, and a new one on a full host.

::

    python -m integration.bench.step --kernel 7.3 --out docs/measurements

The same guest wakes twice in one lab, before overcommitd was there and after that took from it, so that
the two compare. Then a promise is asked for that only memory of others can keep, and a guest started on it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from integration.bench import service
from integration.bench.pace import stalled_seconds
from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab
from integration.suite.host import MIB, Host
from integration.suite.six_guests import Role, resume, start_in_turn, suspend

HOST_MEMORY = "1600M"
EXTRA, TOTAL, HOT = 128 * MIB, 192 * MIB, 16 * MIB
SLEEPER = Role(
    GuestSpec("sleeper", "448M", "hotset", {"total": str(TOTAL), "hot": str(HOT), "hz": "0.5"}), "touch"
)
OTHERS = tuple(
    Role(GuestSpec(name, "384M", "hotset", {"total": "256M", "hot": "16M", "hz": "0.25"}), "touch")
    for name in ("one", "two")
)
NEW = GuestSpec("new", "384M", "idle", {"total": "256M"})
TAKEN_SECONDS, WAKE_SECONDS, WANTED = 300.0, 300.0, "420MiB"


@dataclass(frozen=True, kw_only=True)
class Wake:
    """How a guest fared from when it needed everything until it had touched all of it; sizes are MiB."""

    held_mib: int
    swapped_mib: float
    balloon_mib: int
    seconds_to_allocate: float | None
    seconds_to_touch: float | None
    stalled_seconds: float
    worst_ms: float
    memory_came_back_pages: int


def say(sentence: str) -> None:
    """On stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} step: {sentence}", file=sys.stderr, flush=True)


def read_back(host: Host, guest: str) -> int:
    """Pages that the guest's cgroup had to read from swap so far; major faults before Linux 6.13."""
    lines = host.shell(f"cat {host.cgroup(guest)}/memory.stat").splitlines()
    statistics = dict(line.split() for line in lines)
    return int(statistics.get("pswpin", statistics["pgmajfault"]))


def wake(host: Host, guest: str) -> Wake:
    """The guest touches all that it has, and allocates more beside that; then it is small again."""
    held, swapped, balloon = (
        host.guest_ram_bytes(guest), host.swapped_bytes(guest), host.balloon_bytes(guest),
    )  # fmt: skip
    stalled, back = stalled_seconds(host, guest), read_back(host, guest)
    began = host.lab.guest_send(guest, "stat")
    host.lab.guest_send(guest, f"alloc {EXTRA}")
    host.lab.guest_send(guest, f"set hot={TOTAL}")
    allocated = touched = None
    worst, deadline = 0.0, time.monotonic() + WAKE_SECONDS
    while (allocated is None or touched is None) and time.monotonic() < deadline:
        time.sleep(1)
        now = host.lab.guest_send(guest, "stat")
        worst = max(worst, now["max_us"] / 1000)
        seconds = round(now["t"] - began["t"], 1)
        if allocated is None and now["extra_bytes"] >= EXTRA:
            allocated = seconds
        # each page of it once, whatever was left of the pass that it was at
        if touched is None and now["ops"] - began["ops"] >= (TOTAL + HOT) // 4096:
            touched = seconds
    found = Wake(
        held_mib=held // MIB,
        swapped_mib=round(swapped / MIB, 1),
        balloon_mib=balloon // MIB,
        seconds_to_allocate=allocated,
        seconds_to_touch=touched,
        stalled_seconds=round(stalled_seconds(host, guest) - stalled, 2),
        worst_ms=round(worst, 1),
        memory_came_back_pages=read_back(host, guest) - back,
    )
    host.lab.guest_send(guest, "free")
    host.lab.guest_send(guest, f"set hot={HOT}")
    return found


def await_taken(host: Host, guest: str) -> float:
    """Wait until the daemon has taken of the guest what it takes: no more of it in half a minute."""
    began, last, since = time.monotonic(), -1, time.monotonic()
    while time.monotonic() - began < TAKEN_SECONDS:
        time.sleep(10)
        taken = (host.swapped_bytes(guest) - host.balloon_bytes(guest)) // (4 * MIB)
        if taken != last:
            last, since = taken, time.monotonic()
        elif time.monotonic() - since > 40 and host.swapped_bytes(guest) > 32 * MIB:
            break
    return time.monotonic() - began


def reserve(host: Host) -> dict[str, Any]:
    """Ask for a promise on a full host, and start the guest that it is for."""
    names = [role.guest.name for role in (SLEEPER, *OTHERS)]
    stalled = {name: stalled_seconds(host, name) for name in names}
    paces = {name: host.lab.guest_send(name, "stat") for name in names}
    available = int(host.shell("awk '/^MemAvailable/ { print $2 }' /proc/meminfo")) // 1024
    began = time.monotonic()
    asked = host.ctl("reserve", WANTED, "--for", NEW.name, "--timeout", "5min", "--json", timeout=700)
    granted_after = time.monotonic() - began
    say(f"reserve ended with {asked.returncode} after {granted_after:.0f} s: {asked.stdout} {asked.stderr}")
    found: dict[str, Any] = {
        "wanted": WANTED,
        "available_before_mib": available,
        "exit_status": asked.returncode,
        "seconds": round(granted_after, 1),
        "started_after": None,
    }
    if asked.returncode == 0:
        began = time.monotonic()
        host.lab.guest_add(NEW)
        host.await_workload(NEW.name, "idle")
        found["started_after"] = round(time.monotonic() - began, 1)
    found["others"] = {}
    for name in names:
        now = host.lab.guest_send(name, "stat")
        found["others"][name] = {
            "stalled_seconds": round(stalled_seconds(host, name) - stalled[name], 2),
            "rate": round((now["ops"] - paces[name]["ops"]) / (now["t"] - paces[name]["t"]), 1),
            "worst_ms": round(now["max_us"] / 1000, 1),
        }
    return found


def play(host: Host) -> dict[str, Any]:
    """Both scenes."""
    service.install(host)
    start_in_turn(host, [SLEEPER])
    resume(host, [SLEEPER])
    say("the sleeper is at work")
    wake(host, SLEEPER.guest.name)  # so that the host has given it all of its memory once
    time.sleep(15)
    without = wake(host, SLEEPER.guest.name)
    say(f"without: {without}")
    time.sleep(15)
    service.start(host)
    say(f"taken after {await_taken(host, SLEEPER.guest.name):.0f} s")
    with_us = wake(host, SLEEPER.guest.name)
    say(f"with: {with_us}")
    service.stop(host)
    suspend(host, [SLEEPER])
    start_in_turn(host, OTHERS)
    resume(host, (SLEEPER, *OTHERS))
    say("the others are at work")
    host.shell(f"sed -i 's/reclaim: proactive/reclaim: on_pressure/' {service.REMOTE_POLICY}")
    service.start(host)
    promised = reserve(host)
    return {
        "kernel": host.lab.vm.kernel,
        "without": asdict(without),
        "with": asdict(with_us),
        "reserve": promised,
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--name", default="hold-step", show_default=True, help="The lab's.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="Where step.json goes.")
def main(kernel: str, name: str, out: Path) -> None:
    """Measure both; about a quarter of an hour."""
    lab = Lab.up(name, kernel=kernel, memory=HOST_MEMORY, append="transparent_hugepage=never")
    try:
        host = Host(lab)
        try:
            found = play(host)
        finally:
            say("\n".join(service.log(host)))
    finally:
        lab.down()
    out.mkdir(parents=True, exist_ok=True)
    (out / "step.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
