"""Watch the accesses of several domains for a while, one monitor each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from overcommit.classify import idle
from overcommit.clock import Clock
from overcommit.damon.pool import DamonPool
from overcommit.damon.schemes import MONITOR_INTERVALS, Sentinel, monitor
from overcommit.damon.tree import Target
from overcommit.errors import Gone, HostError
from overcommit.host.kernel import Kernel
from overcommit.host.process import read_start_time
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.facts import DomainFacts, RunState
from overcommit.model.heat import IdleMap

WINDOW_SECONDS = MONITOR_INTERVALS.aggregation_seconds
"""The length of one snapshot's window: the resolution of idle times."""


_PATIENCE = 3
_SHORTEST_WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a watch brought: idle maps by domain UUID, and why others have none."""

    idle: dict[str, IdleMap]
    lost: dict[str, str]


def duration_for(cold_after: float) -> float:
    """How long to watch so that memory idle for ``cold_after`` can be told, with two windows to spare."""
    return cold_after + 2 * WINDOW_SECONDS


def watch(
    kernel: Kernel,
    hypervisor: Hypervisor,
    pool: DamonPool,
    clock: Clock,
    domains: Sequence[DomainFacts],
    *,
    seconds: float,
    progress: Callable[[float], None],
) -> Watched:
    """Run monitors in slots 0.. of the pool until each domain was seen for ``seconds``.

    A host too busy to take a snapshot per window is watched for longer, up to `_PATIENCE` times as long. A
    domain that is paused touches nothing: its watch begins again. ``progress`` gets the share done.

    Raises:
        Conflict: somebody else took DAMON meanwhile.
    """
    sentinel = Sentinel()
    result = Watched(idle={}, lost={})
    slots: dict[str, int] = {}
    for slot, domain in enumerate(domains):
        incarnation = domain.incarnation
        try:
            pool.start(slot, monitor(Target.of(incarnation.pid, domain.ram), sentinel))
            _still_there(kernel, domain)
        except (Gone, HostError) as error:
            result.lost[incarnation.uuid] = str(error)
            continue
        slots[incarnation.uuid] = slot
        result.idle[incarnation.uuid] = idle.begin(domain.ram, clock.monotonic())
    deadline = clock.monotonic() + _PATIENCE * seconds
    while slots and (seen := _seen(result)) < seconds and clock.monotonic() < deadline:
        progress(seen / seconds)
        clock.wait(max(_SHORTEST_WAIT_SECONDS, min(WINDOW_SECONDS, seconds - seen)))
        states = {listed.uuid: listed.state for listed in hypervisor.domains()}
        for domain in domains:
            uuid = domain.incarnation.uuid
            if uuid not in slots:
                continue
            try:
                _still_there(kernel, domain)
                regions = pool.sysfs.access_snapshot(slots[uuid])
            except (Gone, HostError) as error:
                result.lost[uuid] = str(error)
                pool.stop(slots.pop(uuid))
                del result.idle[uuid]
                continue
            now = clock.monotonic()
            if states.get(uuid) is RunState.RUNNING:
                result.idle[uuid] = idle.update(result.idle[uuid], regions, now, window=WINDOW_SECONDS)
            else:
                result.idle[uuid] = idle.begin(domain.ram, now)
    for slot in slots.values():
        pool.stop(slot)
    return result


def _seen(result: Watched) -> float:
    return min(each.window_seconds for each in result.idle.values())


def _still_there(kernel: Kernel, domain: DomainFacts) -> None:
    """DAMON resolves a bare pid: make sure that it is still the process we mean."""
    incarnation = domain.incarnation
    if read_start_time(kernel, incarnation.pid) != incarnation.start_time:
        raise Gone(f"domain {incarnation.name} was restarted")
