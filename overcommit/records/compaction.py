"""What of the undo journal nobody needs any more. Pure.

A controller that runs for months moves the same balloons again and again. Of one balloon, or one memory
device, restore needs the oldest change (the size to bring back) and the lowest (how far down our own changes
can have left it), and plans need the newest. One that is back at the size it had needs none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from overcommit.model.facts import Incarnation
from overcommit.model.part import MemoryPart
from overcommit.records.journal import OF_GUESTS, Entry, GuestRecord, resized
from overcommit.units import MIB

Step = Entry | GuestRecord
"""An entry to settle, or a record to put on disk before anything else is settled."""


def compaction(
    outstanding: Sequence[Entry],
    *,
    boot_id: str,
    over: Collection[Incarnation],
    sizes: Mapping[MemoryPart, int],
    as_one: Collection[int],
) -> tuple[Step, ...]:
    """What to do, in this order, with entries that are newest first; when it is done, ask again.

    After each step, and each crash between two, restore brings back the same size. ``over`` are lives that
    have ended, ``sizes`` what balloons and devices were just found to have. Generations that are ``as_one``
    are of one piece of work: between any others a restore may have to stop, and so nothing is left out.
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
    """Whether it has the size that it had before us, and was told to."""
    (_, newest), (_, oldest) = history[0], history[-1]
    baseline = oldest.before_bytes
    return size is not None and newest.after_bytes == baseline and abs(size - baseline) <= MIB


def _end(history: Sequence[tuple[Entry, GuestRecord]]) -> list[Step]:
    """Settle all of it, the oldest last of those below a newest that says the same size twice.

    While both are there restore goes by the oldest, and when only the newest is it changes nothing.
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
