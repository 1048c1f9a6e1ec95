"""Runs in the host VM: what the host, its guests and overcommitd do, every so many seconds, as JSON lines.

One process for a whole run, so that looking costs an emulated processor next to nothing; only the standard
library, so that it knows nothing of the product but the line that asks for its status. It also tells the
guests to change, at the times that it was given: their channels take one client at a time, and it keeps them.

``python sampler.py CONFIG OUTPUT``; CONFIG is JSON: ``guests``, ``seconds``, ``every``, ``orders`` as
``[second, guest, line]``.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

CONTROL = "/run/overcommit/control.sock"
STATUS = b'{"version": 1, "verb": "status", "arguments": {}}\n'
ANSWER_SECONDS, PING_SECONDS = 8.0, 2.0
_marks = itertools.count(1)


class Guest:
    """A guest by the host's counters, and by its own word."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())
        of_process = Path(f"/proc/{self.pid}/cgroup").read_text().strip().partition("::")[2]
        place = Path("/sys/fs/cgroup" + of_process)
        while not (place / "memory.current").exists():
            place = place.parent
        self.cgroup = place
        self._link: socket.socket | None = None
        self._heard = b""

    def poll(self) -> dict[str, Any]:
        """All that there is to know."""
        process = table(Path(f"/proc/{self.pid}/status"), ":")
        memory = table(self.cgroup / "memory.stat")
        some = (self.cgroup / "memory.pressure").read_text().splitlines()[0]
        said = self.ask("stat") or {}
        return {
            "rss": int(process["VmRSS"].split()[0]) * 1024,
            "swap": int(process["VmSwap"].split()[0]) * 1024,
            # pswpin counts pages of the group since Linux 6.13 only
            "back": int(memory.get("pswpin", memory["pgmajfault"])),
            "stalled": int(some.rpartition("=")[2]) / 1e6,
            **{key: said.get(key) for key in ("t", "ops", "max_us", "phase", "hot_bytes", "extra_bytes")},
        }

    def ask(self, line: str) -> dict[str, Any] | None:
        """Send a line once it is known that the guest listens; None: no answer."""
        try:
            if self._link is None:
                self._link = socket.socket(socket.AF_UNIX)
                self._link.settimeout(PING_SECONDS)
                self._link.connect(f"/run/lab-{self.name}.sock")
                deadline = time.monotonic() + ANSWER_SECONDS
                while self._exchange("ping", PING_SECONDS) is None:
                    if time.monotonic() > deadline:
                        raise TimeoutError
            return self._exchange(line, ANSWER_SECONDS)
        except OSError:
            if self._link is not None:
                self._link.close()
            self._link = None
            return None

    def _exchange(self, line: str, seconds: float) -> dict[str, Any] | None:
        assert self._link is not None
        mark, deadline = f"s{next(_marks)}", time.monotonic() + seconds
        self._link.sendall(f"{line} @{mark}\n".encode())
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                heard = self._link.recv(4096)
                if not heard:
                    raise ConnectionResetError
                self._heard += heard
            *lines, self._heard = self._heard.split(b"\n")
            for each in lines:
                with suppress(ValueError):
                    answer: dict[str, Any] = json.loads(each)
                    if answer.pop("id", None) == mark:
                        return answer
        return None


def table(path: Path, separator: str = " ") -> dict[str, str]:
    """A file of names and values."""
    lines = (line.partition(separator) for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def host() -> dict[str, Any]:
    """The host's memory and processor so far."""
    memory = {name: int(text.split()[0]) * 1024 for name, text in table(Path("/proc/meminfo"), ":").items()}
    # user, nice, system, idle, iowait, irq, softirq, steal, guest: a guest's own time is in user too
    cpu = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    zram = Path("/sys/block/zram0/mm_stat")
    pressure = Path("/proc/pressure/memory").read_text().splitlines()[0]
    return {
        "total": memory["MemTotal"],
        "available": memory["MemAvailable"],
        "swapped": memory["SwapTotal"] - memory["SwapFree"],
        "zram": int(zram.read_text().split()[2]) if zram.exists() else 0,
        "busy": (cpu[0] + cpu[1] + cpu[2] + cpu[5] + cpu[6]) / 100,
        "stalled": int(pressure.rpartition("=")[2]) / 1e6,
        "kdamonds": sum(cpu_seconds(pid) for pid in kdamonds()),
    }


def kdamonds() -> list[int]:
    """The kernel's threads that watch and page out."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with suppress(OSError):
                if (each / "comm").read_text().startswith("kdamond"):
                    found.append(int(each.name))
    return found


def cpu_seconds(pid: int) -> float:
    """Of a process so far; what is over counts as nothing."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / 100
    return 0.0


def status() -> dict[str, Any] | None:
    """What overcommitd says of itself; None: nobody answers."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(ANSWER_SECONDS)
            link.connect(CONTROL)
            link.sendall(STATUS)
            with link.makefile("rb") as lines:
                said: dict[str, Any] = json.loads(lines.readline()).get("result")
                return said
    except (OSError, ValueError):
        return None


def daemon(pid: int) -> dict[str, Any] | None:
    """What its processes cost; the second one is the worker that writes to DAMON."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pids = [pid, *map(int, children)]
        sizes = [table(Path(f"/proc/{each}/smaps_rollup"), ":") for each in pids]
        return {
            "pids": pids,
            "cpu": [cpu_seconds(each) for each in pids],
            "rss": [int(size["Rss"].split()[0]) * 1024 for size in sizes],
            "pss": [int(size["Pss"].split()[0]) * 1024 for size in sizes],
        }
    except (OSError, KeyError):
        return None


def main(config: dict[str, Any], output: Path) -> None:
    """Look until the time is over."""
    guests = [Guest(name) for name in config["guests"]]
    orders = sorted(config["orders"])
    began = time.monotonic()
    with output.open("w", buffering=1) as out:
        for number in itertools.count():
            due = began + number * config["every"]
            if due - began > config["seconds"]:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            while orders and orders[0][0] <= time.monotonic() - began:
                _, name, line = orders.pop(0)
                answer = next(guest for guest in guests if guest.name == name).ask(line)
                at = time.monotonic() - began
                out.write(json.dumps({"at": at, "guest": name, "order": line, "answer": answer}) + "\n")
            said = status()
            row: dict[str, Any] = {"at": time.monotonic() - began, "host": host(), "status": said}
            row["daemon"] = daemon(said["pid"]) if said else None
            row["guests"] = {}
            for guest in guests:
                try:
                    row["guests"][guest.name] = guest.poll()
                except (OSError, KeyError):
                    row["guests"][guest.name] = None
            row["own_cpu"] = time.process_time()
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
