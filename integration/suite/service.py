"""``overcommitd`` in the host VM as a test has it: begun, asked, killed, and what the kernel says of it."""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from integration.suite.host import KDAMONDS, Host

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

POLICY_FILE = "/etc/overcommit/suite.yaml"
"""Where the unit sees it: it has a /var/tmp of its own."""
SETTINGS = "/etc/default/overcommitd"
"""Where the package's unit has the options."""
LOG = "/var/tmp/overcommitd.log"
SOCKET = "/run/overcommit/control.sock"
ASK = """\
import socket, sys
daemon = socket.socket(socket.AF_UNIX)
daemon.connect(sys.argv[1])
daemon.sendall(b'{"version": 1, "verb": "status"}\\n')
print(daemon.makefile().readline())
"""
START_SECONDS = 120
"""Until it serves its socket: Python alone takes an emulated host some seconds."""
ENDED_SECONDS = 90


def exposure(host: Host, unit: str) -> float:
    """How much a unit may do, from 0 to 10, as systemd judges it."""
    said = host.shell(f"systemd-analyze security --no-pager {unit}")
    found = re.search(r"exposure level for .*: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


class Kdamond(NamedTuple):
    """A kdamond that is on: its slot and what its first scheme does."""

    slot: int
    action: str


class Overcommitd:
    """One daemon at a time, with a policy that can be changed."""

    def __init__(self, host: Host, policy: str, *options: str) -> None:
        self.host = host
        self._options = options
        self.found = host.damon()
        self.pid = 0
        self.write_policy(policy)

    def write_policy(self, text: str) -> None:
        """Put a policy in place; whether the daemon reads it is the test's business."""
        place = f"mkdir -p /etc/overcommit && cat > {POLICY_FILE}.new && mv {POLICY_FILE}.new {POLICY_FILE}"
        self.host.lab.run(place, stdin=text)

    def start(self, environment: str = "") -> None:
        """Begin, with an empty log, and wait until it serves its socket."""
        command = shlex.join(["overcommitd", "--take-over", "--policy", POLICY_FILE, *self._options])
        begin = f"touch {LOG}.begun; {environment} setsid {command} >{LOG} 2>&1 </dev/null & echo $!"
        self.pid = int(self.host.shell(begin))
        # A dead one's socket is still there, and the new one takes its place when it is ready.
        serving = f"[ -S {SOCKET} ] && [ {SOCKET} -nt {LOG}.begun ]"
        served = self.host.lab.run(
            f"for i in $(seq {START_SECONDS * 5}); do {serving} && exit 0; "
            f"kill -0 {self.pid} || break; sleep 0.2; done; exit 1",
            check=False, timeout=START_SECONDS + 60,
        )  # fmt: skip
        assert served.returncode == 0, f"overcommitd does not serve its socket:\n{self.log()}"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return bool(self.pid) and bool(self.host.shell(f"kill -0 {self.pid} 2>/dev/null && echo yes || true"))

    def worker(self) -> int:
        """The process that does its DAMON I/O: its first child; one that reads a policy comes later."""
        return int(self.host.shell(f"pgrep -o -P {self.pid}"))

    def signal(self, name: str) -> None:
        """Send the daemon a signal."""
        self.host.shell(f"kill -{name} {self.pid}")

    def stop(self) -> None:
        """Have it end, and wait for that; one that does not is killed, and that is a failure."""
        if self.alive:  # it may have been left frozen
            self.host.shell(f"kill -CONT {self.pid} $(pgrep -P {self.pid}); kill -TERM {self.pid}; true")
        try:
            self.await_end()
        except AssertionError:
            self.host.shell(f"kill -KILL {self.pid}; true")
            raise

    def undo(self) -> subprocess.CompletedProcess[str]:
        """Have it end, and whichever way it ended, restore what it took."""
        try:
            self.stop()
        finally:
            restored = self.host.ctl("restore")
        return restored

    def await_end(self, within: float = ENDED_SECONDS) -> float:
        """Wait until the process is gone; how long that took."""
        begin = time.monotonic()
        while self.alive:
            assert time.monotonic() - begin < within, f"overcommitd did not end:\n{self.log()}"
            time.sleep(0.5)
        return time.monotonic() - begin

    def log(self) -> str:
        """What it has said since it was started."""
        return self.host.shell(f"cat {LOG}")

    def status(self) -> dict[str, Any]:
        """What it answers at its socket; overcommitctl takes an emulated host many times as long to ask.

        It serves the socket before it has looked for the first time, and has nothing to say until then.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            answer = self.host.lab.run(["python3", "-ISc", ASK, SOCKET], check=False)
            assert answer.returncode == 0, f"{answer.stderr}\n{self.log()}"
            said: dict[str, Any] = json.loads(answer.stdout)
            if "result" in said:
                found: dict[str, Any] = said["result"]
                return found
            assert time.monotonic() < deadline, f"{said}\n{self.log()}"
            time.sleep(1)

    def domain(self, name: str) -> dict[str, Any]:
        """What its status says of a domain."""
        found: dict[str, Any] = next(d for d in self.status()["domains"] if d["name"] == name)
        return found

    def await_said(self, words: str, within: float) -> float:
        """Wait until it has said something; how long that took."""
        return await_true(self.host, lambda: words in self.log(), f"{words!r} in the log", within, self.log)

    def kdamonds(self) -> list[Kdamond]:
        """All that are on, whoever they work for."""
        line = (
            f"cd {KDAMONDS}; for k in [0-9]*; do [ $(cat $k/state) = on ] && "
            "echo $k $(cat $k/contexts/0/schemes/0/action 2>/dev/null || echo none); done; true"
        )
        return [Kdamond(int(k), action) for k, action in map(str.split, self.host.shell(line).splitlines())]

    def actors(self) -> list[Kdamond]:
        """Those of the kdamonds that page out."""
        return [kdamond for kdamond in self.kdamonds() if kdamond.action == "pageout"]


def await_true(
    host: Host, check: Callable[[], bool], what: str, within: float, tell: Callable[[], str]
) -> float:
    """Wait until something holds; how long that took. An emulated host is not asked all the time."""
    begin = time.monotonic()
    while not check():
        waited = time.monotonic() - begin
        assert waited < within, f"no {what} within {within:.0f} s:\n{tell()}\n{host.shell('virsh list')}"
        time.sleep(1)
    return time.monotonic() - begin
