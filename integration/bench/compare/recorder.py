"""Runs in the host VM: start a controller, and write down how host and guests fare, as JSON lines.

Baseline, controller, aftermath in one process. It asks neither libvirt nor QEMU, whose memory it would
fetch back from swap by that; guests answer on their own channel.

``python -m integration.bench.compare.recorder CONFIG OUTPUT``; CONFIG is JSON: ``guests``, ``baseline``,
``control`` and ``after`` in seconds, ``every``, ``line`` (a shell line), ``orders`` as ``[guest, line]``.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from integration.bench.sampler import Guest, cpu_seconds, host, kdamonds

PATIENCE_SECONDS = 150.0
"""How long a controller may take to end by itself once its time is over."""


class Recorder:
    """Looks now and then; remembers the CPU of each kdamond that was ever seen."""

    def __init__(self, config: dict[str, Any], output: Path) -> None:
        self._config = config
        self._out = output.open("w", buffering=1)
        self._guests = [Guest(name) for name in config["guests"]]
        self._began = time.monotonic()
        self._kdamonds: dict[int, float] = {}
        self._own_kdamonds: set[int] = set(kdamonds())

    def poll(self, phase: str) -> None:
        """One line."""
        for pid in kdamonds():
            self._kdamonds[pid] = max(self._kdamonds.get(pid, 0.0), cpu_seconds(pid))
        row: dict[str, Any] = {"at": time.monotonic() - self._began, "phase": phase, "host": host()}
        row["host"]["kdamonds"] = sum(
            used for pid, used in self._kdamonds.items() if pid not in self._own_kdamonds
        )
        row["guests"] = {guest.name: self._of(guest) for guest in self._guests}
        self._out.write(json.dumps(row) + "\n")

    def follow(self, phase: str, seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
        """Look until the time is over; with a process, until it has ended if that is later."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or (process is not None and process.poll() is None):
            if process is not None and time.monotonic() > end + PATIENCE_SECONDS:
                os.killpg(process.pid, signal.SIGKILL)
            began = time.monotonic()
            self.poll(phase)
            time.sleep(max(0.1, self._config["every"] - (time.monotonic() - began)))

    def order(self) -> None:
        """Tell the guests what they are to do now."""
        for name, line in self._config["orders"]:
            next(guest for guest in self._guests if guest.name == name).ask(line)

    def end(self, status: int, output: str) -> None:
        """What the controller cost and said."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = {"status": status, "cpu": used.ru_utime + used.ru_stime, "output": output[-200_000:]}
        self._out.write(json.dumps({"controller": line}) + "\n")
        self._out.close()

    @staticmethod
    def _of(guest: Guest) -> dict[str, Any] | None:
        try:
            seen = guest.poll()
        except (OSError, KeyError):
            return None
        said = guest.ask("mem") or {}
        kept = ("workingset_refault_file", "workingset_refault_anon", "oom_kill", "MemAvailable")
        return seen | {key: said.get(key) for key in kept}


def main(config: dict[str, Any], output: Path) -> None:
    """All three phases."""
    recorder = Recorder(config, output)
    recorder.follow("before", config["baseline"])
    recorder.order()
    said = output.with_suffix(".said")
    with said.open("wb") as file:
        process = subprocess.Popen(
            ["sh", "-c", config["line"]], stdout=file, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        recorder.follow("control", config["control"], process)
        status = process.wait()
    recorder.follow("after", config["after"])
    recorder.poll("end")
    text = ""
    with suppress(OSError):
        text = said.read_text(errors="replace")
    recorder.end(status, text)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
