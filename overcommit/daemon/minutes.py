"""Stores one minute of host and domains at a time: SLO figures of its ticks, and the state at its end.

A tick only collects. A thread writes, one minute at a time, so that a slow, locked or full disk delays no
tick. While a write does not end, further minutes are lost, and that is logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from overcommit.clock import Clock
from overcommit.daemon.state import DomainState, State
from overcommit.errors import HostError
from overcommit.model.facts import DomainFacts, HostFacts, Incarnation
from overcommit.model.heat import IdleBucket
from overcommit.model.moments import Monotonic
from overcommit.model.policy import Actuator
from overcommit.model.series import IDLE_BOUNDS, DomainSpan, HostSpan, Span

MINUTE_SECONDS = 60.0
_LONGEST_TICK_SECONDS = 15.0
"""The longest time between two ticks for which an SLO figure counts."""
_LAST_WRITE_SECONDS = 2.0
"""How long the end of the daemon waits for the write of its last minute."""

Start = Callable[[Callable[[], None]], Callable[[float], bool]]
"""Starts work. The function that it returns waits some seconds for its end, and says whether it has ended."""


class Store(Protocol):
    """The store of minutes (`overcommit.records.series.Series`)."""

    def add(self, span: Span) -> None:
        """Store one.

        Raises:
            HostError: it cannot be stored.
        """
        ...


def in_a_thread(work: Callable[[], None]) -> Callable[[float], bool]:
    """See `Start`. The thread does not keep the process from ending."""
    thread = threading.Thread(target=work, name="series", daemon=True)
    thread.start()

    def ended(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    return ended


@dataclass(slots=True)
class _Felt:
    """A domain's SLO figures since the last stored minute; see `DomainSpan`."""

    judged_seconds: float = 0.0
    outside_seconds: float = 0.0
    pain_most: float | None = None


class Minutes:
    """Must be shown each state. ``tell`` gets a sentence about lost minutes."""

    def __init__(
        self, store: Store, clock: Clock, tell: Callable[[str], None], *, start: Start = in_a_thread
    ) -> None:
        self._store = store
        self._clock = clock
        self._tell = tell
        self._start = start
        self._felt: dict[Incarnation, _Felt] = {}
        self._promoted: dict[Incarnation, int] = {}
        self._looked_at: Monotonic | None = None
        self._due_at = clock.monotonic() + MINUTE_SECONDS
        self._ended: Callable[[float], bool] = lambda _seconds: True

    def look(self, state: State, domains: Mapping[Incarnation, DomainState]) -> None:
        """Collect the present SLO figures, and store a minute when one is over."""
        now = self._clock.monotonic()
        if self._looked_at is not None:
            self._feel(domains, min(now - self._looked_at, _LONGEST_TICK_SECONDS))
        self._looked_at = now
        if now < self._due_at or state.snapshot is None:
            return
        self._due_at = max(self._due_at, now - MINUTE_SECONDS / 2) + MINUTE_SECONDS
        self._write(self._span(state.snapshot.host, state.snapshot.domains, domains))

    def close(self) -> None:
        """Wait shortly for a running write. The present minute is lost."""
        self._ended(_LAST_WRITE_SECONDS)

    def _feel(self, domains: Mapping[Incarnation, DomainState], seconds: float) -> None:
        for incarnation, each in domains.items():
            pain = each.standing.pain
            if pain is None or seconds <= 0:
                continue
            felt = self._felt.setdefault(incarnation, _Felt())
            felt.judged_seconds += seconds
            felt.outside_seconds += seconds if pain > 1.0 else 0.0
            felt.pain_most = max(pain, felt.pain_most or 0.0)

    def _write(self, span: Span) -> None:
        if not self._ended(0.0):
            self._tell("a minute of the series is lost: the disk has not taken the one before")
            return

        def work() -> None:
            try:
                self._store.add(span)
            except HostError as error:
                self._tell(f"a minute of the series is lost: {error}")

        try:
            self._ended = self._start(work)
        except RuntimeError as error:  # no more threads
            self._tell(f"a minute of the series is lost: {error}")

    def _span(
        self,
        host: HostFacts,
        seen: tuple[DomainFacts, ...],
        domains: Mapping[Incarnation, DomainState],
    ) -> Span:
        felt, self._felt = self._felt, {}
        before, self._promoted = self._promoted, {}
        spans = {}
        for domain in seen:
            incarnation = domain.incarnation
            if (each := domains.get(incarnation)) is None:
                continue
            promoted, since = each.standing.promoted_pages, before.get(incarnation)
            if promoted is not None:
                self._promoted[incarnation] = promoted
            back = None if promoted is None or since is None else max(0, promoted - since)
            spans[incarnation.uuid] = _of(domain, each, felt.get(incarnation, _Felt()), back)
        at = int(float(self._clock.now()))
        return Span(
            at=at - at % int(MINUTE_SECONDS),
            seconds=int(MINUTE_SECONDS),
            minutes=1,
            host=_of_host(host),
            domains=tuple(spans.values()),
        )


def _of_host(host: HostFacts) -> HostSpan:
    pools = [pool for pool in (host.zram, host.zswap.pool if host.zswap else None) if pool is not None]
    return HostSpan(
        total_bytes=host.total_bytes,
        available_bytes=host.mem_available_bytes,
        available_least_bytes=host.mem_available_bytes,
        swap_used_bytes=host.swap_used_bytes,
        pool_stored_bytes=sum(pool.stored_bytes for pool in pools),
        pool_used_bytes=sum(pool.used_bytes for pool in pools),
        merged_bytes=host.ksm.gain_bytes if host.ksm else None,
        psi_some=host.pressure.some_avg60 if host.pressure else None,
    )


def _of(domain: DomainFacts, state: DomainState, felt: _Felt, promoted_pages: int | None) -> DomainSpan:
    standing, residency = state.standing, domain.residency
    taken = standing.reclaimed_by or {}
    return DomainSpan(
        uuid=domain.incarnation.uuid,
        name=domain.name,
        minutes=1,
        memory_bytes=domain.definition.maximum_bytes,
        resident_bytes=residency.resident_bytes if residency else None,
        swapped_bytes=residency.swapped_bytes if residency else None,
        balloon_bytes=taken.get(Actuator.BALLOON.value, 0),
        virtio_mem_bytes=taken.get(Actuator.VIRTIO_MEM.value, 0),
        working_set_bytes=standing.wss_bytes,
        working_set_most_bytes=standing.wss_bytes,
        idle_bytes=_idle(standing.idle_histogram),
        promoted_pages=promoted_pages,
        judged_seconds=felt.judged_seconds,
        outside_seconds=felt.outside_seconds,
        pain_most=felt.pain_most,
    )


def _idle(histogram: tuple[IdleBucket, ...]) -> tuple[int | None, ...]:
    """The bytes idle for at least each bound; None: it was not watched for so long."""
    watched = max((bucket.min_idle_seconds for bucket in histogram), default=-1.0)
    return tuple(
        sum(bucket.resident_bytes for bucket in histogram if bucket.min_idle_seconds >= bound)
        if watched >= bound
        else None
        for bound in IDLE_BOUNDS
    )
