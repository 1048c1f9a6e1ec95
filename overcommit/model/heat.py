"""How recently memory was used: DAMON's samples, our idle map over them, and the classes drawn from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.units import PAGE_SIZE

SAMPLES = 20
"""How often each region is sampled in one window, as in DAMON's own defaults: that resolves a rate of 5 %."""
RECENT_WINDOWS = 8
"""Over how many snapshots it is judged whether memory is in steady use."""


class AccessRegion(NamedTuple):
    """One DAMON region of one window; ``accesses`` counts the samples in it that hit."""

    start: int
    end: int
    accesses: int


class Window(NamedTuple):
    """What a monitor saw in the ``seconds`` up to ``ended_at`` (monotonic)."""

    ended_at: float
    seconds: float
    regions: tuple[AccessRegion, ...]


class IdleSpan(NamedTuple):
    """Addresses with one history.

    ``accessed_at`` is when they were last seen accessed (monotonic seconds); ``recent`` has a bit for each of
    the latest `RECENT_WINDOWS` snapshots, the newest lowest, set when that one saw an access.
    """

    start: int
    end: int
    accessed_at: float
    recent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleMap:
    """Address-weighted idle times of one domain.

    ``began_at`` bounds every claim: nothing can be known idle for longer than we looked. Time that no
    snapshot saw moves it forward, as if the watch had begun later.
    """

    began_at: float
    updated_at: float
    snapshots: int
    spans: tuple[IdleSpan, ...]

    @property
    def window_seconds(self) -> float:
        """How long the domain was really watched."""
        return self.updated_at - self.began_at


class IdleBucket(NamedTuple):
    """Resident bytes idle for at least ``min_idle_seconds`` and less than the next bucket's bound."""

    min_idle_seconds: float
    resident_bytes: int


class ColdPiece(NamedTuple):
    """Addresses that have been idle long enough, of which ``resident_bytes`` are in host memory."""

    start: int
    end: int
    resident_bytes: int
    idle_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Resident guest memory by temperature.

    Hot memory was accessed in most of the latest windows, cold memory in none for ``cold_after_seconds``;
    between the two it is warm, which includes areas where only a page here and there is used.
    ``cold_bytes`` is None when the watch was shorter than ``cold_after_seconds``: unknown, not zero.
    ``samples`` is how often a random page of each region was looked at in ``cold_after_seconds``.
    ``cooling_bytes`` have been idle for half of ``cold_after_seconds`` to all of it. ``unused_bytes`` have
    been idle for ``unused_after_seconds`` at least; None when the watch was shorter.
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

    @property
    def confidence(self) -> str:
        """``high`` after two windows of ``cold_after``, ``medium`` after one, ``low`` before."""
        if self.window_seconds >= 2 * self.cold_after_seconds:
            return "high"
        return "medium" if self.cold_bytes is not None else "low"

    @property
    def wss_bytes(self) -> int | None:
        """The working set: what was accessed within ``cold_after_seconds``."""
        return None if self.cold_bytes is None else self.hot_bytes + self.warm_bytes

    @property
    def promotions_per_minute(self) -> float:
        """Pages per minute that would be read back if all cold memory were paged out.

        In a steady state as much memory is accessed again after ``cold_after_seconds`` as becomes that idle;
        the cooling memory becomes so within half of that time (renewal theory: the rate of events is the
        density of ages). Of memory this rarely used few pages are used at a time: a region in which a share f
        of the pages is touched is hit by one of `SAMPLES` looks with a chance of about f times `SAMPLES`, and
        counts as a whole then. A working set that moves as a whole brings up to `SAMPLES` times as much back;
        memory that was put aside for good in this time, nothing.
        """
        return self.cooling_bytes / SAMPLES / PAGE_SIZE / (self.cold_after_seconds / 2) * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHeat:
    """How much of the host's own memory is idle, whoever uses it; from physical addresses.

    ``idle_bytes`` of what reclaim works on have been idle for ``idle_after_seconds`` at least; None when the
    watch was shorter. It is a lower bound: a region counts as accessed as a whole.
    """

    idle_after_seconds: float
    idle_bytes: int | None
