"""Counters of what the daemon has done since its start."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from overcommit.daemon.jobs import Ended
from overcommit.errors import HostError
from overcommit.host.kernel import Kernel, process_statistics
from overcommit.model.action import name_of
from overcommit.model.events import LEFT


class ActionTally:
    """Actions that ended, by kind and outcome; a few dozen pairs at most."""

    def __init__(self) -> None:
        self._ended: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])

    def add(self, ended: Ended) -> None:
        """Count one more."""
        outcome = ended.outcome
        counts = self._ended[name_of(ended.action), outcome.status.value if outcome else LEFT]
        counts[0] += 1
        counts[1] += max(0, outcome.freed_bytes) if outcome else 0

    @property
    def document(self) -> list[dict[str, Any]]:
        """For programs. ``freed_bytes`` is as read from the host when each one ended."""
        return [
            {"kind": kind, "outcome": outcome, "count": count, "freed_bytes": freed}
            for (kind, outcome), (count, freed) in sorted(self._ended.items())
        ]


class TickTally:
    """Ticks and their seconds; those that made a plan are counted apart."""

    def __init__(self) -> None:
        self._ticks = {"look": [0, 0.0], "plan": [0, 0.0]}

    def add(self, seconds: float, *, planned: bool) -> None:
        """Count one more."""
        counts = self._ticks["plan" if planned else "look"]
        counts[0] += 1
        counts[1] += seconds

    @property
    def document(self) -> dict[str, Any]:
        """For programs."""
        return {kind: {"count": count, "seconds": seconds} for kind, (count, seconds) in self._ticks.items()}


class ThreadTimes:
    """The CPU time of threads while they were observed. It never decreases when a thread ends.

    ``seconds`` is None before any of them could be read. Time between the last reading of a thread and its
    end is not included.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._seen: dict[tuple[int, str], int] = {}
        self._ticks: int | None = None

    @property
    def seconds(self) -> float | None:
        """CPU seconds of all threads together, since the first reading."""
        return None if self._ticks is None else self._ticks / os.sysconf("SC_CLK_TCK")

    def read(self, threads: Iterable[int]) -> None:
        """Read the threads: fields 14, 15 and 22 of proc_pid_stat(5). One that cannot be read is left out."""
        seen: dict[tuple[int, str], int] = {}
        for thread in threads:
            try:
                fields = process_statistics(self._kernel.read(f"/proc/{thread}/stat"))
                seen[thread, fields[19]] = int(fields[11]) + int(fields[12])
            except (OSError, ValueError, HostError):  # it has ended meanwhile
                continue
        for incarnation, ticks in seen.items():
            self._ticks = (self._ticks or 0) + max(0, ticks - self._seen.get(incarnation, 0))
        self._seen = seen
