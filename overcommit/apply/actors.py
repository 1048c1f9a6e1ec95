"""Who pages out, behind one interface. What an actor did is read from the host's counters, never from it.

docs/adr/0004 compares them on real guests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from overcommit.apply.kdamonds import DamosFvaddr, DamosPaddr, ranges_of
from overcommit.apply.pace import Pace
from overcommit.damon.pool import DamonPool
from overcommit.errors import HostError
from overcommit.host.cgroup import read_limits, reclaim
from overcommit.host.kernel import Advice, Kernel
from overcommit.host.memory import read_swap_free
from overcommit.model.action import PageoutAction
from overcommit.model.facts import DomainFacts
from overcommit.model.outcome import Controller
from overcommit.model.policy import PageoutActor
from overcommit.model.ranges import Range
from overcommit.plan.limits import no_swap, tightest
from overcommit.units import MIB

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

    def advance(self, pace: Pace, left_bytes: int) -> bool:
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
    most_bytes: int,
    longest_seconds: float,
) -> Actor:
    """The actor that the action names, for ``most_bytes``; a kdamond works in that ``slot`` of the pool.

    Raises:
        HostError: the domain has no cgroup, which the actor needs.
    """
    if action.actor is PageoutActor.DAMOS_FVADDR:
        return DamosFvaddr(kernel, pool, slot, action, most_bytes=most_bytes, lease_seconds=longest_seconds)
    if domain.cgroup is None:
        raise HostError(f"domain {domain.name} has no cgroup with memory accounting")
    group = domain.cgroup.path
    if action.actor is PageoutActor.DAMOS_PADDR:
        return DamosPaddr(kernel, pool, slot, action, group, most_bytes=most_bytes)
    pieces = ranges_of(action) if action.actor is PageoutActor.COLD_HINT_RECLAIM else ()
    return MemcgReclaim(kernel, action, group, pieces)


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
                raise HostError(f"the kernel refused madvise for {domain.name}: {error.strerror}") from error

    def advance(self, pace: Pace, left_bytes: int) -> bool:
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
        try:
            reclaim(self._kernel, self._group, min(most, self._room()))
        except (OSError, ValueError) as error:
            raise HostError(f"the kernel refused to reclaim from {self._group}: {error}") from error
        return True

    def _room(self) -> int:
        """What swap, and the limits of the group and of those above, still take.

        Raises:
            HostError: nothing: with nowhere to put anonymous pages the kernel would take the files of QEMU.
            OSError, ValueError: the group vanished, or its limits are no numbers.
        """
        room = read_swap_free(self._kernel) - _OVERSHOOT_BYTES
        if room <= 0:
            raise HostError("stopped: swap is full")
        bound = tightest(read_limits(self._kernel, self._group).swap)
        if bound is None:
            return room
        if bound.room_bytes <= _OVERSHOOT_BYTES:
            raise HostError(f"stopped: its cgroup may {no_swap(bound.limit)}")
        return min(room, bound.room_bytes - _OVERSHOOT_BYTES)

    def _account(self, left_bytes: int) -> None:
        """What is taken above what was allowed so far, since reclaim takes more than it is asked for."""
        taken = 0 if self._left_bytes is None else self._left_bytes - left_bytes
        ahead = max(0, self._ahead_bytes + taken - self._allowed_bytes)
        self._ahead_bytes = min(ahead, round(_MOST_AHEAD_SECONDS * self._action.max_bytes_per_second))

    def stop(self) -> None:
        """See `Actor.stop`: nothing of it outlives a step."""
