"""Files that a fake guest reads, and its cache of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from overcommit.units import MIB

_SEEN_SECONDS = 10.0
"""How long a read counts as an access, so that a window of DAMON sees it."""


@dataclass
class FakeFiles:
    """``blocks`` of 1 MiB, read one after the other every ``period`` seconds; None: they were read once.

    ``pages`` has the chunk that caches a block, least recently used first. Blocks that are not cached are
    read from a disk. ``passes`` has the bytes that were read each time. DAMON misses reads of the first
    ``unseen`` blocks.
    """

    blocks: int
    period: float | None
    unseen: int = 0
    pages: dict[int, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    read_bytes: int = 0
    passes: list[int] = field(default_factory=list)
    _next_in: float = 0.0
    _seen_for: float = 0.0

    @property
    def cached(self) -> set[int]:
        """The chunks of the cache."""
        return set(self.pages.values())

    def pass_time(self, seconds: float, place: Callable[[], int | None], use: Callable[[int], None]) -> None:
        """Read the files when it is time. ``place`` finds a free chunk, ``use`` brings one into memory."""
        self._seen_for -= seconds
        if self._seen_for <= 0:
            self.touched.clear()
        self._next_in -= seconds
        if self._next_in > 0 or (self.period is None and self.passes):
            return
        self._next_in += self.period or 0.0
        before = self.read_bytes
        for block in range(self.blocks):
            self._read(block, place, use)
        self.touched = {chunk for block, chunk in self.pages.items() if block >= self.unseen}
        self._seen_for = _SEEN_SECONDS
        self.passes.append(self.read_bytes - before)

    def drop(self) -> int | None:
        """Drop the least recently used block. Returns its chunk; None: nothing is cached."""
        oldest = next(iter(self.pages), None)
        return None if oldest is None else self.pages.pop(oldest)

    def forget(self, chunk: int) -> None:
        """Forget the chunk, which holds nothing any more."""
        self.pages = {block: cached for block, cached in self.pages.items() if cached != chunk}

    def _read(self, block: int, place: Callable[[], int | None], use: Callable[[int], None]) -> None:
        chunk = self.pages.pop(block, None)
        if chunk is None:
            self.read_bytes += MIB
            chunk = place()
            if chunk is None:
                chunk = self.drop()
        if chunk is not None:
            use(chunk)
            self.pages[block] = chunk
