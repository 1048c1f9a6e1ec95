"""Two rungs for one set of tests: the fake kernel, and the real one of a host VM."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from overcommit.clock import Clock, SystemClock
from overcommit.damon.owners import MODULES, enabled_path
from overcommit.damon.sysfs import ROOT
from overcommit.damon.tree import Target
from overcommit.host.kernel import Kernel, LocalKernel
from overcommit.model.ranges import Range
from overcommit.testing import FakeClock, FakeDamon, FakeGuest, FakeHost, FakeKernel
from overcommit.units import MIB

LAB_MARK = Path("/etc/overcommit-lab")
MEMORY = 64 * MIB
GROUP = Path("/sys/fs/cgroup/overcommit-contract")
_HOLDER = """
import ctypes, mmap, sys
memory = mmap.mmap(-1, {size}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for offset in range(0, {size}, 4096):
    memory[offset:offset + 8] = offset.to_bytes(8, "little")
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
sys.stdin.read()
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The real rung writes to this machine's DAMON: never on a machine that is not a lab's host VM."""
    parser.addoption("--real-damon", action="store_true", help="Run on this host VM's kernel.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On both kernels that the fake imitates, or on the one that is there."""
    if "rung" in metafunc.fixturenames:
        real = metafunc.config.getoption("--real-damon")
        rungs = [None] if real else [(6, 12), (7, 3)]
        metafunc.parametrize("rung", rungs, indirect=True, ids=_name_rung)


def _name_rung(version: tuple[int, int] | None) -> str:
    return "fake-{}.{}".format(*version) if version else "real"


@dataclass
class Rung:
    """A kernel, time, and a process that can be ended; all its memory is charged to ``group``."""

    kernel: Kernel
    clock: Clock
    target: Target
    group: str
    end_process: Callable[[], None]

    def await_true(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Let time pass until something is so."""
        deadline = self.clock.monotonic() + seconds
        while not condition():
            assert self.clock.monotonic() < deadline, "it did not come about in time"
            self.clock.wait(0.2)


@pytest.fixture
def rung(request: pytest.FixtureRequest) -> Iterator[Rung]:
    """DAMON free and without slots, before and after."""
    if request.param is not None:
        yield _fake(request.param)
        return
    if not LAB_MARK.exists():
        pytest.exit("--real-damon is for a lab's host VM only", returncode=pytest.ExitCode.USAGE_ERROR)
    kernel = LocalKernel()
    before = {m: kernel.read(enabled_path(m)) for m in MODULES if kernel.exists(enabled_path(m))}
    for module in before:
        _set_module(kernel, module, "N")
    kernel.write(f"{ROOT}/nr_kdamonds", "0")
    GROUP.mkdir(exist_ok=True)
    # It joins the group before it has any memory to speak of: what it takes is charged there.
    command = f"echo $$ >{GROUP}/cgroup.procs && exec {sys.executable} -c '{_HOLDER.format(size=MEMORY)}'"
    holder = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    start = int(holder.stdout.readline())

    def end() -> None:
        holder.kill()
        holder.wait()

    target = Target.of(holder.pid, (Range(start, start + MEMORY),))
    yield Rung(kernel, SystemClock(), target, f"/{GROUP.name}", end)
    end()
    GROUP.rmdir()
    for slot in range(int(kernel.read(f"{ROOT}/nr_kdamonds"))):
        if kernel.read(f"{ROOT}/{slot}/state").strip() == "on":
            kernel.write(f"{ROOT}/{slot}/state", "off")
    kernel.write(f"{ROOT}/nr_kdamonds", "0")
    for module, value in before.items():
        _set_module(kernel, module, value.strip())


def _set_module(kernel: Kernel, module: str, value: str) -> None:
    if kernel.read(enabled_path(module)).strip() != value:
        kernel.write(enabled_path(module), value)
        time.sleep(0.5)


def _fake(version: tuple[int, int]) -> Rung:
    guest = FakeGuest(name="holder", uuid="u", pid=77, memory_bytes=MEMORY, resident=set(range(64)))
    host = FakeHost([guest])
    kernel = FakeKernel(host, FakeDamon(host, version))
    kernel.lru_gen.sees_guests = True
    return Rung(
        kernel,
        FakeClock(host),
        Target.of(guest.pid, (guest.ram,)),
        guest.cgroup,
        host.guests.clear,
    )
