"""Runs in the host VM: what senpai (Meta's oomd) does, by what its documentation says of its rule.

Every 6 s each group is asked for a share of what it holds, as long as it has stalled for less than 0.1 % of
the time by its own 10 s and 60 s averages of memory and I/O pressure; the nearer to that bound, the less.
Nothing below 100 MiB. Where the kernel chooses, it chooses: no swappiness is given.

``python -m integration.bench.compare.senpai SHARE SECONDS GUEST...``
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

from integration.bench.sampler import Guest

EVERY_SECONDS, PRESSURE_PERCENT, LEAST_BYTES = 6.0, 0.1, 100 << 20


def pressure(text: str) -> float:
    """The larger of the 10 s and 60 s averages of the line ``some``, in per cent."""
    words = dict(word.split("=") for word in text.splitlines()[0].split()[1:])
    return max(float(words["avg10"]), float(words["avg60"]))


def step_bytes(held: int, share: float, pressure: float) -> int:
    """How much to ask of a group that holds so much and feels so much (per cent)."""
    wanted = round(held * share * max(0.0, 1 - pressure / PRESSURE_PERCENT))
    return max(0, min(wanted, held - LEAST_BYTES))


def _felt(group: Path) -> float:
    files = [group / "memory.pressure", group / "io.pressure"]
    return max(pressure(file.read_text()) for file in files if file.exists())


def main(share: float, seconds: float, names: list[str]) -> None:
    """Ask until the time is over."""
    groups = [Guest(name).cgroup for name in names]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for group in groups:
            held = int((group / "memory.current").read_text())
            # EAGAIN: it gave less than it was asked for
            if wanted := step_bytes(held, share, _felt(group)):
                with suppress(OSError):
                    (group / "memory.reclaim").write_text(str(wanted))
        time.sleep(max(0.0, min(EVERY_SECONDS, end - time.monotonic())))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
