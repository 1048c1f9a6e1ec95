"""Sets of half-open address ranges, used by DAMON, pagemap and the planner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Range(NamedTuple):
    """Addresses ``start <= a < end``, in bytes."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes covered."""
        return self.end - self.start


def normalise(ranges: Iterable[tuple[int, int]]) -> tuple[Range, ...]:
    """Sort, drop empty ranges, and join those that touch or overlap."""
    joined: list[Range] = []
    start = end = 0
    for low, high in sorted(ranges):
        if low <= end and start < end:
            end = max(end, high)
        elif low < high:
            if start < end:
                joined.append(Range(start, end))
            start, end = low, high
    if start < end:
        joined.append(Range(start, end))
    return tuple(joined)


def chop(ranges: Iterable[Range], size: int) -> Iterator[Range]:
    """Cut ranges into pieces of at most ``size`` bytes, on addresses that are multiples of it."""
    for start, end in ranges:
        position = start
        while position < end:
            stop = min(end, position - position % size + size)
            yield Range(position, stop)
            position = stop


def total_size(ranges: Iterable[Range]) -> int:
    """Bytes in all ranges; they must not overlap (see `normalise`)."""
    return sum(r.end - r.start for r in ranges)


def intersect(left: Sequence[Range], right: Sequence[Range]) -> Iterator[Range]:
    """The parts that are in both; each side sorted and free of overlaps."""
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i].start, right[j].start), min(left[i].end, right[j].end)
        if start < end:
            yield Range(start, end)
        if left[i].end < right[j].end:
            i += 1
        else:
            j += 1
