"""What metrics cost: the exporter's CPU time for a scrape, and its memory.

``python -m integration.bench.exporter`` starts the program before a real control socket, whose status has so
many domains, and scrapes it as Prometheus does, each time after a new status. That is of a daemon on
a fake host, its first domain many times over. No host VM is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from overcommit.exporter.latest import FRESH_SECONDS
from overcommit.exporter.main import MOST_DOMAINS
from overcommit.units import MIB
from overcommit.wire.server import ControlServer
from tests.faults.daemon import Disk, World

COUNTS = (10, 100, 500, 1000)
SCRAPES = 10
_ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""As Prometheus has it."""
_TICK = os.sysconf("SC_CLK_TCK")


def _recorded(directory: Path) -> dict[str, Any]:
    disk = Disk()
    with disk.in_place():
        daemon = World(directory).daemon()
        daemon.run_for(240.0)
        status = daemon.server.status
        daemon.stop()
    return status


def _with(status: dict[str, Any], count: int, chance: random.Random) -> dict[str, Any]:
    """So many domains, no two with the same figures."""
    first = status["domains"][0]
    domains = []
    for number in range(count):
        domain = {**first, "name": f"guest-{number:05}", "uuid": f"00000000-0000-0000-0000-{number:012}"}
        for name, value in first.items():
            if name.endswith("_bytes") and isinstance(value, int):
                domain[name] = chance.randrange(1 << 36)
        domain["idle_histogram"] = [
            {"min_idle_seconds": bound, "bytes": chance.randrange(1 << 33)}
            for bound in (0.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
        ]
        domain["promoted_pages"] = chance.randrange(1 << 30)
        domains.append(domain)
    return {**status, "domains": domains}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _scrape(url: str) -> bytes:
    with urlopen(Request(url, headers={"Accept": _ACCEPT}), timeout=60) as page:
        text: bytes = page.read()
        return text


@contextlib.contextmanager
def _exporter(directory: Path, most_domains: int) -> Iterator[tuple[int, str]]:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    program = Path(sys.executable).with_name("overcommit-exporter")
    options = ["--listen", f"127.0.0.1:{port}", "--most-domains", str(most_domains)]
    environment = {**os.environ, "OVERCOMMIT_RUN_DIR": str(directory)}
    with subprocess.Popen([program, *options], env=environment) as process:
        try:
            _wait_for(port)
            yield process.pid, f"http://127.0.0.1:{port}/metrics"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise SystemExit("the exporter does not listen")


def _measure(
    directory: Path, publish: Callable[[], None], most_domains: int, scrapes: int
) -> dict[str, float]:
    with _exporter(directory, most_domains) as (pid, url):
        publish()
        _scrape(url)  # the first one loads what later ones have
        cpu, wall, page = [], [], b""
        for _ in range(scrapes):
            time.sleep(FRESH_SECONDS)
            publish()
            before, began = _cpu_seconds(pid), time.monotonic()
            page = _scrape(url)
            wall.append(time.monotonic() - began)
            cpu.append(_cpu_seconds(pid) - before)
        return {
            "cpu_ms": 1000 * statistics.mean(cpu),
            "wall_ms": 1000 * statistics.median(wall),
            "page_mib": len(page) / MIB,
            "samples": sum(not line.startswith(b"#") for line in page.splitlines()),
            "rss_mib": _memory(pid, "VmRSS") / MIB,
            "peak_mib": _memory(pid, "VmHWM") / MIB,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--domains", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--most-domains", type=int, nargs="+", default=[MOST_DOMAINS, 1000])
    parser.add_argument("--scrapes", type=int, default=SCRAPES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        status = _recorded(directory / "world")
        run = directory / "run"
        server = ControlServer(run / "control.sock", None, lambda: None)
        print(f"CPU: the mean of {options.scrapes} scrapes of a new status each")
        print("domains  own series  CPU, ms  wall, ms  samples  page, MiB  status, MiB  RSS, MiB  peak, MiB")
        try:
            for count in options.domains:
                text = json.dumps(_with(status, count, random.Random(count))).encode()

                def publish(document: bytes = text) -> None:
                    server.publish(lambda: document, None)

                for most in options.most_domains:
                    of = _measure(run, publish, most, options.scrapes)
                    print(
                        f"{count:7}  {min(count, most):10}  {of['cpu_ms']:7.0f}  {of['wall_ms']:8.0f}  "
                        f"{of['samples']:7.0f}  {of['page_mib']:9.2f}  {len(text) / MIB:11.2f}  "
                        f"{of['rss_mib']:8.1f}  {of['peak_mib']:9.1f}",
                        flush=True,
                    )
        finally:
            server.close()


if __name__ == "__main__":
    main()
