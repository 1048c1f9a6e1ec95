"""Idle time by address over our own consecutive snapshots.

DAMON's region age is not used: up to Linux 6.17 it survives small access counts, and merging averages it.
Region boundaries move at random between snapshots, so everything is kept by address, never by region.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

from overcommit.model.heat import AccessRegion, ColdPiece, Heat, IdleBucket, IdleMap, IdleSpan
from overcommit.model.ranges import Range, normalise, total_size
from overcommit.units import MIB

HISTOGRAM_BOUNDS = (0.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Lower bounds of the idle histogram, seconds."""


def begin(ram: Sequence[Range], at: float) -> IdleMap:
    """A map in which everything counts as accessed at the moment the watch began."""
    spans = tuple(IdleSpan(start, end, at) for start, end in ram)
    return IdleMap(began_at=at, updated_at=at, snapshots=0, spans=spans)


def update(idle: IdleMap, regions: Iterable[AccessRegion], at: float) -> IdleMap:
    """Add one snapshot, whose aggregation window ended at ``at``.

    Regions outside the map (the sentinel) are ignored. Addresses no region covers keep their idle time only
    until now: not having looked is not having seen nothing, so they count as accessed.
    """
    quiet = normalise(Range(r.start, r.end) for r in regions if r.accesses == 0)
    kept: list[IdleSpan] = []
    for piece, inside in _cut(idle.spans, quiet):
        span = piece if inside else piece._replace(accessed_at=at)
        if kept and kept[-1].end == span.start and kept[-1].accessed_at == span.accessed_at:
            kept[-1] = kept[-1]._replace(end=span.end)
        else:
            kept.append(span)
    return IdleMap(began_at=idle.began_at, updated_at=at, snapshots=idle.snapshots + 1, spans=tuple(kept))


def _cut(spans: Sequence[IdleSpan], ranges: Sequence[Range]) -> Iterator[tuple[IdleSpan, bool]]:
    """Split the spans at the ranges' bounds; True goes with the parts that lie inside a range."""
    index = 0
    for start, end, accessed_at in spans:
        position = start
        while position < end:
            while index < len(ranges) and ranges[index].end <= position:
                index += 1
            if index == len(ranges) or ranges[index].start >= end:
                inside, stop = False, end
            elif ranges[index].start > position:
                inside, stop = False, ranges[index].start
            else:
                inside, stop = True, min(ranges[index].end, end)
            yield IdleSpan(position, stop, accessed_at), inside
            position = stop


def classify(idle: IdleMap, resident: Sequence[Range], *, cold_after: float, resolution: float) -> Heat:
    """Judge resident memory: hot, warm, cold, and which addresses are cold.

    ``resolution`` is the length of one snapshot's window; what was accessed within two of them is hot, so
    that one unlucky window does not cool it. Cold is unknown (None) until the watch has lasted
    ``cold_after``.
    """
    hot_within = 2 * resolution
    hot = warm = 0
    counts = [0] * len(HISTOGRAM_BOUNDS)
    cold = _ColdPieces(_piece_size(resident))
    for (start, end, accessed_at), is_resident in _cut(idle.spans, resident):
        idle_seconds = idle.updated_at - accessed_at
        is_cold = idle_seconds >= max(cold_after, hot_within)
        if not is_cold:
            cold.interrupt()
        if not is_resident:
            continue
        counts[bisect.bisect_right(HISTOGRAM_BOUNDS, idle_seconds) - 1] += end - start
        if is_cold:
            cold.add(start, end, idle_seconds)
        elif idle_seconds < hot_within:
            hot += end - start
        else:
            warm += end - start
    return Heat(
        window_seconds=idle.window_seconds,
        snapshots=idle.snapshots,
        cold_after_seconds=cold_after,
        hot_bytes=hot,
        warm_bytes=warm,
        cold_bytes=cold.resident_bytes if idle.window_seconds >= cold_after else None,
        cold_pieces=tuple(cold.pieces),
        histogram=tuple(
            IdleBucket(bound, count)
            for bound, count in zip(HISTOGRAM_BOUNDS, counts, strict=True)
            if bound <= idle.window_seconds
        ),
    )


class _ColdPieces:
    """Collects cold resident memory into pieces, each with what it holds.

    A piece may span memory that is cold but not resident: nothing is there to page out, and fewer, longer
    ranges keep DAMON cheap. It never spans anything that is not cold.
    """

    def __init__(self, piece_size: int) -> None:
        self.pieces: list[ColdPiece] = []
        self.resident_bytes = 0
        self._size = piece_size
        self._open = False

    def interrupt(self) -> None:
        """Something that is not cold lies here."""
        self._open = False

    def add(self, start: int, end: int, idle_seconds: float) -> None:
        """Resident memory, idle for that long."""
        self.resident_bytes += end - start
        while start < end:
            stop = min(end, start - start % self._size + self._size)
            last = self.pieces[-1] if self._open else None
            if last is not None and last.start // self._size == start // self._size:
                self.pieces[-1] = ColdPiece(
                    start=last.start,
                    end=stop,
                    resident_bytes=last.resident_bytes + stop - start,
                    idle_seconds=min(last.idle_seconds, idle_seconds),
                )
            else:
                self.pieces.append(ColdPiece(start, stop, stop - start, idle_seconds))
            self._open = True
            start = stop


def _piece_size(resident: Sequence[Range]) -> int:
    """About 128 pieces for a whole domain, in whole huge pages so that page-out does not split one."""
    huge_page = 2 * MIB
    return max(1, -(-total_size(resident) // (128 * huge_page))) * huge_page
