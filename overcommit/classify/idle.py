"""Idle time by address, from consecutive windows.

DAMON's region age is not used: up to Linux 6.17 it survives small access counts, and merging averages it.
Region boundaries move at random between windows, so all data is kept by address, not by region.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from overcommit.model.heat import (
    RECENT_WINDOWS,
    SAMPLES,
    AccessRegion,
    ColdPiece,
    Heat,
    HostHeat,
    IdleBucket,
    IdleMap,
    IdleSpan,
)
from overcommit.model.moments import Monotonic
from overcommit.model.ranges import Range, chop, normalise, total_size
from overcommit.units import PIECE_ALIGNMENT

HISTOGRAM_BOUNDS = (0.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Lower bounds of the idle histogram in seconds."""

_STEADY_SHARE = 0.6
_ALL_RECENT = (1 << RECENT_WINDOWS) - 1


def begin(ram: Sequence[Range], at: Monotonic) -> IdleMap:
    """A new map, in which everything counts as accessed at ``at``."""
    spans = tuple(IdleSpan(start, end, at, 0) for start, end in ram)
    return IdleMap(began_at=at, updated_at=at, snapshots=0, spans=spans)


def update(idle: IdleMap, regions: Iterable[AccessRegion], at: Monotonic, *, window: float) -> IdleMap:
    """The map with one window, which covers the ``window`` seconds before ``at``.

    Regions outside of the map (the sentinel) are ignored. Addresses that no region covers count as accessed.
    Time between windows adds to no idle time.
    """
    unseen = max(0.0, at - idle.updated_at - window)
    quiet = normalise([(start, end) for start, end, accesses in regions if not accesses])
    kept: list[IdleSpan] = []
    begins = ends = recent = 0
    accessed_at = at
    for start, end, before, inside in _cut(idle.spans, quiet):
        seen_at = before.accessed_at + unseen if inside else at
        history = (before.recent << 1 | (not inside)) & _ALL_RECENT
        if ends == start and recent == history and accessed_at == seen_at:
            ends = end
            continue
        if begins < ends:
            kept.append(IdleSpan(begins, ends, accessed_at, recent))
        begins, ends, accessed_at, recent = start, end, seen_at, history
    if begins < ends:
        kept.append(IdleSpan(begins, ends, accessed_at, recent))
    return IdleMap(
        began_at=idle.began_at + unseen,
        updated_at=at,
        snapshots=idle.snapshots + 1,
        spans=tuple(kept),
    )


def relocate(idle: IdleMap, ram: Sequence[Range], at: Monotonic) -> IdleMap:
    """The map for changed RAM: memory that stays keeps its history, new memory counts as accessed now."""
    kept = [_part(piece) for piece in _cut(idle.spans, ram) if piece.inside]
    known = normalise(Range(span.start, span.end) for span in kept)
    whole = [IdleSpan(start, end, at, 0) for start, end in ram]
    new = [_part(piece) for piece in _cut(whole, known) if not piece.inside]
    return dataclasses.replace(idle, spans=tuple(sorted(kept + new)))


class _Piece(NamedTuple):
    """A part of a span, ``inside`` of a range or outside of all."""

    start: int
    end: int
    span: IdleSpan
    inside: bool


def _part(piece: _Piece) -> IdleSpan:
    return piece.span._replace(start=piece.start, end=piece.end)


def _cut(spans: Sequence[IdleSpan], ranges: Sequence[Range]) -> Iterator[_Piece]:
    """The spans, split at the ranges' bounds."""
    index = 0
    for span in spans:
        position = span.start
        while position < span.end:
            while index < len(ranges) and ranges[index].end <= position:
                index += 1
            if index == len(ranges) or ranges[index].start >= span.end:
                inside, stop = False, span.end
            elif ranges[index].start > position:
                inside, stop = False, ranges[index].start
            else:
                inside, stop = True, min(ranges[index].end, span.end)
            yield _Piece(position, stop, span, inside)
            position = stop


def classify(
    idle: IdleMap, resident: Sequence[Range], *, cold_after: float, unused_after: float = math.inf
) -> Heat:
    """Hot, warm and cold resident memory, and the addresses of cold memory.

    Hot memory was accessed in at least `_STEADY_SHARE` of the latest windows. One window is not enough: DAMON
    samples one page of a region at a time, and a region with few used pages is sometimes hit as a whole. Cold
    bytes are unknown (None) until the watch has lasted ``cold_after``, and unused bytes until it has lasted
    ``unused_after``.
    """
    steady = _STEADY_SHARE * min(idle.snapshots, RECENT_WINDOWS)
    hot = warm = cooling = unused = reached = 0
    counts = [0] * len(HISTOGRAM_BOUNDS)
    enough = idle.window_seconds >= cold_after
    cold = _ColdPieces(_piece_size(resident))
    for start, end, span, is_resident in _cut(idle.spans, resident):
        size, idle_seconds = end - start, idle.updated_at - span.accessed_at
        is_cold = enough and idle_seconds >= cold_after
        if not is_cold or start != reached:
            cold.interrupt()  # in use, or not guest memory at all: between two blocks of RAM
        reached = end
        if not is_resident:
            continue
        counts[bisect.bisect_right(HISTOGRAM_BOUNDS, idle_seconds) - 1] += size
        if idle_seconds >= unused_after:
            unused += size
        if cold_after / 2 <= idle_seconds < cold_after:
            cooling += size
        if is_cold:
            cold.add(start, end, idle_seconds)
        elif span.recent.bit_count() >= max(steady, 1):
            hot += size
        else:
            warm += size
    return Heat(
        window_seconds=idle.window_seconds,
        snapshots=idle.snapshots,
        samples=_samples(idle, cold_after),
        cold_after_seconds=cold_after,
        hot_bytes=hot,
        warm_bytes=warm,
        cold_bytes=cold.resident_bytes if enough else None,
        cooling_bytes=cooling,
        cold_pieces=tuple(cold.pieces),
        histogram=tuple(
            IdleBucket(bound, count)
            for bound, count in zip(HISTOGRAM_BOUNDS, counts, strict=True)
            if bound <= idle.window_seconds
        ),
        unused_after_seconds=unused_after,
        unused_bytes=unused if idle.window_seconds >= unused_after else None,
    )


def _samples(idle: IdleMap, cold_after: float) -> int:
    """Samples of each region in whole windows within ``cold_after`` seconds of the watch."""
    if not idle.snapshots:
        return 0
    return SAMPLES * int(idle.snapshots * min(1.0, cold_after / idle.window_seconds))


def judge_host(idle: IdleMap, *, lru_bytes: int, idle_after: float) -> HostHeat:
    """Idle memory of the host, by physical addresses.

    Memory that is not on the kernel's LRU lists (free, slab, page tables) is never seen accessed, so all of
    it may be part of what looks idle. ``lru_bytes`` of the watched memory are on the lists.
    """
    if idle.window_seconds < idle_after:
        return HostHeat(idle_after_seconds=idle_after, idle_bytes=None)
    watched = total_size(Range(span.start, span.end) for span in idle.spans)
    idle_bytes = total_size(
        Range(span.start, span.end) for span in idle.spans if idle.updated_at - span.accessed_at >= idle_after
    )
    return HostHeat(
        idle_after_seconds=idle_after, idle_bytes=max(0, idle_bytes - max(0, watched - lru_bytes))
    )


class _ColdPieces:
    """Collects cold resident memory into pieces, each with its resident bytes.

    A piece may contain memory that is cold and not resident: there is nothing to page out, and fewer, longer
    ranges make DAMON cheaper. It never contains memory that is not cold.
    """

    def __init__(self, piece_size: int) -> None:
        self.pieces: list[ColdPiece] = []
        self.resident_bytes = 0
        self._size = piece_size
        self._open = False

    def interrupt(self) -> None:
        """End the present piece, because memory follows that is not cold."""
        self._open = False

    def add(self, start: int, end: int, idle_seconds: float) -> None:
        """Add resident memory with its idle time."""
        self.resident_bytes += end - start
        for part in chop((Range(start, end),), self._size):
            last = self.pieces[-1] if self._open else None
            if last is not None and last.start // self._size == part.start // self._size:
                self.pieces[-1] = ColdPiece(
                    start=last.start,
                    end=part.end,
                    resident_bytes=last.resident_bytes + part.size,
                    idle_seconds=min(last.idle_seconds, idle_seconds),
                )
            else:
                self.pieces.append(ColdPiece(part.start, part.end, part.size, idle_seconds))
            self._open = True


def _piece_size(resident: Sequence[Range]) -> int:
    """A size that gives about 128 pieces for a domain."""
    return max(1, -(-total_size(resident) // (128 * PIECE_ALIGNMENT))) * PIECE_ALIGNMENT
