"""How recently memory was used: DAMON's samples, the idle map, and hot, warm and cold bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.model.moments import Monotonic
from overcommit.model.page_ages import PageAges
from overcommit.units import PAGE_SIZE

SAMPLES = 20
"""Samples of each region in one window: 20, as in DAMON's defaults (100 ms / 5 ms). The resolution is 5 %."""
RECENT_WINDOWS = 8
"""The number of latest windows that decide whether memory is hot."""


class AccessRegion(NamedTuple):
    """One DAMON region of one window. ``accesses`` is the number of samples that saw an access."""

    start: int
    end: int
    accesses: int


class Window(NamedTuple):
    """The regions of a monitor over the ``seconds`` before ``ended_at`` (monotonic)."""

    ended_at: Monotonic
    seconds: float
    regions: tuple[AccessRegion, ...]


class IdleSpan(NamedTuple):
    """Addresses with the same access history.

    ``accessed_at`` is the time of the last seen access (monotonic seconds). ``recent`` has one bit for each
    of the latest `RECENT_WINDOWS` windows, the newest lowest: 1 means that an access was seen.
    """

    start: int
    end: int
    accessed_at: Monotonic
    recent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleMap:
    """Idle times of one domain by address.

    ``began_at`` bounds every idle time: memory is not known to be idle for longer than it was watched. Time
    without a window moves ``began_at`` forward, as if the watch began later.
    """

    began_at: Monotonic
    updated_at: Monotonic
    snapshots: int
    spans: tuple[IdleSpan, ...]

    @property
    def window_seconds(self) -> float:
        """The seconds that the domain was really watched."""
        return self.updated_at - self.began_at


class IdleBucket(NamedTuple):
    """Resident bytes idle for at least ``min_idle_seconds`` and less than the next bucket's bound."""

    min_idle_seconds: float
    resident_bytes: int


class ColdPiece(NamedTuple):
    """An address range that is idle long enough; ``resident_bytes`` of it are in host memory."""

    start: int
    end: int
    resident_bytes: int
    idle_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Resident guest memory by access frequency.

    Hot memory was accessed in most of the latest windows. Cold memory was accessed in none for
    ``cold_after_seconds``. The rest is warm, which includes regions where only a few pages are used.
    ``cold_bytes`` is None when the watch was shorter than ``cold_after_seconds``: unknown, not 0. ``samples``
    is how often each region was sampled in ``cold_after_seconds``. ``cooling_bytes`` have been idle for half
    of ``cold_after_seconds`` up to all of it. ``unused_bytes`` have been idle for at least
    ``unused_after_seconds``; None when the watch was shorter. ``ages`` are by page, where the kernel tells.
    """

    window_seconds: float
    snapshots: int
    samples: int
    cold_after_seconds: float
    hot_bytes: int
    warm_bytes: int
    cold_bytes: int | None
    cooling_bytes: int
    cold_pieces: tuple[ColdPiece, ...]
    histogram: tuple[IdleBucket, ...]
    unused_after_seconds: float = math.inf
    unused_bytes: int | None = None
    ages: PageAges | None = None

    @property
    def confidence(self) -> str:
        """``high`` after two windows of ``cold_after``, ``medium`` after one, ``low`` before."""
        if self.window_seconds >= 2 * self.cold_after_seconds:
            return "high"
        return "medium" if self.cold_bytes is not None else "low"

    @property
    def wss_bytes(self) -> int | None:
        """The working set: bytes accessed within ``cold_after_seconds``; None: not known."""
        return None if self.cold_bytes is None else self.hot_bytes + self.warm_bytes

    @property
    def promotions_per_minute(self) -> float:
        """The pages per minute that would come back from swap if all cold memory were paged out.

        In a steady state as much memory is accessed again after ``cold_after_seconds`` as becomes that idle.
        ``cooling_bytes`` become so within half of that time (renewal theory: the rate of events is the
        density of ages). Of memory that is used this rarely, few pages are used at a time. A region in which
        a share f of the pages is accessed is hit by one of `SAMPLES` samples with a probability of about f
        times `SAMPLES`, and then counts as a whole. So a working set that moves as a whole brings back up to
        `SAMPLES` times as much. Memory that is no longer used at all brings back nothing.
        Where ``ages`` tell how many pages become that idle, no such guess is made.
        """
        if self.ages is not None:
            return self.ages.cooling_bytes_per_second / PAGE_SIZE * 60
        return self.cooling_bytes / SAMPLES / PAGE_SIZE / (self.cold_after_seconds / 2) * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHeat:
    """How much of the host's memory is idle, whatever uses it (from physical addresses).

    ``idle_bytes`` of the LRU memory have been idle for at least ``idle_after_seconds``; None when the watch
    was shorter. It is a lower bound, because a region with one access counts as accessed.
    """

    idle_after_seconds: float
    idle_bytes: int | None
