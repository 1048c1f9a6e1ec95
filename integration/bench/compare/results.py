"""The runs that there are to do, and those that were done: one JSON line each, written as it ends.

A run that was interrupted goes on where it stopped. Rows of one saved state compare with each other only, so
each names its state.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Task(NamedTuple):
    """One run: a controller at a level, for the n-th time."""

    scenario: str
    controller: str
    level: str
    repeat: int


def tasks(scenario: str, settings: Sequence[tuple[str, str]], repeats: int) -> list[Task]:
    """All runs of a scenario; repeats are interleaved, so that slow drifts of the machine hit everybody."""
    return [
        Task(scenario, controller, level, repeat)
        for repeat in range(1, repeats + 1)
        for controller, level in settings
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows so far; a last line that was cut short is no row."""
    rows = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(text))
        except ValueError:
            continue
    return rows


def task_of(row: dict[str, Any]) -> Task:
    """Which task a row is of."""
    return Task(row["scenario"], row["controller"], row["level"], row["repeat"])


def pending(wanted: Iterable[Task], rows: Iterable[dict[str, Any]]) -> list[Task]:
    """What is left to do, in order. A row that tells of an error does not count as done."""
    done = {task_of(row) for row in rows if "error" not in row}
    return [task for task in wanted if task not in done]


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row, on a line of its own whatever was cut short before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    broken = path.exists() and path.read_bytes()[-1:] not in {b"", b"\n"}
    with path.open("a") as file:
        file.write(("\n" if broken else "") + json.dumps(row, separators=(",", ":")) + "\n")


def merged(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of each scenario, controller and level over its ``n`` repeats, with the spread of savings."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if "error" not in row:
            groups.setdefault((row["scenario"], row["controller"], row["level"]), []).append(row)
    return [_median(key, group) for key, group in groups.items()]


_FIGURES = (
    *("saved", "peak", "zram", "resident", "seconds", "to_half", "to_most", "back_control", "back_after"),
    *("back", "worst_ms", "rate", "oom_kills", "cpu"),
)


def _median(key: tuple[str, str, str], group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(("scenario", "controller", "level"), key, strict=True))
    for figure in _FIGURES:
        values = [row[figure] for row in group if row[figure] is not None]
        found[figure] = statistics.median(values) if values else None
    saved = [row["saved"] for row in group]
    found["spread"] = [min(saved), max(saved)]
    found["n"] = len(group)
    found["guests"] = {
        name: statistics.median(row["guests"][name]["back_control"] + row["guests"][name]["back_after"]
                                for row in group)
        for name in group[0]["guests"]
    }  # fmt: skip
    return found
