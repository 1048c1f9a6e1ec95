"""Who pages out, behind one interface. What an actor did is read from the host's counters, never from it.

docs/adr/0004 compares them on real guests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from overcommit.apply.pace import Pace
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import (
    ACTOR_INTERVALS,
    RECHECK_AGGREGATIONS,
    fvaddr_actor,
    paddr_actor,
    with_pain,
)
from overcommit.damon.tree import Kdamond, Target
from overcommit.errors import HostError
from overcommit.host.cgroup import reclaim
from overcommit.host.kernel import Advice, Kernel
from overcommit.host.memory import read_swap_free, read_system_ram
from overcommit.model.action import PageoutAction
from overcommit.model.facts import DomainFacts
from overcommit.model.outcome import Controller
from overcommit.model.policy import PageoutActor
from overcommit.model.ranges import Range, chop, intersect, normalise, total_size
from overcommit.units import MIB

_PADDR_WINDOWS = 32
"""In about so many seconds of page-out by physical addresses one is done."""
_PORTION_SECONDS = 20
"""What a kdamond gets at a time takes as long at the pace of the plan."""
_LOOK_STEPS = 5
"""How often it is asked what is left of that."""
_LEFT_SHARE = 0.1
"""Little enough to go on with the next."""
_CHUNK_BYTES = 2 * MIB
_MOST_AHEAD_SECONDS = 20.0
"""For so long a page-out waits at most, whoever took what was taken too fast."""
_OVERSHOOT_BYTES = 4 * MIB
"""What reclaim may take above what it was asked for: two huge pages."""


class Actor(Protocol):
    """Pages out one domain's idle memory.

    ``warm_up_seconds`` pass before anything can be expected to move; ``controller`` keeps it to the pace.
    """

    warm_up_seconds: float
    controller: Controller

    @property
    def ahead(self) -> bool:
        """Whether it waits by its own choice."""
        ...

    def start(self) -> None:
        """Begin.

        Raises:
            Conflict: DAMON belongs to somebody else.
            HostError: the kernel refused.
            Gone: the domain left.
        """
        ...

    def step(self, pace: Pace, left_bytes: int) -> bool:
        """Do about a second's worth of work; never more than ``left_bytes``.

        Returns:
            Whether there is more that it may do. What an actor cannot take without risking more than it was
            allowed, it leaves.

        Raises:
            HostError: the kernel refused.
            Gone: the domain left.
        """
        ...

    def stop(self) -> None:
        """End; nothing is at work any more when this returns."""
        ...


def actor_for(
    action: PageoutAction,
    domain: DomainFacts,
    kernel: Kernel,
    pool: DamonPool,
    *,
    slot: int,
    longest_seconds: float,
) -> Actor:
    """The actor that the action names; a kdamond works in that ``slot`` of the pool.

    Raises:
        HostError: the domain has no cgroup, which the actor needs.
    """
    if action.actor is PageoutActor.DAMOS_FVADDR:
        return DamosFvaddr(kernel, pool, slot, action, lease_seconds=longest_seconds)
    if domain.cgroup is None:
        raise HostError(f"domain {domain.name} has no cgroup with memory accounting")
    group = domain.cgroup.path
    if action.actor is PageoutActor.DAMOS_PADDR:
        return DamosPaddr(pool, slot, action, read_system_ram(kernel), group)
    pieces = _ranges(action) if action.actor is PageoutActor.COLD_HINT_RECLAIM else ()
    return MemcgReclaim(kernel, action, group, pieces)


def _ranges(action: PageoutAction) -> tuple[Range, ...]:
    return normalise(Range(piece.start, piece.end) for piece in action.pieces)


def _portions(ranges: tuple[Range, ...], size: int) -> Iterator[tuple[Range, ...]]:
    """The same addresses in several parts of about that size."""
    portion: list[Range] = []
    for chunk in chop(ranges, _CHUNK_BYTES):
        if portion and total_size(portion) + chunk.size > size:
            yield normalise(portion)
            portion = []
        portion.append(chunk)
    yield normalise(portion)


def _still_held(kernel: Kernel, pid: int, ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """The chunks of which the host still holds at least half; all when there are none."""
    resident = kernel.residency(pid, ranges).resident
    chunks = chop(ranges, _CHUNK_BYTES)
    held = normalise(c for c in chunks if 2 * total_size(intersect((c,), resident)) >= c.size)
    return held or ranges


class _PacedKdamond:
    """A kdamond that works or rests as the pace says.

    Where DAMON has the tuner for it, it is told the domain's pain. Else it is stopped and made anew: a
    ``commit`` of another quota begins a new aggregation up to Linux 6.17, in which nothing is taken, and
    on 6.12 page-outs stood still after a few of them (docs/adr/0005). Likewise one that is not to be ``fed``.
    """

    def __init__(self, pool: DamonPool, slot: int, make: Callable[[], Kdamond], *, fed: bool = True) -> None:
        self._pool = pool
        self._slot = slot
        self._make = make
        self._kdamond: Kdamond | None = None
        fed = fed and pool.capabilities.temporal_goals
        self.controller = Controller.DAMON_GOAL if fed else Controller.OWN

    def start(self) -> None:
        """Turn it on."""
        kdamond = self._make()
        self._pool.start(self._slot, kdamond)
        self._kdamond = kdamond

    def keep(self, pace: Pace) -> None:
        """Have it work or rest.

        Raises:
            HostError: the kernel refused, or the kdamond has ended.
        """
        if self._kdamond is None:
            if pace.pain <= 1.0:
                self.start()
        elif self.controller is Controller.DAMON_GOAL:
            wanted = with_pain(self._kdamond, pace.pain)
            if wanted != self._kdamond:
                self._pool.feed(self._slot, self._kdamond, wanted)
                self._kdamond = wanted
        elif pace.pain > 1.0:
            self.stop()

    def stop(self) -> None:
        """Turn it off."""
        self._pool.stop(self._slot)
        self._kdamond = None


class DamosFvaddr:
    """A kdamond over the chosen pieces, which pages out what is still idle in its own view.

    It cannot take more than the pieces hold, and works by itself between the steps. It gets the pieces a
    portion at a time, so that without us the kernel ends it in time.
    """

    warm_up_seconds = (RECHECK_AGGREGATIONS + 2) * ACTOR_INTERVALS.aggregation_seconds

    def __init__(
        self, kernel: Kernel, pool: DamonPool, slot: int, action: PageoutAction, *, lease_seconds: float
    ) -> None:
        self._kernel = kernel
        self._action = action
        self._begun = False
        self._portions = list(_portions(_ranges(action), _PORTION_SECONDS * action.max_bytes_per_second))
        self._steps = 0
        self._lease_seconds = lease_seconds
        self._capabilities = pool.capabilities
        self._kdamond = _PacedKdamond(pool, slot, self._make)
        self.controller = self._kdamond.controller

    def _make(self) -> Kdamond:
        pid, ranges = self._action.domain.pid, self._portions[0]
        if self._begun:  # the quota shall not be spent on what is out already
            ranges = _still_held(self._kernel, pid, ranges)
        self._begun = True
        return fvaddr_actor(
            Target.of(pid, ranges),
            max_bytes_per_second=self._action.max_bytes_per_second,
            lease_seconds=self._lease_seconds,
            capabilities=self._capabilities,
        )

    def start(self) -> None:
        """See `Actor.start`."""
        self._kdamond.start()

    def step(self, pace: Pace, left_bytes: int) -> bool:  # noqa: ARG002 - the port's signature
        """See `Actor.step`: the kernel does the work."""
        self._steps += pace.pain <= 1.0  # while it rests nothing is done of it
        if len(self._portions) > 1 and self._is_out():
            self._kdamond.stop()
            self._portions.pop(0)
            self._steps, self._begun = 0, False
        self._kdamond.keep(pace)
        return True

    @property
    def ahead(self) -> bool:
        """Nothing of a portion moves before it has been looked at for long enough."""
        return self._steps <= self.warm_up_seconds

    def _is_out(self) -> bool:
        """Whether the portion at hand is done: little of it is left, or it had the time that it takes."""
        if self._steps >= self.warm_up_seconds + 1.5 * _PORTION_SECONDS:
            return True
        if self._steps % _LOOK_STEPS:
            return False
        portion = self._portions[0]
        left = self._kernel.count_resident(self._action.domain.pid, portion)
        return left <= _LEFT_SHARE * total_size(portion)

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._kdamond.stop()


class DamosPaddr:
    """A kdamond over physical memory, for pages of the domain's cgroup only.

    It knows nothing of the chosen pieces. It is let take a portion at a time, and no more than that if we
    die: the kernel ends no page-out for its time as long as there is enough to page out.
    """

    warm_up_seconds = DamosFvaddr.warm_up_seconds

    def __init__(
        self, pool: DamonPool, slot: int, action: PageoutAction, ram: tuple[Range, ...], group: str
    ) -> None:
        share = -(-action.expected_bytes // (_PADDR_WINDOWS * MIB)) * MIB
        self._quota = min(action.max_bytes_per_second, share)
        self._left_bytes = self._begun_with = action.expected_bytes
        self._portion_bytes = self._steps = 0
        self._ram = ram
        self._group = group
        self._capabilities = pool.capabilities
        self._kdamond = _PacedKdamond(pool, slot, self._make, fed=False)
        self.controller = self._kdamond.controller

    def _make(self) -> Kdamond:
        self._begun_with = self._left_bytes
        self._portion_bytes = min(_PORTION_SECONDS * self._quota, self._left_bytes)
        return paddr_actor(
            self._ram,
            self._group,
            most_bytes=self._portion_bytes,
            lease_seconds=self.warm_up_seconds + _PORTION_SECONDS,
            capabilities=self._capabilities,
        )

    def start(self) -> None:
        """See `Actor.start`."""
        if not self._capabilities.snapshot_limit:
            raise HostError(
                "this kernel cannot bound a page-out by physical address (Linux 7.0 can)",
                hint="leave pageout_actor to the host: auto",
            )
        self._kdamond.start()

    def step(self, pace: Pace, left_bytes: int) -> bool:
        """See `Actor.step`: the kernel does the work."""
        self._left_bytes = left_bytes
        if left_bytes < self._quota:
            return False
        self._steps += pace.pain <= 1.0
        if self._steps >= _PORTION_SECONDS:
            self._kdamond.stop()
            self._steps = 0
        self._kdamond.keep(pace)
        return True

    @property
    def ahead(self) -> bool:
        """Nothing moves before it has been looked at for long enough, and after the portion is taken."""
        taken = self._begun_with - self._left_bytes
        return self._steps <= self.warm_up_seconds or taken > self._portion_bytes - MIB

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._kdamond.stop()


class MemcgReclaim:
    """Ask the domain's cgroup for memory, a bounded bit at a time.

    The kernel chooses the pages, and checks each one's accessed bits before it takes it. ``pieces`` are
    marked cold first, which sends reclaim there.
    """

    warm_up_seconds = 0.0
    controller = Controller.OWN
    ahead = False

    def __init__(self, kernel: Kernel, action: PageoutAction, group: str, pieces: Sequence[Range]) -> None:
        self._kernel = kernel
        self._action = action
        self._group = group
        self._pieces = pieces
        self._allowed_bytes = self._ahead_bytes = 0
        self._left_bytes: int | None = None

    def start(self) -> None:
        """See `Actor.start`."""
        domain = self._action.domain
        if self._pieces:
            try:
                self._kernel.advise(domain.pid, domain.start_time, self._pieces, Advice.COLD)
            except OSError as error:
                raise HostError(
                    f"the kernel does not take advice about {domain.name}: {error.strerror}"
                ) from error

    def step(self, pace: Pace, left_bytes: int) -> bool:
        """See `Actor.step`: one request, however long the kernel takes for it, between two looks."""
        left = left_bytes - _OVERSHOOT_BYTES
        if left <= 0:
            return False
        self._account(left_bytes)
        most = min(pace.bytes_per_second - self._ahead_bytes, left)
        self._allowed_bytes, self._left_bytes = pace.bytes_per_second, left_bytes
        self.ahead = self._ahead_bytes > 0 and most <= 0
        if most <= 0:
            return True
        room = read_swap_free(self._kernel) - _OVERSHOOT_BYTES
        if room <= 0:
            # With nowhere to put anonymous pages the kernel would take the files of QEMU instead.
            raise HostError("stopped: swap is full")
        try:
            reclaim(self._kernel, self._group, min(most, room))
        except OSError as error:
            raise HostError(f"the kernel does not reclaim from {self._group}: {error.strerror}") from error
        return True

    def _account(self, left_bytes: int) -> None:
        """What is taken above what was allowed so far, since reclaim takes more than it is asked for."""
        taken = 0 if self._left_bytes is None else self._left_bytes - left_bytes
        ahead = max(0, self._ahead_bytes + taken - self._allowed_bytes)
        self._ahead_bytes = min(ahead, round(_MOST_AHEAD_SECONDS * self._action.max_bytes_per_second))

    def stop(self) -> None:
        """See `Actor.stop`: nothing of it outlives a step."""
