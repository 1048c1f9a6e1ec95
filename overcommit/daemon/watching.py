"""The permanent watch: a monitor for each domain and one for the host, as domains come and go.

DAMON's slots cannot be added while one of them runs. When there are too few, all monitors are stopped, more
slots are claimed, and the monitors continue from the idle maps, which this program keeps.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Mapping, Sequence

from overcommit.clock import Clock
from overcommit.control.one_controller import Control
from overcommit.damon.access import open_source
from overcommit.damon.pool import DamonPool, require_free
from overcommit.damon.schemes import monitor_limits
from overcommit.errors import HostError, OvercommitError
from overcommit.model.facts import DomainFacts, Incarnation
from overcommit.model.heat import IdleMap
from overcommit.model.page_ages import PageAges
from overcommit.observe.ageing import Ageing
from overcommit.observe.facts import watchable
from overcommit.observe.watch import Lists, Watch
from overcommit.records.journal import Generation

ACTOR_SLOTS = 2
"""The most page-outs and demotions by a kdamond at the same time."""
_SPARE_SHARE, _LEAST_SPARE = 0.5, 4


class Watching:
    """Holds DAMON while there is something to monitor."""

    def __init__(self, control: Control, lists: Lists, generation: Generation, *, take_over: bool) -> None:
        self._control = control
        self._lists = lists
        self._generation = generation
        self._take_over = take_over
        self._pool = self._unclaimed()
        self._watch: Watch | None = None
        self._slots: dict[Incarnation, int] = {}
        self._free: list[int] = []
        self._monitors = self._size = 0
        self._ageing = Ageing(control.kernel, control.clock)
        self._aged: tuple[tuple[DomainFacts, float], ...] = ()
        self._cramped = False
        self._actors: set[int] = set()
        self._unstopped: set[int] = set()

    @property
    def pool(self) -> DamonPool:
        """The pool for actors. Without DAMON it is not claimed, and has no slots."""
        return self._pool

    @property
    def migration(self) -> bool | None:
        """Whether this kernel's DAMON can move memory to another node; None: not known."""
        return self._pool.capabilities.migration if self._watch else None

    @property
    def threads(self) -> tuple[int, ...]:
        """The thread ids of the monitors, as far as known."""
        return self._watch.threads if self._watch else ()

    def age(self, domains: Sequence[tuple[DomainFacts, float]]) -> None:
        """Keep the ages of these domains' pages, each with the seconds between two walks."""
        self._aged = tuple(domains)

    @property
    def ages(self) -> Mapping[str, PageAges]:
        """Of the pages of each domain, by UUID, as far as the kernel tells."""
        return self._ageing.ages

    def follow(self, domains: Sequence[DomainFacts], busy: bool) -> None:
        """Monitor these domains, and no others.

        While actors are ``busy`` in slots, no more slots are claimed.

        Raises:
            Conflict: DAMON belongs to somebody else.
            Unsupported: there is no DAMON.
            HostError: the kernel or the journal refused.
        """
        if self._watch is not None:
            self._pool.require(tuple(self._slots.values()))
        self._cramped = False
        alive = {domain.incarnation for domain in domains}
        for gone in [known for known in self._slots if known not in alive]:
            self._leave(gone)
        wanted = [domain for domain in domains if watchable(domain) and domain.incarnation not in self._slots]
        if self._watch is not None and self._watch.host is None:
            self._watch.add_host(self._monitors)
        if not wanted:
            return
        if self._watch is None or len(self._slots) + len(wanted) > self._monitors:
            if busy or self._unstopped:
                self._cramped = True
                return
            wanted = [d for d in domains if watchable(d) or d.incarnation in self._slots]
            self._acquire(wanted)
            return
        for domain in wanted:
            self._add(self._watch, domain, None)

    def poll(self) -> None:
        """Add the windows since the last call.

        Raises:
            Conflict: another tool has taken the slots.
            HostError: libvirt does not list its domains.
        """
        self._stop_the_rest()
        if self._watch is not None:
            self._pool.require(tuple(self._slots.values()))
            self._watch.poll()
            self._ageing.poll(self._aged)
            for incarnation in [i for i in self._slots if i.uuid in self._watch.lost]:
                self._leave(incarnation)

    def idle(self, incarnation: Incarnation) -> IdleMap | None:
        """The idle map of an incarnation; None: it is not monitored."""
        if self._watch is None or incarnation not in self._slots:
            return None
        return self._watch.idle_of(incarnation.uuid)

    @property
    def host(self) -> IdleMap | None:
        """The idle map of the host's memory; None: it is not monitored."""
        return self._watch.host if self._watch else None

    @property
    def can_lend(self) -> bool:
        """Whether an actor can get a slot: not when all are in use, or more must be claimed first."""
        return bool(self._actors) and not self._cramped

    def borrow(self) -> int | None:
        """A free slot for an actor; None: there is none."""
        return self._actors.pop() if self.can_lend else None

    def give_back(self, slot: int) -> None:
        """Return an actor's slot.

        A kdamond that could not be stopped is stopped before the slot is used again.
        """
        (self._unstopped if self._pool.may_be_on(slot) else self._actors).add(slot)

    def close(self) -> None:
        """Stop all monitors, return DAMON, and forget the idle maps.

        Raises:
            HostError: the kernel refused; `undo` tries again.
        """
        pool, watch = self._pool, self._watch
        self._pool, self._watch = self._unclaimed(), None
        self._slots.clear()
        self._free.clear()
        self._actors.clear()
        self._unstopped.clear()
        if watch is not None:
            with contextlib.suppress(HostError, OSError):
                watch.close()
        pool.release()

    def _acquire(self, domains: Sequence[DomainFacts]) -> None:
        known = {d.incarnation: self.idle(d.incarnation) for d in domains}
        self.close()
        spare = max(_LEAST_SPARE, round(_SPARE_SHARE * len(domains)))
        self._monitors = len(domains) + spare
        first_actor = self._monitors + 1
        self._size = first_actor + ACTOR_SLOTS
        self._clean_up()
        try:
            self._pool.acquire(self._size, take_over=self._take_over)
            self._actors = set(range(first_actor, first_actor + ACTOR_SLOTS))
            self._free = list(range(self._monitors))
            self._watch = self._open(self._pool, domains)
            self._watch.add_host(self._monitors)
            for domain in domains:
                self._add(self._watch, domain, known[domain.incarnation])
        except (OvercommitError, OSError):
            with contextlib.suppress(HostError, OSError):
                self.close()
            raise

    def _clean_up(self) -> None:
        """Return what could not be returned earlier.

        Raises:
            Conflict: another tool prevents it; it is named.
            HostError: something else prevents it.
        """
        try:
            self._control.clean_up_damon()
        except HostError:
            require_free(self._control.kernel, take_over=self._take_over)
            raise

    def _stop_the_rest(self) -> None:
        """Stop kdamonds that could not be stopped when their action ended, because DAMON was locked."""
        for slot in tuple(self._unstopped):
            with contextlib.suppress(HostError, OSError):
                self._pool.stop(slot)
                self._unstopped.discard(slot)
                self._actors.add(slot)

    def _unclaimed(self) -> DamonPool:
        return DamonPool(self._control.kernel, self._control.journal, self._generation)

    def _open(self, pool: DamonPool, domains: Sequence[DomainFacts]) -> Watch:
        clock: Clock = self._control.clock
        regions = [monitor_limits(domain.memory).maximum for domain in domains]
        regions += [max(regions)] * (self._monitors - len(domains))
        return Watch(self._control.kernel, self._lists, pool, clock, open_source(pool, clock, regions))

    def _add(self, watch: Watch, domain: DomainFacts, known: IdleMap | None) -> None:
        slot = heapq.heappop(self._free)  # the lowest
        try:
            watch.add(slot, domain, known)
        except (OvercommitError, OSError):
            heapq.heappush(self._free, slot)
            raise
        if domain.incarnation.uuid not in watch.lost:
            self._slots[domain.incarnation] = slot
        else:
            watch.drop(domain.incarnation.uuid)
            heapq.heappush(self._free, slot)

    def _leave(self, incarnation: Incarnation) -> None:
        heapq.heappush(self._free, self._slots.pop(incarnation))
        if self._watch is not None:
            self._watch.drop(incarnation.uuid)
