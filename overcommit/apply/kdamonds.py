"""Kdamonds that page out.

They are never allowed to take more than is left, also when this program or the guest ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

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
from overcommit.host.cgroup import read_signs
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_system_ram
from overcommit.model.action import PageoutAction
from overcommit.model.outcome import Controller
from overcommit.model.ranges import Range, chop, intersect, normalise, total_size
from overcommit.units import MIB, PAGE_SIZE

_PADDR_WINDOWS = 32
"""A page-out by physical addresses takes about this many seconds."""
_PORTION_SECONDS = 20
"""A kdamond gets as many bytes at a time as take this long at the plan's pace."""
_LOOK_STEPS = 5
"""Every this many steps the rest of the portion is measured."""
_LEFT_SHARE = 0.1
"""The rest of a portion below which the next portion starts."""
_CHUNK_BYTES = 2 * MIB
_TOO_MUCH_BYTES = MIB
"""If a kdamond may take this much more than is left, it gets less: the guest gave memory itself meanwhile."""


class Lease(NamedTuple):
    """What an actor may take, and how long a kdamond over all of it may run."""

    most_bytes: int
    seconds: float


def ranges_of(action: PageoutAction) -> tuple[Range, ...]:
    """The addresses of the action's pieces."""
    return normalise(Range(piece.start, piece.end) for piece in action.pieces)


def _portions(ranges: tuple[Range, ...], size: int) -> Iterator[tuple[Range, ...]]:
    """The same addresses in parts of about that size."""
    portion: list[Range] = []
    for chunk in chop(ranges, _CHUNK_BYTES):
        if portion and total_size(portion) + chunk.size > size:
            yield normalise(portion)
            portion = []
        portion.append(chunk)
    yield normalise(portion)


def _still_held(kernel: Kernel, pid: int, ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """The chunks that are at least half resident; all where there are none."""
    resident = kernel.residency(pid, ranges).resident
    chunks = chop(ranges, _CHUNK_BYTES)
    held = normalise(c for c in chunks if 2 * total_size(intersect((c,), resident)) >= c.size)
    return held or ranges


def _that_hold(kernel: Kernel, pid: int, ranges: tuple[Range, ...], most_bytes: int) -> tuple[Range, ...]:
    """The first of these addresses, with at most ``most_bytes`` resident."""
    resident = kernel.residency(pid, ranges).resident
    chosen: list[Range] = []
    left = most_bytes
    for chunk in chop(ranges, _CHUNK_BYTES):
        held = total_size(intersect((chunk,), resident))
        if held > left:
            chosen.append(Range(chunk.start, chunk.start + max(left - left % PAGE_SIZE, PAGE_SIZE)))
            break
        chosen.append(chunk)
        left -= held
    return normalise(chosen)


class _PacedKdamond:
    """A kdamond that works or pauses as the pace says.

    Where DAMON has the goal tuner, it gets the domain's SLO figure. Otherwise it is stopped and started anew.
    A ``commit`` of another quota starts a new aggregation up to Linux 6.17, in which nothing is taken, and on
    6.12 page-outs stopped after a few commits (docs/adr/0005). A kdamond that is not to be ``fed`` is started
    anew too.
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
        """Let it work or pause.

        Raises:
            HostError: the kernel refused, or the kdamond has ended.
            Conflict: another tool has the slot.
        """
        self._pool.require((self._slot,))
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
    """A kdamond over the chosen pieces, which pages out what is idle in its own monitoring.

    It cannot take more than the pieces hold, and works by itself between calls. It gets the pieces in
    portions, so that the kernel ends it in time without this program. It never gets more pieces than hold
    what is left, because the guest may give memory by itself meanwhile.
    """

    warm_up_seconds = (RECHECK_AGGREGATIONS + 2) * ACTOR_INTERVALS.aggregation_seconds

    def __init__(
        self, kernel: Kernel, pool: DamonPool, slot: int, action: PageoutAction, lease: Lease
    ) -> None:
        self._kernel = kernel
        self._action = action
        self._left_bytes = lease.most_bytes
        self._begun = False
        self._given: tuple[Range, ...] = ()
        self._portions = list(_portions(ranges_of(action), _PORTION_SECONDS * action.max_bytes_per_second))
        self._steps = 0
        self._lease_seconds = lease.seconds
        self._capabilities = pool.capabilities
        self._kdamond = _PacedKdamond(pool, slot, self._make)
        self.controller = self._kdamond.controller

    def _make(self) -> Kdamond:
        pid, ranges = self._action.domain.pid, self._portions[0]
        if self._begun:  # the quota shall not be spent on what is out already
            ranges = _still_held(self._kernel, pid, ranges)
        self._begun = True
        self._given = _that_hold(self._kernel, pid, ranges, self._left_bytes)
        return fvaddr_actor(
            Target.of(pid, self._given),
            max_bytes_per_second=self._action.max_bytes_per_second,
            lease_seconds=self._lease_seconds,
            capabilities=self._capabilities,
        )

    def start(self) -> None:
        """See `Actor.start`."""
        self._kdamond.start()

    def advance(self, pace: Pace, left_bytes: int) -> bool:
        """See `Actor.advance`. The kernel does the work."""
        self._left_bytes = left_bytes
        self._steps += pace.pain <= 1.0  # while it rests nothing is done of it
        if len(self._portions) > 1 and self._is_out():
            self._kdamond.stop()
            self._portions.pop(0)
            self._steps, self._begun = 0, False
        elif self._has_too_much():
            self._kdamond.stop()
            self._steps, self._given = 0, ()
        self._kdamond.keep(pace)
        return True

    @property
    def ahead(self) -> bool:
        """See `Actor.ahead`. Nothing of a portion moves before it was monitored for long enough."""
        return self._steps <= self.warm_up_seconds

    def _is_out(self) -> bool:
        """Whether the present portion is done: little of it is left, or its time is over."""
        if self._steps >= self.warm_up_seconds + 1.5 * _PORTION_SECONDS:
            return True
        if self._steps % _LOOK_STEPS:
            return False
        portion = self._portions[0]
        left = self._kernel.count_resident(self._action.domain.pid, portion)
        return left <= _LEFT_SHARE * total_size(portion)

    def _has_too_much(self) -> bool:
        """Whether its portion holds more than is left."""
        most = self._left_bytes + _TOO_MUCH_BYTES
        if total_size(self._given) <= most:
            return False
        return self._kernel.count_resident(self._action.domain.pid, self._given) > most

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._kdamond.stop()


class DamosPaddr:
    """A kdamond over physical memory, for pages of the domain's cgroup only.

    It does not know the chosen pieces. It gets a portion at a time, and takes no more than that if this
    program ends: while there is enough to page out, the kernel does not end it by time.
    """

    warm_up_seconds = DamosFvaddr.warm_up_seconds

    def __init__(
        self,
        kernel: Kernel,
        pool: DamonPool,
        slot: int,
        action: PageoutAction,
        group: str,
        *,
        most_bytes: int,
    ) -> None:
        share = -(-most_bytes // (_PADDR_WINDOWS * MIB)) * MIB
        self._quota = min(action.max_bytes_per_second, share)
        self._left_bytes = self._begun_with = most_bytes
        self._portion_bytes = self._swap_bytes = self._steps = 0
        self._kernel = kernel
        self._ram = read_system_ram(kernel)
        self._group = group
        self._capabilities = pool.capabilities
        self._kdamond = _PacedKdamond(pool, slot, self._make, fed=False)
        self.controller = self._kdamond.controller

    def _make(self) -> Kdamond:
        self._begun_with = self._left_bytes
        self._portion_bytes = min(_PORTION_SECONDS * self._quota, self._left_bytes)
        self._swap_bytes = self._in_swap()
        return paddr_actor(
            self._ram,
            self._group,
            most_bytes=self._portion_bytes,
            lease_seconds=self.warm_up_seconds + _PORTION_SECONDS,
            capabilities=self._capabilities,
        )

    def start(self) -> None:
        """See `Actor.start`.

        Raises:
            HostError: this kernel cannot bound a scheme by passes (before Linux 7.0), or it refused.
            Conflict: the slot belongs to somebody else.
        """
        if not self._capabilities.snapshot_limit:
            raise HostError(
                "this kernel cannot bound a page-out by physical address (Linux 7.0 can)",
                hint="leave pageout_actor to the host: auto",
            )
        self._kdamond.start()

    def advance(self, pace: Pace, left_bytes: int) -> bool:
        """See `Actor.advance`. The kernel does the work."""
        self._left_bytes = left_bytes
        if left_bytes < self._quota:
            return False
        self._steps += pace.pain <= 1.0
        if self._steps >= _PORTION_SECONDS or self._may_take_too_much():
            self._kdamond.stop()
            self._steps = 0
        self._kdamond.keep(pace)
        return True

    def _may_take_too_much(self) -> bool:
        """Whether the rest of the portion is more than is left.

        Memory that went to swap counts as taken from the portion. Memory that left otherwise was given by the
        guest.
        """
        if self._portion_bytes <= self._left_bytes + _TOO_MUCH_BYTES:
            return False
        taken = self._in_swap() - self._swap_bytes
        return self._portion_bytes - taken > self._left_bytes + _TOO_MUCH_BYTES

    def _in_swap(self) -> int:
        try:
            return read_signs(self._kernel, self._group).swap_bytes
        except OSError as error:
            raise HostError(f"cannot read the cgroup {self._group}: {error.strerror}") from error

    @property
    def ahead(self) -> bool:
        """See `Actor.ahead`.

        Nothing moves before it was monitored for long enough, and after the portion is taken.
        """
        taken = self._begun_with - self._left_bytes
        return self._steps <= self.warm_up_seconds or taken > self._portion_bytes - MIB

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._kdamond.stop()
