"""Who pages out, behind one interface. What an actor did is read from the host's counters, never from it.

docs/adr/0004 compares them on real guests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from overcommit.apply.pace import Pace
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import (
    ACTOR_INTERVALS,
    RECHECK_AGGREGATIONS,
    fvaddr_actor,
    paddr_actor,
    with_pain,
    with_speed,
)
from overcommit.damon.tree import Kdamond, Target
from overcommit.errors import HostError
from overcommit.host.cgroup import reclaim
from overcommit.host.kernel import Advice, Kernel
from overcommit.host.memory import read_swap_free, read_system_ram
from overcommit.model.facts import DomainFacts
from overcommit.model.outcome import Controller
from overcommit.model.plan import PageoutAction
from overcommit.model.policy import PageoutActor
from overcommit.model.ranges import Range, normalise
from overcommit.units import MIB

_SLOT = 0
_PADDR_WINDOWS = 32
"""In about so many quota windows a page-out by physical addresses is done."""
_OVERSHOOT_BYTES = 4 * MIB
"""What reclaim may take above what it was asked for: two huge pages."""


class Actor(Protocol):
    """Pages out one domain's idle memory.

    ``warm_up_seconds`` pass before anything can be expected to move; ``controller`` keeps it to the pace.
    """

    warm_up_seconds: float
    controller: Controller

    def start(self, pace: Pace) -> None:
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
        return DamosPaddr(pool, action, read_system_ram(kernel), group)
    pieces = _ranges(action) if action.actor is PageoutActor.COLD_HINT_RECLAIM else ()
    return MemcgReclaim(kernel, action, group, pieces)


def _ranges(action: PageoutAction) -> tuple[Range, ...]:
    return normalise(Range(piece.start, piece.end) for piece in action.pieces)


class _PacedKdamond:
    """A kdamond that is told how fast to go: the domain's pain, or where DAMON has no use for that, a quota.

    A commit is no trifle: up to Linux 6.14 it waits for the end of an aggregation, and up to 6.17 it begins a
    new one. It comes only for at least twice or half the speed, and to rest.
    """

    def __init__(self, pool: DamonPool, max_bytes_per_second: int) -> None:
        self._pool = pool
        self._max = max_bytes_per_second
        self._kdamond = Kdamond()
        self._speed = 0
        self.controller = Controller.DAMON_GOAL if pool.capabilities.temporal_goals else Controller.OWN

    def first_speed(self, pace: Pace) -> int:
        """The quota to start with."""
        by_goal = self.controller is Controller.DAMON_GOAL
        self._speed = self._max if by_goal else min(self._max, pace.bytes_per_second)
        return self._speed

    def start(self, kdamond: Kdamond) -> None:
        """Turn it on."""
        self._pool.start(_SLOT, kdamond)
        self._kdamond = kdamond

    def keep(self, pace: Pace) -> None:
        """Have it go on at this pace.

        Raises:
            HostError: the kernel refused, or the kdamond has ended.
        """
        if self.controller is Controller.DAMON_GOAL:
            # All or nothing: what rests goes on when the domain is comfortable, not as soon as it bears it.
            pain = pace.pain if pace.bytes_per_second else max(1.0, pace.pain)
            self._adjust(with_pain(self._kdamond, pain), "commit_schemes_quota_goals")
            return
        speed = min(self._max, pace.bytes_per_second)
        if speed >= 2 * self._speed or speed <= self._speed // 2:
            self._adjust(with_speed(self._kdamond, speed), "commit")
            self._speed = speed

    def stop(self) -> None:
        """Turn it off."""
        self._pool.stop(_SLOT)

    def _adjust(self, wanted: Kdamond, command: str) -> None:
        if wanted != self._kdamond:
            self._pool.adjust(_SLOT, self._kdamond, wanted, command)
            self._kdamond = wanted


class DamosFvaddr:
    """A kdamond over the chosen pieces, which pages out what is still idle in its own view.

    It cannot take more than the pieces hold, and works by itself between the steps.
    """

    warm_up_seconds = (RECHECK_AGGREGATIONS + 2) * ACTOR_INTERVALS.aggregation_seconds

    def __init__(self, pool: DamonPool, action: PageoutAction, *, lease_seconds: float) -> None:
        self._action = action
        self._lease_seconds = lease_seconds
        self._capabilities = pool.capabilities
        self._kdamond = _PacedKdamond(pool, action.max_bytes_per_second)
        self.controller = self._kdamond.controller

    def start(self, pace: Pace) -> None:
        """See `Actor.start`."""
        kdamond = fvaddr_actor(
            Target.of(self._action.domain.pid, _ranges(self._action)),
            max_bytes_per_second=self._kdamond.first_speed(pace),
            lease_seconds=self._lease_seconds,
            capabilities=self._capabilities,
        )
        self._kdamond.start(kdamond)

    def step(self, pace: Pace, left_bytes: int) -> bool:  # noqa: ARG002 - the port's signature
        """See `Actor.step`: the kernel does the work."""
        self._kdamond.keep(pace)
        return True

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._kdamond.stop()


class DamosPaddr:
    """A kdamond over physical memory, for pages of the domain's cgroup only.

    It knows nothing of the chosen pieces. The kernel itself ends it after as many quota windows as the plan
    allows, so that it cannot go on without us either. Windows in which it rests count: it takes less then.
    """

    warm_up_seconds = DamosFvaddr.warm_up_seconds

    def __init__(self, pool: DamonPool, action: PageoutAction, ram: tuple[Range, ...], group: str) -> None:
        share = -(-action.expected_bytes // (_PADDR_WINDOWS * MIB)) * MIB
        self._quota = min(action.max_bytes_per_second, share)
        self._windows = action.expected_bytes // self._quota
        self._ram = ram
        self._group = group
        self._capabilities = pool.capabilities
        self._kdamond = _PacedKdamond(pool, self._quota)
        self.controller = self._kdamond.controller

    def start(self, pace: Pace) -> None:
        """See `Actor.start`."""
        if not self._capabilities.snapshot_limit:
            raise HostError(
                "this kernel cannot bound a page-out by physical address (Linux 7.0 can)",
                hint="leave pageout_actor to the host: auto",
            )
        kdamond = paddr_actor(
            self._ram,
            self._group,
            max_bytes_per_second=self._kdamond.first_speed(pace),
            windows=self._windows,
            capabilities=self._capabilities,
        )
        self._kdamond.start(kdamond)

    def step(self, pace: Pace, left_bytes: int) -> bool:
        """See `Actor.step`: the kernel does the work."""
        self._kdamond.keep(pace)
        return left_bytes >= self._quota

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

    def __init__(self, kernel: Kernel, action: PageoutAction, group: str, pieces: Sequence[Range]) -> None:
        self._kernel = kernel
        self._action = action
        self._group = group
        self._pieces = pieces

    def start(self, pace: Pace) -> None:  # noqa: ARG002 - the port's signature
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
        most = min(pace.bytes_per_second, left)
        if most == 0:
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

    def stop(self) -> None:
        """See `Actor.stop`: nothing of it outlives a step."""
