"""The kernel's tracing over a `FakeDamon`: instances that record each aggregation."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from overcommit.damon.trace import INSTANCES, TRACING
from overcommit.testing.fake_damon import FakeDamon
from overcommit.testing.fake_kdamond import RunningKdamond

_EVENT = "events/damon/damon_aggregated"
_FILES = {"buffer_size_kb": "1408", "trace_clock": "local", f"{_EVENT}/enable": "0"}


@dataclass
class _Instance:
    files: dict[str, str] = field(default_factory=lambda: dict(_FILES))
    pipe: list[str] = field(default_factory=list)


@dataclass
class FakeTrace:
    """The files below ``/sys/kernel/tracing``, if it is ``there``.

    ``lose`` is the number of next lines that find no room in the ring buffer.
    """

    damon: FakeDamon
    there: bool = True
    lose: int = 0
    instances: dict[str, _Instance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Receive DAMON's events."""
        self.damon.listeners.append(self._record)

    def exists(self, path: str) -> bool:
        """Whether it is there."""
        name = path.removeprefix(INSTANCES + "/")
        return self.there and (path in {TRACING, INSTANCES, f"{TRACING}/{_EVENT}"} or name in self.instances)

    def write(self, path: str, value: str) -> None:
        """Set a file of an instance."""
        name, _, file = path.removeprefix(INSTANCES + "/").partition("/")
        if name not in self.instances or file not in _FILES:
            raise _refusal(errno.ENOENT, path)
        self.instances[name].files[file] = value

    def drain(self, path: str, most_bytes: int) -> str:
        """The lines that an instance has recorded since the last call, about ``most_bytes`` at most."""
        name, _, file = path.removeprefix(INSTANCES + "/").partition("/")
        if name not in self.instances or file != "trace_pipe":
            raise _refusal(errno.ENOENT, path)
        pipe, count, size = self.instances[name].pipe, 0, 0
        while count < len(pipe) and size < most_bytes:
            size += len(pipe[count])
            count += 1
        drained = "".join(pipe[:count])
        del pipe[:count]
        return drained

    def make_directory(self, path: str) -> None:
        """Make an instance."""
        if not self.there:
            raise _refusal(errno.ENOENT, path)
        name = path.removeprefix(INSTANCES + "/")
        if name in self.instances:
            raise _refusal(errno.EEXIST, path)
        self.instances[name] = _Instance()

    def remove_directory(self, path: str) -> None:
        """Remove an instance."""
        if self.instances.pop(path.removeprefix(INSTANCES + "/"), None) is None:
            raise _refusal(errno.ENOENT, path)

    def _record(self, kdamond: RunningKdamond) -> None:
        listening = [i for i in self.instances.values() if i.files[f"{_EVENT}/enable"] != "0"]
        if not listening:
            return
        at = self.damon.host.uptime
        event = f"       kdamond.0-{kdamond.pid}     [000] ..... {at:12.6f}: damon_aggregated: "
        lines = kdamond.aggregated(event)
        for instance in listening:
            lost, self.lose = min(self.lose, len(lines)), max(0, self.lose - len(lines))
            if lost and not self.lose:
                instance.pipe.append("CPU:0 [LOST 1 EVENTS]\n")
            instance.pipe += lines[lost:]


def _refusal(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
