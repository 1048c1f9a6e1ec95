"""How right is "cold"? Precision and recall against a guest that knows when it last touched each page.

::

    python -m integration.bench.accuracy --kernel 7.3 --json accuracy-7.3.json

Only the workload's own memory is judged; what the guest's kernel does with the rest nobody knows. Where a
page's truth lies within a few seconds of the bound, either answer counts as right: a snapshot is a window of
some seconds, and so is the time between two questions to the guest.
"""

from __future__ import annotations

import base64
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab
from integration.suite.host import Host

PAGE = 4096
WORKLOADS = {
    "hotset": {"total": "128M", "hot": "16M", "hz": "0.5"},
    "phases": {"total": "128M", "hot": "16M", "hz": "0.5", "every": "90"},
}
MEMORY = "256M"
COLD_AFTER = 60.0
TOLERANCE = 6.0
"""Seconds around the bound within which a page may be called either way."""
EVERY = 10.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One workload on one kernel, over all samples after the first ``cold_after``."""

    kernel: str
    workload: str
    how: str
    samples: int
    precision: float
    worst_precision: float
    recall: float
    worst_recall: float
    kdamond_cpu_share: float
    window_cpu_ms: float


class Truth:
    """When each page of the workload was last touched."""

    def __init__(self, host: Host, guest: str) -> None:
        self._host = host
        self._guest = guest
        stat = host.lab.guest_send(guest, "stat")
        self._pages = stat["total_bytes"] // PAGE
        self.physical = self._physical_pages(stat["pid"], stat["total_bytes"])
        self._touched = [time.monotonic()] * self._pages
        self._end = time.monotonic()

    def poll(self) -> None:
        """Ask the guest where its hot set is now: it has been touching that since the last look."""
        stat = self._host.lab.guest_send(self._guest, "stat")
        self._end = time.monotonic()
        for page in range(stat["hot_from"] // PAGE, stat["hot_to"] // PAGE):
            self._touched[page] = self._end

    def idle_seconds(self) -> list[float]:
        """By page of the workload's memory."""
        return [self._end - at for at in self._touched]

    def _physical_pages(self, pid: int, size: int) -> list[int]:
        """The guest's page frames behind the workload's memory: the one mapping of that size."""
        start = next(
            int(line.partition("-")[0], 16)
            for line in self._execute(f"cat /proc/{pid}/maps").decode().splitlines()
            if _size_of(line) >= size
        )
        first = start // PAGE * 8 // PAGE
        blocks = (start + size) // PAGE * 8 // PAGE - first + 1
        entries = self._execute(f"dd if=/proc/{pid}/pagemap bs={PAGE} skip={first} count={blocks}")
        skipped = start // PAGE * 8 - first * PAGE
        numbers = memoryview(entries[skipped : skipped + size // PAGE * 8]).cast("Q")
        return [number & ((1 << 55) - 1) for number in numbers]

    def _execute(self, line: str) -> bytes:
        arguments = {"path": "/bin/busybox", "arg": ["sh", "-c", line], "capture-output": True}
        pid = self._agent("guest-exec", arguments)["pid"]
        while not (status := self._agent("guest-exec-status", {"pid": pid}))["exited"]:
            time.sleep(0.2)
        assert status["exitcode"] == 0, status
        return base64.b64decode(status["out-data"])

    def _agent(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        request = json.dumps({"execute": command, "arguments": arguments})
        answer = self._host.lab.run(["virsh", "-q", "qemu-agent-command", self._guest, request]).stdout
        result: dict[str, Any] = json.loads(answer)["return"]
        return result


def _size_of(mapping: str) -> int:
    start, end = (int(number, 16) for number in mapping.split()[0].split("-"))
    return end - start


def judge(line: dict[str, Any], physical: list[int], idle_seconds: list[float]) -> tuple[int, int, int, int]:
    """Pages rightly called cold, called cold, rightly called cold of those surely cold, surely cold."""
    base = line["ram"][0][0]
    cold = {(address - base) // PAGE for start, end in line["cold"] for address in range(start, end, PAGE)}
    right = called = found = there = 0
    for frame, seconds in zip(physical, idle_seconds, strict=True):
        if frame in cold:
            called += 1
            right += seconds >= COLD_AFTER - TOLERANCE
        if seconds >= COLD_AFTER + TOLERANCE:
            there += 1
            found += frame in cold
    return right, called, found, there


def measure(host: Host, workload: str, seconds: float, source: str) -> Row:
    """One workload, from a fresh guest to none."""
    host.lab.guest_add(GuestSpec("truth", MEMORY, workload, WORKLOADS[workload], agent=True))
    try:
        host.await_workload("truth", "touch")
        truth = Truth(host, "truth")
        lines: list[dict[str, Any]] = []
        command = f"python3 /var/tmp/watcher.py truth {COLD_AFTER} {seconds} {EVERY} {source}"
        began = time.monotonic()
        with subprocess.Popen(host.lab.vm.ssh.command(command), text=True, stdout=subprocess.PIPE) as watcher:
            assert watcher.stdout is not None
            reader = threading.Thread(target=lambda: lines.extend(_read(watcher.stdout)), daemon=True)
            reader.start()
            precisions, recalls, judged = [], [], 0
            while watcher.poll() is None:
                truth.poll()
                if len(lines) > judged:
                    judged = len(lines)
                    right, called, found, there = judge(lines[-1], truth.physical, truth.idle_seconds())
                    if lines[-1]["window_seconds"] >= COLD_AFTER + TOLERANCE and there:
                        precisions.append(right / called if called else 1.0)
                        recalls.append(found / there)
                time.sleep(1)
        took = time.monotonic() - began
        return Row(
            kernel=host.lab.vm.kernel,
            workload=workload,
            how=lines[-1]["how"],
            samples=len(precisions),
            precision=statistics.mean(precisions),
            worst_precision=min(precisions),
            recall=statistics.mean(recalls),
            worst_recall=min(recalls),
            kdamond_cpu_share=lines[-1]["kdamond_cpu_seconds"] / took,
            window_cpu_ms=1000 * lines[-1]["look_cpu_seconds"] / lines[-1]["snapshots"],
        )
    finally:
        host.lab.guest_remove("truth")


def _read(stream: Any) -> Iterator[dict[str, Any]]:
    for text in stream:
        yield json.loads(text)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--workload", "workloads", multiple=True, type=click.Choice(list(WORKLOADS)))
@click.option("--minutes", default=5.0, show_default=True, help="How long to judge, after the first minute.")
@click.option(
    "--source",
    type=click.Choice(["tracepoint", "sysfs"]),
    default="tracepoint",
    show_default=True,
    help="Where windows come from.",
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures there.")
def main(kernel: str, workloads: tuple[str, ...], minutes: float, source: str, output: Path | None) -> None:
    """Judge what the product calls cold for 60 s against the guest's own knowledge."""
    lab = Lab.up(f"truth-{kernel.replace('.', '-')}", kernel=kernel, append="transparent_hugepage=never")
    rows = []
    try:
        host = Host(lab)
        lab.put(Path(__file__).parent / "watcher.py", "/var/tmp/watcher.py")
        for workload in workloads or WORKLOADS:
            rows.append(measure(host, workload, COLD_AFTER + TOLERANCE + 60 * minutes, source))
            click.echo(rows[-1], err=True)
    finally:
        lab.down()
    if output is not None:
        output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    for row in rows:
        click.echo(
            f"{row.kernel} {row.workload} ({row.how}): "
            f"precision {row.precision:.4f} (worst {row.worst_precision:.4f}), "
            f"recall {row.recall:.4f} (worst {row.worst_recall:.4f}), {row.samples} samples"
        )


if __name__ == "__main__":
    main()
