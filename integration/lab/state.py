"""What is remembered about a running lab, and how its process is recognised again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from integration.lab import paths

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process by its number and start time: a number alone is reused."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The identity of a running process; None when there is none (or only a zombie)."""
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123 - hot path
                text = stat.read()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # the command, in parentheses, may itself contain spaces and parentheses
        columns = text.rpartition(")")[2].split()
        return None if columns[0] in "ZX" else cls(pid, int(columns[19]))

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return ProcessId.of(self.pid) == self

    def kill(self, patience: float = 5.0) -> None:
        """End the process: ask, wait, insist."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive():
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            self.wait_gone(patience)

    def wait_gone(self, patience: float) -> bool:
        """Wait until the process is gone; tell whether it is."""
        end = time.monotonic() + patience
        while self.alive() and time.monotonic() < end:
            time.sleep(0.05)
        return not self.alive()


@dataclass(frozen=True)
class LabState:
    """A host VM that was started."""

    name: str
    process: ProcessId
    port: int
    kernel: str
    image: str
    memory: str
    cpus: int
    accel: str
    append: str
    started: float
    nodes: int = 1
    owner: ProcessId | None = None
    """Who alone has a use for it; None for one that is kept until it is taken down."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody has a use for it any more."""
        return self.owner is not None and not self.owner.alive()

    def save(self) -> None:
        """Write the state whole or not at all."""
        path = state_file(self.name)
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(path)

    @classmethod
    def load(cls, name: str) -> Self | None:
        """The state of a lab; None when it was never up or what is there is unreadable."""
        try:
            raw: dict[str, Any] = json.loads(state_file(name).read_text())
            raw["process"] = ProcessId(**raw["process"])
            raw["owner"] = ProcessId(**raw["owner"]) if raw.get("owner") else None
            return cls(**{field.name: raw[field.name] for field in fields(cls) if field.name in raw})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None


def state_file(name: str) -> Path:
    """Where a lab's state is kept."""
    return paths.run_dir(name) / "state.json"


def names() -> list[str]:
    """The labs that have a state, running or not."""
    return sorted(path.parent.name for path in (paths.cache() / "run").glob("*/state.json"))


def forget(name: str) -> None:
    """Remove all that a lab left, a QEMU that was started and never recorded included."""
    _end_unrecorded(paths.run_dir(name) / "pid")
    shutil.rmtree(paths.run_dir(name), ignore_errors=True)
    shutil.rmtree(paths.socket_dir(name), ignore_errors=True)


def _end_unrecorded(pid_file: Path) -> None:
    """Whoever starts a lab may be killed between QEMU's start and our record of it."""
    with suppress(FileNotFoundError, ValueError):
        process = ProcessId.of(int(pid_file.read_text()))
        if process and str(pid_file) in _command_line(process.pid):
            process.kill()


def _command_line(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as arguments:  # noqa: PTH123
        return arguments.read()
