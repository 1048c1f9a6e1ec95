"""Bring a scenario up, keep its state, and run each controller from there."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integration.bench.compare.controllers import CONTROLLERS, REMOTE, Run
from integration.bench.compare.measure import measure
from integration.lab import saved
from integration.lab.errors import HostVmDiedError, LabError
from integration.lab.hostvm import HostVm
from integration.lab.lab import Lab
from integration.suite.host import Host
from integration.suite.six_guests import Role, resume, start_in_turn

if TYPE_CHECKING:
    from integration.bench.compare.results import Task
    from integration.bench.compare.scenarios import Scenario

BASELINE_SECONDS, EVERY_SECONDS = 20.0, 4.0
SPARE_SECONDS = 300.0
_PACKAGE = Path(__file__).parents[2]


def say(sentence: str) -> None:
    """On stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} bench: {sentence}", file=sys.stderr, flush=True)


class Stage:
    """A host VM with a scenario's guests at work, and its kept state."""

    def __init__(self, scenario: Scenario, name: str, *, nice: int) -> None:
        self.scenario = scenario
        self.state = secrets.token_hex(4)
        self.lab = Lab.up(
            name, kernel=scenario.kernel, memory=scenario.host_memory, append=scenario.kernel_words,
            throwaway=True,
        )  # fmt: skip
        assert isinstance(self.lab.vm, HostVm)
        self.vm = self.lab.vm
        try:
            _renice(self.vm.state.process.pid, nice)
            self._prepare()
        except BaseException:
            self.lab.down()
            raise

    def _prepare(self) -> None:
        host = Host(self.lab)
        self.lab.run(f"mkdir -p {REMOTE}/integration/bench")
        for part in ("__init__.py", "bench/__init__.py", "bench/sampler.py", "bench/compare"):
            self.lab.put(_PACKAGE / part, f"{REMOTE}/integration/{part}")
        # read once now, so that no controller pays for it from disk
        host.shell("overcommitctl --version; damo version; virsh version > /dev/null; true")
        roles = [Role(guest.spec, guest.phase) for guest in self.scenario.guests]
        for role in roles:
            start_in_turn(host, [role])
            say(f"{role.guest.name} is at work")
        resume(host, roles)
        time.sleep(self.scenario.settle_seconds)
        saved.save(self.vm, "start", self.scenario.names)
        say(f"{self.scenario.name}: state {self.state} is kept")

    @property
    def kernel(self) -> str:
        """The host VM's."""
        return self.vm.kernel

    def run(self, task: Task) -> dict[str, Any]:
        """One run from the kept state; a row of results.

        Raises:
            HostVmDiedError: the host VM is gone, and with it the state.
        """
        saved.load(self.vm, "start", self.scenario.names)
        scenario, controller = self.scenario, CONTROLLERS[task.controller]
        told = Run(controller.levels[task.level], scenario.control_seconds, scenario.names)
        config = {
            "guests": scenario.names, "baseline": BASELINE_SECONDS, "control": scenario.control_seconds,
            "after": scenario.after_seconds, "every": EVERY_SECONDS, "line": controller.line(told),
            "orders": scenario.orders,
        }  # fmt: skip
        self.lab.run(f"cat > {REMOTE}/run.json", stdin=json.dumps(config))
        recorder = f"python3 -m integration.bench.compare.recorder {REMOTE}/run.json {REMOTE}/run.out"
        limit = BASELINE_SECONDS + scenario.control_seconds + scenario.after_seconds + SPARE_SECONDS
        self.lab.run(f"cd {REMOTE} && {recorder}", timeout=limit)
        text = self.lab.run(f"cat {REMOTE}/run.out").stdout
        lines = [json.loads(line) for line in text.splitlines()]
        row = task._asdict() | {"state": self.state, "kernel": self.kernel} | measure(lines)
        if row["status"] not in {0, 3, 124}:
            row["said"] = next(line["controller"]["output"] for line in lines if "controller" in line)[-2000:]
        return row

    def down(self) -> None:
        """Take the host VM down."""
        self.lab.down()


def attempt(stage: Stage, task: Task) -> dict[str, Any]:
    """A run, or a row that tells why there is none.

    Raises:
        HostVmDiedError: the stage is gone.
    """
    try:
        return stage.run(task)
    except HostVmDiedError:
        raise
    except (LabError, ValueError, KeyError, IndexError) as error:
        return task._asdict() | {"state": stage.state, "error": f"{type(error).__name__}: {error}"}


def _renice(pid: int, nice: int) -> None:
    """The host VM's processor before other work of this machine; where that is not allowed, like it.

    Among sessions the kernel goes by the nice value of each session's group (sched(7), autogroup).
    """
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
