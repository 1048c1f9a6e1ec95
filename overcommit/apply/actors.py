"""Who pages out, behind one interface. What an actor did is read from the host's counters, never from it.

docs/adr/0004 compares them on real guests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import (
    ACTOR_INTERVALS,
    QUOTA_WINDOW_SECONDS,
    RECHECK_AGGREGATIONS,
    fvaddr_actor,
    paddr_actor,
)
from overcommit.damon.tree import Target
from overcommit.errors import HostError
from overcommit.host.cgroup import reclaim
from overcommit.host.kernel import Advice, Kernel
from overcommit.host.memory import read_system_ram
from overcommit.model.facts import DomainFacts
from overcommit.model.plan import PageoutAction
from overcommit.model.policy import PageoutActor
from overcommit.model.ranges import Range, normalise
from overcommit.units import MIB

_SLOT = 0
_PADDR_STEPS = 32
"""Quota windows that a page-out by physical addresses takes at least."""
_OVERSHOOT_BYTES = 4 * MIB
"""What reclaim may take above what it was asked for: two huge pages."""


class Actor(Protocol):
    """Pages out one domain's idle memory.

    ``warm_up_seconds`` pass before anything can be expected to move.
    """

    warm_up_seconds: float

    def start(self) -> None:
        """Begin.

        Raises:
            Conflict: DAMON belongs to somebody else.
            HostError: the kernel refused.
            Gone: the domain left.
        """
        ...

    def step(self, seconds: float, left_bytes: int) -> None:
        """Do about ``seconds`` worth of work; never more than ``left_bytes``.

        Raises:
            HostError: the kernel refused.
            Gone: the domain left.
        """
        ...

    def stop(self) -> None:
        """End; nothing is at work any more when this returns."""
        ...


def actor_for(
    action: PageoutAction, domain: DomainFacts, kernel: Kernel, pool: DamonPool, *, longest_seconds: float
) -> Actor:
    """The actor that the action names.

    Raises:
        HostError: the domain has no cgroup, which the actor needs.
    """
    if action.actor is PageoutActor.DAMOS_FVADDR:
        return DamosFvaddr(pool, action, lease_seconds=longest_seconds)
    if domain.cgroup is None:
        raise HostError(f"domain {domain.name} has no cgroup with memory accounting")
    group = domain.cgroup.path
    if action.actor is PageoutActor.DAMOS_PADDR:
        return DamosPaddr(pool, action, read_system_ram(kernel), group, lease_seconds=longest_seconds)
    pieces = _ranges(action) if action.actor is PageoutActor.COLD_HINT_RECLAIM else ()
    return MemcgReclaim(kernel, action, group, pieces)


def _ranges(action: PageoutAction) -> tuple[Range, ...]:
    return normalise(Range(piece.start, piece.end) for piece in action.pieces)


class DamosFvaddr:
    """A kdamond over the chosen pieces, which pages out what is still idle in its own view.

    It cannot take more than the pieces hold, and works by itself between the steps.
    """

    warm_up_seconds = (RECHECK_AGGREGATIONS + 2) * ACTOR_INTERVALS.aggregation_seconds

    def __init__(self, pool: DamonPool, action: PageoutAction, *, lease_seconds: float) -> None:
        self._pool = pool
        self._action = action
        self._lease_seconds = lease_seconds

    def start(self) -> None:
        """See `Actor.start`."""
        kdamond = fvaddr_actor(
            Target.of(self._action.domain.pid, _ranges(self._action)),
            max_bytes_per_second=self._action.max_bytes_per_second,
            lease_seconds=self._lease_seconds,
            capabilities=self._pool.capabilities,
        )
        self._pool.start(_SLOT, kdamond)

    def step(self, seconds: float, left_bytes: int) -> None:
        """See `Actor.step`: the kernel does the work."""

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._pool.stop(_SLOT)


class DamosPaddr:
    """A kdamond over physical memory, for pages of the domain's cgroup only.

    It knows nothing of the chosen pieces, so it is stopped before what it may do until the next look could
    take more than was planned.
    """

    warm_up_seconds = DamosFvaddr.warm_up_seconds

    def __init__(
        self,
        pool: DamonPool,
        action: PageoutAction,
        ram: tuple[Range, ...],
        group: str,
        *,
        lease_seconds: float,
    ) -> None:
        self._pool = pool
        self._quota = min(action.max_bytes_per_second, max(MIB, action.expected_bytes // _PADDR_STEPS))
        self._ram = ram
        self._group = group
        self._lease_seconds = lease_seconds

    def start(self) -> None:
        """See `Actor.start`."""
        kdamond = paddr_actor(
            self._ram,
            self._group,
            max_bytes_per_second=self._quota,
            lease_seconds=self._lease_seconds,
            capabilities=self._pool.capabilities,
        )
        self._pool.start(_SLOT, kdamond)

    def step(self, seconds: float, left_bytes: int) -> None:
        """See `Actor.step`: the kernel does the work, and is stopped in time."""
        if left_bytes < 2 * self._quota * max(1.0, seconds / QUOTA_WINDOW_SECONDS):
            self.stop()

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._pool.stop(_SLOT)


class MemcgReclaim:
    """Ask the domain's cgroup for memory, a bounded bit at a time.

    The kernel chooses the pages, and checks each one's accessed bits before it takes it. ``pieces`` are
    marked cold first, which sends reclaim there.
    """

    warm_up_seconds = 0.0

    def __init__(self, kernel: Kernel, action: PageoutAction, group: str, pieces: Sequence[Range]) -> None:
        self._kernel = kernel
        self._action = action
        self._group = group
        self._pieces = pieces

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

    def step(self, seconds: float, left_bytes: int) -> None:
        """See `Actor.step`."""
        most = min(round(self._action.max_bytes_per_second * seconds), left_bytes - _OVERSHOOT_BYTES)
        if most <= 0:
            return
        try:
            reclaim(self._kernel, self._group, most)
        except OSError as error:
            raise HostError(f"the kernel does not reclaim from {self._group}: {error.strerror}") from error

    def stop(self) -> None:
        """See `Actor.stop`: nothing of it outlives a step."""
