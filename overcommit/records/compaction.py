"""Finds entries of the undo journal that are no longer needed. Pure.

A controller that runs for months moves the same balloons again and again. Of one balloon, or one memory
device, restore needs the oldest change (the size to restore) and the lowest (the least size that this program
can have left), and plans need the newest. One with its original size needs none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from overcommit.model.facts import Incarnation
from overcommit.model.part import MemoryPart
from overcommit.records.journal import OF_GUESTS, Entry, GuestRecord, resized
from overcommit.units import MIB

Step = Entry | GuestRecord
"""An entry to settle, or a record to write before anything else is settled."""


def compaction(
    outstanding: Sequence[Entry],
    *,
    boot_id: str,
    over: Collection[Incarnation],
    sizes: Mapping[MemoryPart, int],
    as_one: Collection[int],
) -> tuple[Step, ...]:
    """The steps, in order, for entries that are newest first. When they are done, ask again.

    After each step, and after a crash between two, restore brings back the same size. ``over`` are
    incarnations that have ended. ``sizes`` are the present sizes of balloons and devices. Generations
    ``as_one`` belong to one piece of work. A restore may have to stop between any others, so nothing between
    those is left out.
    """
    steps: list[Step] = []
    moves: dict[MemoryPart, list[tuple[Entry, GuestRecord]]] = {}
    for entry in outstanding:
        record = entry.record
        if entry.boot_id != boot_id or (isinstance(record, OF_GUESTS) and record.domain in over):
            steps.append(entry)
        elif isinstance(record, GuestRecord):
            moves.setdefault(record.part, []).append((entry, record))
    for which, history in moves.items():
        if _is_back(history, sizes.get(which)):
            steps += _end(history)
        else:
            steps += _middle([move for move in history if move[0].generation in as_one])
    return tuple(steps)


def _is_back(history: Sequence[tuple[Entry, GuestRecord]], size: int | None) -> bool:
    """Whether the part has its original size, and was told to have it."""
    (_, newest), (_, oldest) = history[0], history[-1]
    baseline = oldest.before_bytes
    return size is not None and newest.after_bytes == baseline and abs(size - baseline) <= MIB


def _end(history: Sequence[tuple[Entry, GuestRecord]]) -> list[Step]:
    """Settle all of it.

    Of entries below a newest one with the same size twice, the oldest is settled last.

    While both exist restore uses the oldest. When only the newest exists, it changes nothing.
    """
    (newest, record), (_, oldest) = history[0], history[-1]
    baseline = oldest.before_bytes
    if record.before_bytes == baseline:
        return [*(entry for entry, _ in history[1:]), newest]
    return [resized(record.part, before_bytes=baseline, after_bytes=baseline)]


def _middle(history: Sequence[tuple[Entry, GuestRecord]]) -> list[Step]:
    """All but the oldest, the newest and one of the lowest."""
    if len(history) < 3:
        return []
    lowest, _ = min(history, key=lambda move: move[1].after_bytes)
    return [entry for entry, _ in history[1:-1] if entry != lowest]
