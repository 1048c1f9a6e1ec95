"""A guest as a model of its memory accesses, to simulate days of page-out in seconds.

Memory consists of chunks that are used independently, each with its own period. A chunk that was paged out
comes back at its next use. Time passes in ticks. Once a minute cold memory is taken: by a `Throttle`, or, for
comparison, always after the same idle time. The same seed gives the same result.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import NamedTuple

from overcommit.model.heat import SAMPLES
from overcommit.model.pain import PainBounds
from overcommit.model.policy import DomainClass
from overcommit.slo import SloSample, Throttle
from overcommit.units import KIB, MIB, PAGE_SIZE

_CHUNK = 128 * KIB
_READ_AHEAD = 8 * PAGE_SIZE
_TICK, _MINUTE, _HOUR, _DAY = 5.0, 60.0, 3600.0, 86400.0
_READ_SECONDS = 100e-6
"""The stall of one promoted page, decompression and queueing included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Memory used with periods from ``shortest`` to ``longest`` seconds, between two hours of each day.

    A chunk is used as a whole.
    """

    size_bytes: int
    shortest: float
    longest: float
    chunk_bytes: int = _CHUNK
    from_hour: float = 0.0
    to_hour: float = 24.0

    def next_use(self, at: float, period: float, chance: float) -> float:
        """When memory used at ``at`` is used next; ``chance`` is 0 to 1."""
        use = at + period * (0.9 + 0.2 * chance)
        begins, ends = self.from_hour * _HOUR, self.to_hour * _HOUR
        if begins <= use % _DAY < ends:
            return use
        today = use - use % _DAY
        return today + begins + (_DAY if use % _DAY >= ends else 0.0) + period * chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest. ``hot_bytes`` are always in use, ``idle_bytes`` never again."""

    name: str
    hot_bytes: int
    idle_bytes: int
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """All of its memory."""
        return self.hot_bytes + self.idle_bytes + sum(part.size_bytes for part in self.parts)


class Minute(NamedTuple):
    """The results of one minute.

    ``pages_limit`` is the SLO bound; ``out_bytes`` were paged out at its end.
    """

    promoted_pages: int
    pages_limit: float
    stall: float
    cold_after_seconds: float
    out_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The results, minute by minute, under a class."""

    guest: Guest
    domain_class: DomainClass
    minutes: tuple[Minute, ...]

    @property
    def outside_share(self) -> float:
        """The share of minutes beyond the SLO, counted independently of the controller."""
        most = self.domain_class.objective.psi_some
        outside = (m.promoted_pages > m.pages_limit or m.stall > most for m in self.minutes)
        return sum(outside) / len(self.minutes)

    @property
    def saved_share(self) -> float:
        """The mean share of the guest's memory that was paged out."""
        return sum(m.out_bytes for m in self.minutes) / len(self.minutes) / self.guest.size_bytes

    @property
    def turns(self) -> int:
        """How often the idle time after which memory is cold changed its direction."""
        cold_after = [m.cold_after_seconds for m in self.minutes]
        signs = [
            math.copysign(1, after - before) for before, after in pairwise(cold_after) if after != before
        ]
        return sum(a != b for a, b in pairwise(signs))

    @property
    def per_hour(self) -> tuple[int, ...]:
        """Promoted pages, by hour."""
        pages = [m.promoted_pages for m in self.minutes]
        return tuple(sum(pages[at : at + 60]) for at in range(0, len(pages), 60))


class _Memory:
    """The chunks of a guest, with their state and last use."""

    def __init__(self, guest: Guest, seed: int) -> None:
        self.out_bytes = 0
        self._random = random.Random(seed)  # noqa: S311 - chance that repeats
        self._parts = [part for part in guest.parts for _ in range(part.size_bytes // part.chunk_bytes)]
        self._periods = [
            part.shortest * (part.longest / part.shortest) ** self._random.random() for part in self._parts
        ]
        self._sizes = [part.chunk_bytes for part in self._parts]
        self._sizes += [_CHUNK] * (guest.idle_bytes // _CHUNK)
        chunks = len(self._sizes)
        self._used_at = [0.0] * chunks
        self._out = bytearray(chunks)
        self._aging = deque((0.0, chunk) for chunk in range(chunks))
        """Uses, oldest first; those that were not the chunk's last one no longer count."""
        self._due = [(self._next_use(chunk, 0.0), chunk) for chunk in range(len(self._parts))]
        heapq.heapify(self._due)

    def pass_to(self, now: float) -> int:
        """Let time pass. Returns the promoted pages."""
        promoted = 0
        while self._due and self._due[0][0] <= now:
            used_at, chunk = self._due[0]
            heapq.heapreplace(self._due, (self._next_use(chunk, used_at), chunk))
            if self._out[chunk]:
                self._out[chunk] = 0
                self.out_bytes -= self._sizes[chunk]
                promoted += self._sizes[chunk] // PAGE_SIZE
            self._used_at[chunk] = used_at
            self._aging.append((used_at, chunk))
        return promoted

    def aged(self, now: float, seconds: float) -> int:
        """Resident bytes that were not used for that time."""
        old = takewhile(lambda use: use[0] <= now - seconds, self._aging)
        return sum(self._sizes[use[1]] for use in old if self._counts(use))

    def take(self, now: float, cold_after: float, most_bytes: float) -> None:
        """Page out what is cold, longest idle first."""
        while most_bytes > 0 and self._aging and self._aging[0][0] <= now - cold_after:
            use = self._aging.popleft()
            if self._counts(use):
                self._out[use[1]] = 1
                self.out_bytes += self._sizes[use[1]]
                most_bytes -= self._sizes[use[1]]

    def _counts(self, use: tuple[float, int]) -> bool:
        return self._used_at[use[1]] == use[0]

    def _next_use(self, chunk: int, at: float) -> float:
        return self._parts[chunk].next_use(at, self._periods[chunk], self._random.random())


def live(
    guest: Guest, domain_class: DomainClass, *, hours: float = 24.0, controlled: bool = True, seed: int = 1
) -> Days:
    """Simulate the guest. Not ``controlled``: memory is taken by the class's idle time only."""
    memory, throttle = _Memory(guest, seed), Throttle.begin(domain_class)
    objective, step = domain_class.objective, domain_class.step * guest.size_bytes
    minutes: list[Minute] = []
    working_set: int | None = None
    cooling_pages: float | None = None
    for minute in range(round(hours * 60)):
        came_back = 0
        for tick in range(round(_MINUTE / _TICK)):
            promoted = memory.pass_to(minute * _MINUTE + (tick + 1) * _TICK)
            came_back += promoted
            if controlled:
                throttle = throttle.after(_sample(promoted, working_set, cooling_pages, memory.out_bytes))
        now, held = (minute + 1) * _MINUTE, throttle.restraint
        cold_after = held.cold_after_seconds if controlled else domain_class.cold_after_seconds
        cold = memory.aged(now, cold_after)
        cooling = memory.aged(now, cold_after / 2) - cold
        working_set = guest.size_bytes - memory.out_bytes - cold
        cooling_pages = cooling / SAMPLES / PAGE_SIZE / (cold_after / 2) * 60
        if not controlled:
            memory.take(now, cold_after, step)
        elif held.why_not is None:
            memory.take(now, cold_after, step * held.step_share)
        bounds = PainBounds.of(objective.psi_some, objective.promotions_per_minute, working_set)
        minutes.append(
            Minute(
                promoted_pages=came_back,
                pages_limit=bounds.promoted_pages_per_minute,
                stall=came_back * _READ_SECONDS / _MINUTE,
                cold_after_seconds=cold_after,
                out_bytes=memory.out_bytes,
            )
        )
    return Days(guest=guest, domain_class=domain_class, minutes=tuple(minutes))


def _sample(
    promoted_pages: int, working_set: int | None, cooling_pages: float | None, out_bytes: int
) -> SloSample:
    return SloSample(
        seconds=_TICK,
        promoted_pages=promoted_pages,
        stalled_seconds=min(_TICK, promoted_pages * _READ_SECONDS),
        working_set_bytes=working_set,
        cooling_pages_per_minute=cooling_pages,
        out_bytes=out_bytes,
        taking=False,
        reduced=False,
        usable_bytes=None,
        reserve_bytes=0,
        swap_in_bytes=None,
        major_faults=None,
    )


QUIET = Guest(
    name="quiet",
    hot_bytes=256 * MIB,
    idle_bytes=704 * MIB,
    parts=(Part(size_bytes=64 * MIB, chunk_bytes=_READ_AHEAD, shortest=2 * _HOUR, longest=24 * _HOUR),),
)
"""A guest whose rarely used memory may all be taken, because it is used so rarely."""
STEP = Guest(
    name="step",
    hot_bytes=256 * MIB,
    idle_bytes=448 * MIB,
    parts=(
        Part(size_bytes=64 * MIB, chunk_bytes=_READ_AHEAD, shortest=2 * _HOUR, longest=24 * _HOUR),
        Part(
            size_bytes=256 * MIB,
            chunk_bytes=512 * KIB,
            shortest=_MINUTE,
            longest=_MINUTE,
            from_hour=6.0,
            to_hour=12.0,
        ),
    ),
)
"""A working set that doubles from 6 to 12 o'clock."""
WORKER = Guest(
    name="worker",
    hot_bytes=256 * MIB,
    idle_bytes=512 * MIB,
    parts=(Part(size_bytes=256 * MIB, chunk_bytes=512 * KIB, shortest=150.0, longest=150.0),),
)
"""A guest that uses each of its pages every 150 s, just after 120 s have made them cold."""
NIGHTLY = Guest(
    name="nightly",
    hot_bytes=256 * MIB,
    idle_bytes=320 * MIB,
    parts=(
        Part(size_bytes=64 * MIB, chunk_bytes=_READ_AHEAD, shortest=2 * _HOUR, longest=24 * _HOUR),
        Part(size_bytes=384 * MIB, shortest=_MINUTE, longest=5 * _MINUTE, from_hour=2.0, to_hour=3.0),
    ),
)
"""A guest with a batch job from 2 to 3 o'clock that uses more memory than the rest of the day."""
SPREAD = Guest(
    name="spread",
    hot_bytes=256 * MIB,
    idle_bytes=256 * MIB,
    parts=(Part(size_bytes=512 * MIB, shortest=_MINUTE, longest=24 * _HOUR),),
)
"""A guest with memory of every idle time: each SLO bound has one right idle time."""
GUESTS = (QUIET, STEP, WORKER, NIGHTLY, SPREAD)
