"""Monitors the accesses of several domains, and of the host's memory, with one kdamond each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from overcommit.classify import idle
from overcommit.clock import Clock
from overcommit.damon.access import AccessSource, open_source
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import (
    LONGEST_SAMPLE_SECONDS,
    MONITOR_INTERVALS,
    SHORTEST_SAMPLE_SECONDS,
    Sentinel,
    host_monitor,
    monitor,
    monitor_intervals,
    monitor_limits,
    process_monitor,
)
from overcommit.damon.tree import Target
from overcommit.damon.tuning import AGGREGATIONS, access_ratio, tuned
from overcommit.errors import UNCONTAINED, Gone, HostError, JournalFailed, OvercommitError, in_a_line
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_system_ram
from overcommit.host.process import read_start_time
from overcommit.hypervisor.port import ListedDomain
from overcommit.model.facts import DomainFacts, RunState
from overcommit.model.heat import SAMPLES, AccessRegion, IdleMap, Window
from overcommit.model.page_ages import PageAges
from overcommit.model.ranges import Range, intersect, total_size
from overcommit.observe.ageing import Ageing
from overcommit.observe.memory import locate_ram

WINDOW_SECONDS = SAMPLES * LONGEST_SAMPLE_SECONDS
"""The longest window, which is the resolution of idle times."""

_GRACE_SHARE = 3
_LOOK_SECONDS = 2.0
_GOAL = "contexts/0/monitoring_attrs/intervals/intervals_goal/access_bp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The result of a watch: idle maps by domain UUID, and why other domains have none.

    ``ages`` are those of pages, by UUID, where the kernel tells. ``host`` is over physical addresses;
    ``no_host`` says why there is none.
    """

    idle: dict[str, IdleMap]
    lost: dict[str, str]
    ages: dict[str, PageAges] = field(default_factory=dict)
    host: IdleMap | None = None
    no_host: str | None = None


@dataclass
class _Monitor:
    """One kdamond and its idle map. ``domain`` is None for the host's."""

    slot: int
    domain: DomainFacts | None
    ram: tuple[Range, ...]
    memory_bytes: int
    idle: IdleMap
    sample_seconds: float
    untuned: list[tuple[AccessRegion, ...]] = field(default_factory=list)


class Lists(Protocol):
    """Something that lists the active domains: a hypervisor, or a survey that is shared."""

    def domains(self) -> tuple[ListedDomain, ...]:
        """See `overcommit.hypervisor.port.Hypervisor.domains`."""
        ...


class Watch:
    """Monitors in slots 0.. of a pool: one per domain, one for the host."""

    def __init__(
        self, kernel: Kernel, lists: Lists, pool: DamonPool, clock: Clock, source: AccessSource
    ) -> None:
        self._kernel = kernel
        self._lists = lists
        self._pool = pool
        self._clock = clock
        self._source = source
        self._sentinel = Sentinel()
        self._of_domains: dict[str, _Monitor] = {}
        self._of_host: _Monitor | None = None
        self._kernel_tunes = source.follows_tuning and pool.capabilities.offers(_GOAL)
        self.lost: dict[str, str] = {}
        self.no_host: str | None = None

    @property
    def threads(self) -> tuple[int, ...]:
        """The thread ids of the monitors, as far as known: see `AccessSource.threads`."""
        return self._source.threads

    @property
    def how(self) -> str:
        """For people: the source of windows, and what tunes the intervals."""
        return f"{self._source.what}, intervals tuned by {'the kernel' if self._kernel_tunes else 'us'}"

    @property
    def idle(self) -> dict[str, IdleMap]:
        """The idle map of each monitored domain, by UUID."""
        return {uuid: watched.idle for uuid, watched in self._of_domains.items()}

    def idle_of(self, uuid: str) -> IdleMap | None:
        """The idle map of one domain; None: it is not monitored."""
        watched = self._of_domains.get(uuid)
        return watched.idle if watched is not None else None

    @property
    def host(self) -> IdleMap | None:
        """The idle map of the host's memory; None: it is not monitored."""
        return self._of_host.idle if self._of_host is not None else None

    @property
    def seen_seconds(self) -> float:
        """The seconds that every domain has been watched at least."""
        return min((seen.window_seconds for seen in self.idle.values()), default=0.0)

    def add(self, slot: int, domain: DomainFacts, known: IdleMap | None = None) -> None:
        """Start to monitor a domain. If that is not possible, the reason is added to ``lost``.

        ``known`` is the idle map of an earlier watch of this incarnation.

        Raises:
            Conflict: somebody else took DAMON.
        """
        watched = self._new(slot, domain, domain.memory)
        if known is not None:
            watched.idle = idle.relocate(known, domain.memory, self._clock.monotonic())
        try:
            self._start(watched, Target.of(domain.incarnation.pid, domain.memory))
        except JournalFailed:
            raise
        except HostError as error:
            self.lost[domain.incarnation.uuid] = str(error)
        else:
            self._of_domains[domain.incarnation.uuid] = watched

    def add_host(self, slot: int) -> None:
        """Start to monitor the host's memory. If that is not possible, the reason is in ``no_host``.

        Raises:
            Conflict: somebody else took DAMON.
        """
        if "paddr" not in self._pool.capabilities.operations:
            self.no_host = "this kernel's DAMON cannot watch physical memory"
            return
        try:
            watched = self._new(slot, None, read_system_ram(self._kernel))
            self._start(watched, Target.of(0, watched.ram))
        except JournalFailed:
            raise
        except (HostError, OSError) as error:
            self.no_host = str(error)
        else:
            self._of_host = watched

    def drop(self, uuid: str) -> None:
        """Stop to monitor a domain, if it is monitored, and forget its idle map."""
        if uuid in self._of_domains:
            self._end(self._of_domains[uuid])
        self.lost.pop(uuid, None)

    def poll(self) -> None:
        """Add the windows since the last call to the idle maps.

        A paused domain accesses nothing, so its watch begins again. If a domain's memory grew or shrank, its
        monitor gets the new ranges.

        Raises:
            HostError: libvirt does not list its domains.
        """
        self._source.collect()
        came = [(watched, self._windows_of(watched)) for watched in self._monitors()]
        if not any(windows for _, windows in came):
            return
        listed = {each.uuid: each for each in self._lists.domains()}
        for watched, windows in came:
            domain = watched.domain
            if not windows:
                continue
            now = listed.get(domain.incarnation.uuid) if domain is not None else None
            if domain is not None and (now is None or now.state is not RunState.RUNNING):
                watched.idle = idle.begin(watched.ram, self._clock.monotonic())
                continue
            try:
                self._take_in(watched, now, windows)
            except (OvercommitError, OSError, *UNCONTAINED):
                raise
            except Exception as error:  # noqa: BLE001 - a boundary: whatever it is, it is this monitor's
                self._lose(watched, in_a_line(error))

    def _take_in(self, watched: _Monitor, now: ListedDomain | None, windows: Sequence[Window]) -> None:
        for window in windows:
            watched.idle = idle.update(watched.idle, window.regions, window.ended_at, window=window.seconds)
        if now is not None:
            self._keep_up(watched, now, windows)

    def run(self, seconds: float, progress: Callable[[float], None]) -> Watched:
        """Run until each domain was watched for ``seconds``, and close.

        On a host too busy to read each window it takes longer, up to `_GRACE_SHARE` times. ``progress`` gets
        the share (0..1) that is done.

        Raises:
            Conflict: somebody else took DAMON meanwhile.
            HostError: libvirt does not list its domains.
        """
        ageing = Ageing(self._kernel, self._clock)
        walked = [(monitor.domain, seconds / 2) for monitor in self._monitors() if monitor.domain is not None]
        ageing.poll(walked, now=True)
        halfway = False
        deadline = self._clock.monotonic() + _GRACE_SHARE * seconds
        while self.idle and (seen := self.seen_seconds) < seconds and self._clock.monotonic() < deadline:
            progress(seen / seconds)
            self._clock.wait(_LOOK_SECONDS)
            self.poll()
            if not halfway and self.seen_seconds >= seconds / 2:
                halfway = True
                ageing.poll(walked, now=True)
        ageing.poll(walked, now=True)
        self.close()
        return Watched(idle=self.idle, lost=self.lost, ages=ageing.ages, host=self.host, no_host=self.no_host)

    def close(self) -> None:
        """Stop all monitors."""
        for watched in self._monitors():
            self._pool.stop(watched.slot)

    def _monitors(self) -> tuple[_Monitor, ...]:
        return (*self._of_domains.values(), *((self._of_host,) if self._of_host is not None else ()))

    def _new(self, slot: int, domain: DomainFacts | None, ram: tuple[Range, ...]) -> _Monitor:
        began = idle.begin(ram, self._clock.monotonic())
        return _Monitor(
            slot=slot,
            domain=domain,
            ram=ram,
            memory_bytes=domain.definition.listed_bytes if domain else total_size(ram),
            idle=began,
            sample_seconds=MONITOR_INTERVALS.sample_seconds,
        )

    def _start(self, watched: _Monitor, target: Target) -> None:
        intervals = monitor_intervals(watched.sample_seconds, tuned_by_kernel=self._kernel_tunes)
        if watched.domain is None:
            kdamond = host_monitor(target.ranges, intervals)
        elif not watched.domain.ram:
            kdamond = process_monitor(target.pid, watched.ram, self._sentinel, intervals)
        else:
            kdamond = monitor(target, self._sentinel, intervals)
        self._pool.start(watched.slot, kdamond)
        self._source.begin(watched.slot, intervals)
        if watched.domain is not None:
            _require_still_there(self._kernel, watched.domain)

    def _windows_of(self, watched: _Monitor) -> Sequence[Window]:
        """The new windows of a monitor. A monitor that is lost is stopped."""
        try:
            if watched.domain is not None:
                _require_still_there(self._kernel, watched.domain)
            return self._source.windows(watched.slot)
        except HostError as error:
            self._lose(watched, str(error))
            return ()

    def _lose(self, watched: _Monitor, why: str) -> None:
        if watched.domain is None:
            self.no_host = why
        else:
            self.lost[watched.domain.incarnation.uuid] = why
        self._end(watched)

    def _end(self, watched: _Monitor) -> None:
        """Forget the monitor, also if it cannot be stopped now."""
        if watched.domain is None:
            self._of_host = None
        else:
            del self._of_domains[watched.domain.incarnation.uuid]
        self._source.end(watched.slot)
        self._pool.stop(watched.slot)

    def _keep_up(self, watched: _Monitor, listed: ListedDomain, windows: Sequence[Window]) -> None:
        """Adapt the monitor to the domain's memory and to the best sampling interval."""
        assert watched.domain is not None
        pid = watched.domain.incarnation.pid
        pieces: tuple[Range, ...] = ()
        if listed.maximum_bytes != watched.memory_bytes:
            # What QEMU does not have yet, or still has, and whether it is gone, the next look will tell.
            with contextlib.suppress(OSError, HostError, ValueError):
                if ram := locate_ram(self._kernel, pid, watched.domain.definition, listed.maximum_bytes):
                    watched.memory_bytes, watched.ram, pieces = listed.maximum_bytes, ram, ram
                    watched.idle = idle.relocate(watched.idle, ram, windows[-1].ended_at)
        if not self._kernel_tunes and self._tune(watched, windows):
            seen = tuple(Range(r.start, r.end) for r in windows[-1].regions)
            pieces = pieces or tuple(intersect(seen, watched.ram))
        if pieces:
            self._restart(watched, Target.of(pid, pieces))

    @staticmethod
    def _tune(watched: _Monitor, windows: Sequence[Window]) -> bool:
        """Whether the monitor needs another sampling interval."""
        watched.untuned += [window.regions for window in windows]
        if len(watched.untuned) < AGGREGATIONS:
            return False
        before = watched.sample_seconds
        watched.sample_seconds = tuned(
            before,
            access_ratio(watched.untuned, SAMPLES),
            shortest=SHORTEST_SAMPLE_SECONDS,
            longest=LONGEST_SAMPLE_SECONDS,
        )
        watched.untuned.clear()
        return watched.sample_seconds != before

    def _restart(self, watched: _Monitor, target: Target) -> None:
        """Restart the monitor with another target. The idle map is kept.

        ``commit`` would be cheaper, but before Linux 6.15 a failed commit ends the kdamond and returns
        success.
        """
        assert watched.domain is not None
        self._end(watched)
        try:
            self._start(watched, target)
        except JournalFailed:
            raise
        except HostError as error:
            self.lost[watched.domain.incarnation.uuid] = str(error)
        else:
            self._of_domains[watched.domain.incarnation.uuid] = watched


def duration_for(cold_after: float) -> float:
    """The seconds to watch until memory idle for ``cold_after`` is known, plus two windows."""
    return cold_after + 2 * WINDOW_SECONDS


def begin_watch(
    kernel: Kernel, lists: Lists, pool: DamonPool, clock: Clock, domains: Sequence[DomainFacts]
) -> Watch:
    """Start a monitor for each domain and one for the host. The pool has a slot for each.

    Raises:
        Conflict: somebody else took DAMON.
    """
    regions = [monitor_limits(domain.memory).maximum for domain in domains]
    watch = Watch(kernel, lists, pool, clock, open_source(pool, clock, regions))
    for slot, domain in enumerate(domains):
        watch.add(slot, domain)
    watch.add_host(len(domains))
    return watch


def _require_still_there(kernel: Kernel, domain: DomainFacts) -> None:
    """Check that the pid is still the same process, because DAMON resolves a bare pid."""
    incarnation = domain.incarnation
    if read_start_time(kernel, incarnation.pid) != incarnation.start_time:
        raise Gone(f"domain {incarnation.name} was restarted")
