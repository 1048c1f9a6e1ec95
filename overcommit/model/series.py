"""What is kept of each minute for weeks: the host, and each domain. Pure.

A minute is a `Minute`. Older minutes are merged into spans of 10 minutes and of an hour
(`overcommit.records.series`), which have the same figures: means, sums, and the highest or lowest value.
"""

from __future__ import annotations

from dataclasses import dataclass

IDLE_BOUNDS = (120.0, 600.0, 3600.0)
"""Seconds of idle time for which the resident bytes are kept, of those of the idle histogram."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpan:
    """The host in one span.

    ``available_bytes`` is the mean of MemAvailable, ``available_least_bytes`` its lowest value.
    ``pool_stored_bytes`` were swapped out to zram or zswap, and occupy ``pool_used_bytes`` of memory.
    ``merged_bytes`` is what KSM saves; None: not known. ``psi_some`` is the share of time in which a process
    waited for memory (0..1); None: not known.
    """

    total_bytes: int
    available_bytes: int
    available_least_bytes: int
    swap_used_bytes: int
    pool_stored_bytes: int
    pool_used_bytes: int
    merged_bytes: int | None
    psi_some: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpan:
    """One domain in one span; it ran and was seen in ``minutes`` of it. None is a gap.

    ``memory_bytes`` is the size that its definition gives it. ``swapped_bytes`` are in swap,
    ``balloon_bytes`` and ``virtio_mem_bytes`` were taken from its guest. ``working_set_bytes`` is the mean,
    ``working_set_most_bytes`` the highest minute. ``idle_bytes`` are the resident bytes that were idle for at
    least each of `IDLE_BOUNDS`. ``promoted_pages`` came back from swap. Its SLO was judged for
    ``judged_seconds``, and exceeded in ``outside_seconds`` of them. ``pain_most`` is the highest figure as a
    share of its bound.
    """

    uuid: str
    name: str
    minutes: int
    memory_bytes: int
    resident_bytes: int | None
    swapped_bytes: int | None
    balloon_bytes: int
    virtio_mem_bytes: int
    working_set_bytes: int | None
    working_set_most_bytes: int | None
    idle_bytes: tuple[int | None, ...]
    promoted_pages: int | None
    judged_seconds: float
    outside_seconds: float
    pain_most: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The host and its domains from ``at`` (seconds since the epoch) on, for ``seconds``.

    ``minutes`` of it were observed.
    """

    at: int
    seconds: int
    minutes: int
    host: HostSpan
    domains: tuple[DomainSpan, ...]
