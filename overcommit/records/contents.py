"""The content of a file of the undo journal: what is outstanding, and which lines cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overcommit.records.entries import ActionBegun, Entry, Fault, GenerationSummary, from_json
from overcommit.records.lines import Damage, Lines, read

NOT_ON_DISK = 1 << 40
"""The number of an entry that is not on disk yet: newer than all that are."""
_HEAD = ("command", "boot_id", "started_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content of a file while it has this ``stamp``. ``head`` is None where that line is lost."""

    stamp: tuple[int, int, int]
    head: GenerationSummary | None
    outstanding: tuple[Entry, ...]
    begun: tuple[Entry, ...]
    faults: tuple[Fault, ...]


def content_of(number: int, path: Path, stamp: tuple[int, int, int]) -> Content:
    """The content of the file, which has this ``stamp``.

    Raises:
        FileNotFoundError: there is no such file any more.
    """
    try:
        said = read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        said = Lines(found=(), damages=(Damage(line=1, why=error.strerror or str(error)),))
    damages = list(said.damages)
    head: dict[str, Any] = {}
    entries: dict[int, Entry] = {}
    settled: set[int] = set()
    for place, line in said.found:
        try:
            match _kind_of(line):
                case "head" if not head and not entries:
                    head = {name: line[name] for name in _HEAD}
                case "record":
                    entry = _entry(number, line, head.get("boot_id"))
                    if entry.number in entries:
                        raise ValueError("its number is that of an earlier line")
                    entries[entry.number] = entry
                case "settled":
                    settled.add(line["settled"])
                case "probe":
                    pass
                case _:
                    raise ValueError("it is of an unknown kind")
        except ValueError as error:
            damages.append(Damage(line=place, why=str(error)))
    left = [entry for entry in entries.values() if entry.number not in settled]
    boots = {entry.boot_id for entry in entries.values()} | ({head["boot_id"]} if head else set())
    boot = next(iter(boots)) if len(boots) == 1 else None
    undone = tuple(entry for entry in left if not isinstance(entry.record, ActionBegun))
    return Content(
        stamp=stamp,
        head=GenerationSummary(number=number, outstanding=len(undone), **head) if head else None,
        outstanding=undone,
        begun=tuple(entry for entry in left if isinstance(entry.record, ActionBegun)),
        faults=tuple(Fault(file=path.name, damage=damage, boot_id=boot) for damage in damages),
    )


def _kind_of(line: Mapping[str, Any]) -> str | None:
    """The kind of a line; None where it does not have one."""
    keys = line.keys() - {"format"}
    if keys == set(_HEAD):
        words = isinstance(line["command"], str) and isinstance(line["boot_id"], str)
        return "head" if words and type(line["started_at"]) in {int, float} else None
    if keys in ({"number", "record"}, {"number", "record", "boot_id"}):
        right = type(line["number"]) is int and isinstance(line.get("boot_id", ""), str)
        return "record" if right and 0 <= line["number"] < NOT_ON_DISK else None
    if keys == {"settled"}:
        return "settled" if type(line["settled"]) is int else None
    return None if keys else "probe"


def _entry(generation: int, line: Mapping[str, Any], boot_id: str | None) -> Entry:
    boot = line.get("boot_id", boot_id)
    if boot is None:
        message = "its boot is not known"
        raise ValueError(message)
    return Entry(generation=generation, number=line["number"], boot_id=boot, record=from_json(line["record"]))
