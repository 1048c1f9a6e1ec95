"""Runs in the host VM: the arithmetic by which Proxmox VE's pvestatd moves balloons.

Every 10 s the distance of used host memory from a target (Proxmox: 80 %) is shared among the guests by their
shares, here equal, between each one's least and most memory, by 100 MiB a step at most. Guests with more than
a quarter of their least memory free give first, those with less get first. Less than 10 MiB is left alone.

``python -m integration.bench.compare.proxmox TARGET SECONDS GUEST...``
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
EVERY_SECONDS, DEADBAND, STEP = 10.0, 10 * MIB, 100 * MIB
LEAST_SHARE = 0.4
"""Of a guest's memory: the ``balloon`` of its configuration, which has no default but all of it."""


@dataclass(frozen=True)
class Balloon:
    """A guest's balloon in bytes, as it says itself."""

    name: str
    now: int
    least: int
    most: int
    free: int


def share_out(balloons: Sequence[Balloon], change: int) -> dict[str, int]:
    """Where each balloon shall be so that all together change by so much, as near as their bounds allow."""
    wanted = {each.name: each.now for each in balloons}
    open_ones, rest = list(balloons), change
    while open_ones and abs(rest) >= len(open_ones):
        above_least = sum(wanted[each.name] - each.least for each in open_ones)
        part = (above_least + rest) // len(open_ones)
        moved, still = 0, []
        for each in open_ones:
            low, high = max(each.least, each.now - STEP), min(each.most, each.now + STEP)
            low, high = (each.now, max(high, each.now)) if change > 0 else (min(low, each.now), each.now)
            target = min(max(each.least + part, low), high)
            moved += target - wanted[each.name]
            wanted[each.name] = target
            if low < target < high:
                still.append(each)
        if not moved:
            break
        rest, open_ones = rest - moved, still
    return wanted


def decide(balloons: Sequence[Balloon], goal: int) -> dict[str, int]:
    """Where the balloons shall be; ``goal`` is what guests may have more (below 0: less) than now."""
    if abs(goal) <= DEADBAND:
        return {}
    eased = [b for b in balloons if b.free > b.least / 4 and b.now >= b.least]
    pressed = [b for b in balloons if b not in eased]
    wanted = share_out(pressed if goal > 0 else eased, goal)
    left = goal - sum(wanted[b.name] - b.now for b in balloons if b.name in wanted)
    if abs(left) > DEADBAND:
        others = [b for b in balloons if b.name not in wanted]
        wanted |= share_out(others, left)
    return wanted


def _balloon(name: str) -> Balloon:
    shown = subprocess.run(["virsh", "dommemstat", name], capture_output=True, text=True, check=True).stdout
    kib = {key: int(value) for key, value in (line.split() for line in shown.splitlines() if line)}
    most = int(Path(f"/var/tmp/compare/{name}.most").read_text())
    return Balloon(name, kib["actual"] * 1024, round(most * LEAST_SHARE), most, kib.get("unused", 0) * 1024)


def main(target: float, seconds: float, names: list[str]) -> None:
    """Move balloons until the time is over; they stay where they are."""
    end = time.monotonic() + seconds
    for name in names:
        actual = _most(name)
        Path(f"/var/tmp/compare/{name}.most").write_text(str(actual))
    while time.monotonic() < end:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        memory = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
        used = memory["MemTotal"] - memory["MemAvailable"]
        balloons = [_balloon(name) for name in names]
        for name, size in decide(balloons, round(memory["MemTotal"] * target) - used).items():
            subprocess.run(["virsh", "-q", "setmem", name, f"{size // 1024}K", "--live"], check=False)
        time.sleep(max(0.0, min(EVERY_SECONDS, end - time.monotonic())))


def _most(name: str) -> int:
    shown = subprocess.run(["virsh", "dominfo", name], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[2]) * 1024 for line in shown.splitlines() if line.startswith("Max memory"))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
