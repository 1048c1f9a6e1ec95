"""Does the lab hold?  Run guests for a while and watch that each of them really works.

A process that lives proves nothing under nested emulation: a guest is asked for an answer and for a
counter that must have advanced, and the host VM's console is searched for a kernel in trouble.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from integration.lab.errors import LabError
from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

_TROUBLE = re.compile(
    r"soft lockup|hard LOCKUP|Oops|BUG:|Kernel panic|general protection|rcu.*stall"
    r"|scheduling while atomic|blocked for more than|Call Trace|double fault"
)


@dataclass(frozen=True)
class SoakSpec:
    """What to run and for how long."""

    name: str = "soak"
    guests: int = 6
    seconds: float = 900
    kernel: str | None = None
    memory: str = "4G"
    append: str = ""
    machine: str = "q35"
    qemu_arguments: tuple[str, ...] = ()
    guest_append: str = ""
    guest_machine: str = "pc"
    guest_kernel: str = "6.12"
    guest_memory: str = "256M"
    workload: str = "hotset"
    settings: dict[str, str] = field(default_factory=lambda: {"total": "128M", "hot": "32M", "hz": "0.25"})
    every: float = 5.0
    patience: float = 60.0
    keep: bool = False


@dataclass
class SoakResult:
    """How one run went."""

    passed: bool = False
    reason: str = ""
    up_seconds: float = 0.0
    guest_seconds: list[float] = field(default_factory=list)
    held_seconds: float = 0.0
    rounds: int = 0
    slowest_answer: float = 0.0
    progress: dict[str, int] = field(default_factory=dict)
    console: str = ""

    def line(self) -> str:
        """The run in one line."""
        starts = "/".join(f"{seconds:.0f}" for seconds in self.guest_seconds)
        return (
            f"{'held' if self.passed else 'FAILED'} {self.held_seconds:.0f} s, "
            f"up {self.up_seconds:.1f} s, guests {starts} s, {self.rounds} rounds, "
            f"slowest answer {self.slowest_answer:.1f} s{': ' if self.reason else ''}{self.reason}"
        )


def run(spec: SoakSpec, say: Callable[[str], None]) -> SoakResult:
    """One run, from an empty host VM to none."""
    result = SoakResult()
    lab: Lab | None = None
    try:
        begin = time.monotonic()
        lab = Lab.up(
            spec.name, kernel=spec.kernel, memory=spec.memory, append=spec.append,
            machine=spec.machine, qemu_arguments=spec.qemu_arguments,
        )  # fmt: skip
        result.up_seconds = time.monotonic() - begin
        for number in range(spec.guests):
            result.guest_seconds.append(_add(lab, spec, number))
            say(f"guest {number + 1} answers after {result.guest_seconds[-1]:.1f} s")
        _watch(lab, spec, result, say)
        result.passed = True
    except LabError as error:
        result.reason = str(error).splitlines()[0]
    finally:
        if lab:
            result.console = lab.console_tail(40)
            if result.passed or not spec.keep:
                lab.down()
    return result


def _add(lab: Lab, spec: SoakSpec, number: int) -> float:
    guest = GuestSpec(
        f"s{number}", spec.guest_memory, spec.workload, spec.settings, append=spec.guest_append,
        machine=spec.guest_machine, kernel=spec.guest_kernel,
    )  # fmt: skip
    return lab.guest_add(guest)


def _watch(lab: Lab, spec: SoakSpec, result: SoakResult, say: Callable[[str], None]) -> None:
    begin = time.monotonic()
    last: dict[str, tuple[float, int]] = {}
    while time.monotonic() < begin + spec.seconds:
        for number in range(spec.guests):
            name = f"s{number}"
            _check_guest(lab, name, last, spec, result)
            result.held_seconds = time.monotonic() - begin
        if trouble := _TROUBLE.search(lab.console_tail(100_000)):
            raise LabError(f"the host VM's console says {trouble.group(0)!r}")
        result.rounds += 1
        if result.rounds % 12 == 0:
            say(f"{result.held_seconds:.0f} s, slowest answer {result.slowest_answer:.1f} s")
        time.sleep(spec.every)


def _check_guest(
    lab: Lab, name: str, last: dict[str, tuple[float, int]], spec: SoakSpec, result: SoakResult
) -> None:
    asked = time.monotonic()
    answer = lab.guest_send(name, "ping", timeout=spec.patience)
    now = time.monotonic()
    result.slowest_answer = max(result.slowest_answer, now - asked)
    count = _counter(answer)
    result.progress[name] = count
    since, before = last.get(name, (now, -1))
    if count != before:
        last[name] = (now, count)
    elif now - since > spec.patience:
        raise LabError(f"guest {name} answers but has not worked for {now - since:.0f} s")


def _counter(answer: dict[str, Any]) -> int:
    """What a guest counts as work."""
    value = answer.get("ops")
    if not isinstance(value, int):
        raise LabError(f"a guest's answer has no counter: {answer}")
    return value
