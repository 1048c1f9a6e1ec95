"""The mechanisms that page out, behind one interface.

Results are read from the host, never from the actor.

docs/adr/0004 compares them on real guests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from overcommit.apply.kdamonds import DamosFvaddr, DamosPaddr, Lease, ranges_of
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
"""The longest wait of a page-out after more was taken than the pace allows, whatever took it."""
_OVERSHOOT_BYTES = 4 * MIB
"""What reclaim may take beyond its request: two huge pages."""


class Actor(Protocol):
    """Pages out one domain's idle memory.

    Nothing is expected to move in the first ``warm_up_seconds``. ``controller`` is what keeps the actor to
    the pace.
    """

    warm_up_seconds: float
    controller: Controller

    @property
    def ahead(self) -> bool:
        """Whether it waits on purpose, so that no progress is expected."""
        ...

    def start(self) -> None:
        """Start to work.

        Raises:
            Conflict: DAMON belongs to somebody else.
            HostError: the kernel refused.
            Gone: the domain has ended.
        """
        ...

    def advance(self, pace: Pace, left_bytes: int) -> bool:
        """Work for about a second, and take at most ``left_bytes``.

        Returns:
            Whether there is more that it may take. It leaves what it cannot take without a risk of exceeding
            ``left_bytes``.

        Raises:
            HostError: the kernel refused.
            Gone: the domain has ended.
        """
        ...

    def stop(self) -> None:
        """Stop to work. Nothing of it runs when this returns."""
        ...


def actor_for(
    action: PageoutAction, domain: DomainFacts, kernel: Kernel, pool: DamonPool, lease: Lease, *, slot: int
) -> Actor:
    """The actor that the action names. A kdamond uses ``slot`` of the pool.

    Raises:
        HostError: the actor needs the domain's cgroup, and there is none.
    """
    if action.actor is PageoutActor.DAMOS_FVADDR:
        return DamosFvaddr(kernel, pool, slot, action, lease)
    if domain.cgroup is None:
        raise HostError(f"domain {domain.name} has no cgroup with memory accounting")
    group = domain.cgroup.path
    if action.actor is PageoutActor.DAMOS_PADDR:
        return DamosPaddr(kernel, pool, slot, action, group, most_bytes=lease.most_bytes)
    pieces = ranges_of(action) if action.actor is PageoutActor.COLD_HINT_RECLAIM else ()
    return MemcgReclaim(kernel, action, group, pieces)


class MemcgReclaim:
    """Reclaims from the domain's cgroup (``memory.reclaim``), a bounded amount at a time.

    The kernel chooses the pages, and checks each page's accessed bits before it takes it. ``pieces`` are
    marked cold first, so that reclaim considers them first.
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
        """See `Actor.start`. It marks the pieces cold, where there are any.

        Raises:
            HostError: the kernel refused.
            Gone: the domain has ended.
        """
        domain = self._action.domain
        if self._pieces:
            try:
                self._kernel.advise(domain.pid, domain.start_time, self._pieces, Advice.COLD)
            except OSError as error:
                raise HostError(f"the kernel refused madvise for {domain.name}: {error.strerror}") from error

    def advance(self, pace: Pace, left_bytes: int) -> bool:
        """See `Actor.advance`. It makes one request, however long the kernel takes for it.

        Raises:
            HostError: the kernel refused, or swap and limits leave no room.
        """
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
        """Bytes that swap, and the limits of the cgroup and of those above, still take.

        Raises:
            HostError: 0 bytes. Without room for anonymous pages the kernel would reclaim QEMU's files.
            OSError, ValueError: the cgroup vanished, or a limit is malformed.
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
        """Record what was taken beyond the request, because reclaim takes more than it is asked for."""
        taken = 0 if self._left_bytes is None else self._left_bytes - left_bytes
        ahead = max(0, self._ahead_bytes + taken - self._allowed_bytes)
        self._ahead_bytes = min(ahead, round(_MOST_AHEAD_SECONDS * self._action.max_bytes_per_second))

    def stop(self) -> None:
        """See `Actor.stop`. Nothing of it runs between two calls."""
