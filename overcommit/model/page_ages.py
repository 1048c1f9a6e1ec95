"""How long ago pages were used, by the kernel's own generations: page by page, where DAMON sees regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_JITTER_SHARE = 0.9
"""Walks are as far apart as a busy host lets them be."""


class Generation(NamedTuple):
    """Pages that were last seen accessed in one interval.

    ``born_seconds_ago`` is when the interval began, ``anon_bytes`` are anonymous and shared memory.
    """

    born_seconds_ago: float
    anon_bytes: int


class IdlePages(NamedTuple):
    """Bytes idle for at least ``seconds`` at the latest walk, and for at most ``interval_seconds`` longer."""

    seconds: float
    interval_seconds: float
    anon_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAges:
    """What the walks of a domain's page tables saw; ``groups`` have its pages by idle time, longest first.

    A walk was made every ``every_seconds``, as far as the host let it be.
    """

    groups: tuple[IdlePages, ...]
    every_seconds: float

    @property
    def known_seconds(self) -> float:
        """For how long memory can be told to be idle."""
        return max((group.seconds for group in self.groups), default=0.0)

    @property
    def accessed_bytes(self) -> int:
        """What was accessed within the latest interval."""
        return sum(group.anon_bytes for group in self.groups if group.seconds <= 0)

    def tells(self, seconds: float) -> bool:
        """Whether there were walks enough to know what was idle for so long, or for as long as can be known.

        There are four generations at most (Linux, ``MAX_NR_GENS``): two intervals between the oldest and
        what is in use.
        """
        return self.known_seconds >= _JITTER_SHARE * min(seconds, 2 * self.every_seconds) > 0

    def idle_bytes(self, seconds: float) -> int:
        """What was idle for so long; or for as long as can be known, where that is less."""
        least = _JITTER_SHARE * min(seconds, self.known_seconds)
        return sum(group.anon_bytes for group in self.groups if group.seconds >= least)

    @property
    def cooling_bytes_per_second(self) -> float:
        """How much becomes idle for as long as can be known, in a second."""
        return sum(
            group.anon_bytes / group.interval_seconds
            for group in self.groups
            if 0 < group.seconds < _JITTER_SHARE * self.known_seconds and group.interval_seconds > 0
        )


def page_ages(nodes: Sequence[Sequence[Generation]], every_seconds: float) -> PageAges:
    """Idle times by the generations of a domain on each memory node, oldest first.

    A walk puts what it finds accessed into the generation that is the youngest at that time, and begins a
    new one (Linux, ``inc_max_seq``). So pages of a generation were last accessed before the next one was
    born, and not seen accessed until the latest walk, at the birth of the youngest.
    """
    groups: list[IdlePages] = []
    for generations in nodes:
        if not generations:
            continue
        latest = generations[-1].born_seconds_ago
        for older, newer in pairwise(generations):
            idle = max(0.0, newer.born_seconds_ago - latest)
            length = older.born_seconds_ago - newer.born_seconds_ago
            groups.append(IdlePages(idle, max(0.0, length), older.anon_bytes))
        groups.append(IdlePages(0.0, latest, generations[-1].anon_bytes))
    return PageAges(groups=tuple(sorted(groups, reverse=True)), every_seconds=every_seconds)
