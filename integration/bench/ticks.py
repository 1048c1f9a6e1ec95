"""What a tick of the whole daemon costs with many domains at rest, on the fake host: one number of domains.

``python -m integration.bench.scale`` runs this in a process of its own for each number, for another checkout
with its modules. The fakes' own time is measured and taken off. Prints one line of JSON.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overcommit.daemon.state import TickRequest
from overcommit.host.ksm import DIRECTORY as KSM
from overcommit.testing import FakeGuest, FakeHost, FakeKernel
from overcommit.testing.fake_damon import FakeDamon
from overcommit.units import GIB, MIB
from tests.faults.daemon import Disk, Libvirt, World, policy_text

GUEST_BYTES = 16 * MIB
TICKS = 3
TICK_SECONDS = 5.0


class Outside:
    """A port of the program: what is in it is not the program's time."""

    seconds = 0.0

    def __init__(self, real: Any) -> None:
        self._real = real
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def timed(*arguments: Any, **more: Any) -> Any:
            self.calls[name] += 1
            began = time.thread_time()
            try:
                return attribute(*arguments, **more)
            finally:
                Outside.seconds += time.thread_time() - began

        self.__dict__[name] = timed
        return timed


class _AskedByPid:
    """A host for its DAMON, which looks for a guest among all of them only by its process."""

    guests = ()

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


class QuickDamon(FakeDamon):
    """Knows who lives: guests neither come nor go."""

    def _alive(self, _target: object) -> bool:
        return True


class QuickKernel(FakeKernel):
    """Finds its files at once: guests neither come nor go."""

    _found: dict[str, Callable[[], str]] | None = None

    def _content(self, path: str) -> Callable[[], str]:
        if self._found is None:
            self._found = self._files_of_now()
        if path in self._found or path.startswith(KSM):
            return self._found.get(path) or super()._content(path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def lock_holder(self, path: str) -> int | None:
        """See `Kernel.lock_holder`; guests are numbered."""
        return 5000 + int(path.rpartition("/g")[2].removesuffix(".pid"))


class QuickLibvirt(Libvirt):
    """Finds a guest by its number."""

    def _find(self, uuid: str) -> FakeGuest:
        return self._host.guests[int(uuid[-12:])]


def _by_number(host: FakeHost, pid: int) -> FakeGuest | None:
    return host.guests[pid - 5000] if 0 <= pid - 5000 < len(host.guests) else None


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(count: int) -> dict[str, Any]:
    """Of so many domains."""
    guests = [
        FakeGuest(
            name=f"g{number}",
            uuid=f"00000000-0000-0000-0000-{number:012d}",
            pid=5000 + number,
            memory_bytes=GUEST_BYTES,
            resident=set(range(12)),
            hot=set(range(2)),
            free=set(range(8, 10)),
        )
        for number in range(count)
    ]
    world = World(Path(tempfile.mkdtemp()), policy_text(actor="memcg-reclaim"), inhabitants=guests)
    world.host.total_bytes = 2 * GIB + 2 * count * GUEST_BYTES
    setattr(FakeHost, "guest", _by_number)  # noqa: B010 - for this process
    libvirt = Outside(QuickLibvirt(world.host))
    kernel: Any = Outside(QuickKernel(world.host, QuickDamon(_AskedByPid(world.host))))  # type: ignore[arg-type]
    world.kernel, world.libvirt = kernel, libvirt  # type: ignore[assignment]

    def cost(what: Callable[[], object]) -> float:
        began, outside = time.thread_time(), Outside.seconds
        what()
        return time.thread_time() - began - (Outside.seconds - outside)

    with Disk().in_place():
        daemon = world.daemon(observe=True)
        first = cost(daemon.loop._tick)  # noqa: SLF001 - as `run` begins
        libvirt.calls.clear()
        ticks = []
        for _ in range(TICKS):
            world.host.advance(TICK_SECONDS)
            ticks.append(cost(daemon.controller.tick))
        calls = libvirt.calls.total() / TICKS
        libvirt.calls.clear()
        world.host.advance(TICK_SECONDS)
        plan = cost(lambda: daemon.controller.tick(TickRequest(replan=True)))
        planned = libvirt.calls.total()
        publish = cost(daemon.loop._publish)  # noqa: SLF001 - as each tick ends
        read = cost(lambda: [getattr(daemon.server, name, None) for name in ("text", "plan", "sums")])
        return {
            "domains": count,
            "first": first,
            "tick": statistics.median(ticks),
            "plan": plan,
            "publish": publish,
            "read": read,
            "calls": calls,
            "plan_calls": planned,
            "status_bytes": len(daemon.server.text),
            "rss_bytes": _rss_bytes(),
        }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
