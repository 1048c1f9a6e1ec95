"""How much may still be paged out, and how fast (rule S7): capacity, write rate, wear and latency of swap.

The kernel fills swap by priority. Page-out ends before an area that must not be written to. Until then there
may be room on areas of higher priority.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from overcommit.model.accounts import kept_share
from overcommit.model.action import DomainAction, PageoutAction
from overcommit.model.facts import HostFacts
from overcommit.model.policy import LEAST_WRITE_RATE, SwapBudget
from overcommit.model.swap import SwapArea
from overcommit.plan.case import worthwhile
from overcommit.units import format_duration, format_size

DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapFlow:
    """The traffic of swap, from several readings of the kernel's counters.

    ``bytes_per_second`` are paged out now, whatever causes it; None: not counted. ``seconds_per_read`` is the
    recent mean by device, for devices with enough reads. ``written_bytes`` went to disks in the last day, as
    far back as ``known_seconds``.
    """

    bytes_per_second: float | None
    seconds_per_read: Mapping[str, float] = field(default_factory=dict)
    written_bytes: int = 0
    known_seconds: float = DAY_SECONDS


class Grant(NamedTuple):
    """What page-outs under way may still put into swap, and how fast, all together.

    ``each`` has the bytes of each by the domain's UUID, because limits of cgroups differ between domains.
    """

    room_bytes: int = 0
    bytes_per_second: int = 0
    each: Mapping[str, int] = MappingProxyType({})


NO_GRANT = Grant()


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapVerdict:
    """What page-outs of all domains together may do.

    They may put ``room_bytes`` into swap; ``bound`` says what allows no more. Up to ``at_once`` may run at
    the same time, together at ``bytes_per_second``. ``halt`` is why the running ones must end. ``unknown`` is
    what could not be checked. ``granted`` is for page-outs under way, by the domain's UUID. ``spent`` is why
    nothing could be paged out even without those.
    """

    room_bytes: int
    bound: str
    bytes_per_second: int
    at_once: int = 1
    halt: str | None = None
    unknown: tuple[str, ...] = ()
    granted: Mapping[str, int] = field(default_factory=dict)
    spent: str | None = None

    @property
    def why_not(self) -> str | None:
        """Why nothing can be paged out at all; None: something can."""
        return self.bound if self.room_bytes < worthwhile(0) else None


class _Room(NamedTuple):
    room_bytes: int
    bound: str


def judge_swap(
    host: HostFacts,
    budget: SwapBudget,
    flow: SwapFlow | None = None,
    *,
    granted: Grant = NO_GRANT,
    at_once: int = 1,
) -> SwapVerdict:
    """What may be paged out. Without a ``flow`` only the room is checked.

    ``granted`` for page-outs under way is taken off. At most ``at_once`` more are started together.
    """
    flow_now = (flow.bytes_per_second if flow else None) or 0
    areas = _areas(host, budget, flow)
    least = min(areas, _policy(host, budget), key=lambda room: room.room_bytes)
    room, bound = max(0, least.room_bytes - granted.room_bytes), least.bound
    if granted.room_bytes and room < worthwhile(0) <= least.room_bytes:
        bound = f"page-outs in progress may still take {format_size(granted.room_bytes)} of swap; {bound}"
    left = max(0, int(budget.max_write_bytes_per_second - max(flow_now, granted.bytes_per_second)))
    if room >= worthwhile(0) and left < LEAST_WRITE_RATE:
        room, bound = 0, _busy(budget, flow_now, granted.bytes_per_second)
    return SwapVerdict(
        room_bytes=room,
        bound=bound,
        bytes_per_second=left,
        at_once=at_once,
        halt=_halt(host, budget, areas),
        unknown=tuple(_unknown(host, flow)),
        granted=granted.each,
        spent=_spent(budget, least, flow_now, granted),
    )


def _spent(budget: SwapBudget, least: _Room, flow_now: float, granted: Grant) -> str | None:
    if least.room_bytes < worthwhile(0):
        return least.bound
    left = budget.max_write_bytes_per_second - flow_now
    # The flow includes the writes of this program's own page-outs.
    return _busy(budget, flow_now, 0) if left < LEAST_WRITE_RATE and not granted.bytes_per_second else None


def _halt(host: HostFacts, budget: SwapBudget, areas: _Room) -> str | None:
    """Why page-outs under way must end: an area must not be written to, or others have used the room."""
    if areas.room_bytes < worthwhile(0):
        return areas.bound
    most = budget.max_used * host.swap_total_bytes + worthwhile(
        0
    )  # page-outs end roughly where it was planned
    return _policy(host, budget).bound if host.swap_used_bytes > most else None


def spread(actions: Sequence[DomainAction], verdict: SwapVerdict) -> list[DomainAction]:
    """The same actions with the rate shared, so that page-outs that run at once keep the limit together.

    Where the rate is too low for so many, the later ones are blocked.
    """
    running = sum(isinstance(action, PageoutAction) and action.blocked is None for action in actions)
    together = min(running, verdict.at_once)
    most = verdict.bytes_per_second // LEAST_WRITE_RATE
    if together == 0:
        return list(actions)
    if together > most:
        together = running = most
    each = verdict.bytes_per_second // together if together else 0
    shared: list[DomainAction] = []
    for action in actions:
        if isinstance(action, PageoutAction) and action.blocked is None:
            running -= 1
            if running < 0:
                action = dataclasses.replace(action, blocked="other page-outs use the write rate of swap")
            else:
                rate = min(action.max_bytes_per_second, each)
                action = dataclasses.replace(action, max_bytes_per_second=rate)
        shared.append(action)
    return shared


def _policy(host: HostFacts, budget: SwapBudget) -> _Room:
    used, total = host.swap_used_bytes, host.swap_total_bytes
    return _Room(
        max(0, round(budget.max_used * total) - used),
        f"swap budget: {format_size(used)} of {format_size(total)} in use, the policy allows "
        f"{budget.max_used:.0%}",
    )


def _areas(host: HostFacts, budget: SwapBudget, flow: SwapFlow | None) -> _Room:
    """The room on the areas in the kernel's order, until one that must not be written to.

    0 while swap is turned off: what went to the other areas would be read back first.
    """
    if host.swap_leaving_bytes:
        back = format_size(host.swap_used_bytes)
        return _Room(0, f"swap is being turned off (swapoff): up to {back} is read back into memory")
    left_today = budget.max_write_bytes_per_day - flow.written_bytes if flow else None
    room = 0
    for group in _by_priority(host.swap):
        stops = list(_stops(group, budget, flow, left_today))
        free = sum(area.free_bytes for area in group)
        if stops:
            first = min(stops, key=lambda stop: stop.room_bytes)
            return _Room(room + first.room_bytes, first.bound)
        if left_today is not None and any(area.on_disk for area in group):
            left_today -= free
        room += free
    used, total = format_size(host.swap_used_bytes), format_size(host.swap_total_bytes)
    return _Room(room, f"swap is full: {used} of {total} in use")


def filled_next(areas: Iterable[SwapArea]) -> tuple[SwapArea, ...]:
    """The areas that the kernel writes to next; of several with one priority, in turns."""
    return next(_by_priority(areas), ())


def _by_priority(areas: Iterable[SwapArea]) -> Iterator[tuple[SwapArea, ...]]:
    """The areas with room in the order in which the kernel fills them; those of one priority together."""
    usable = sorted((area for area in areas if area.free_bytes > 0), key=lambda area: -area.priority)
    for _, group in itertools.groupby(usable, key=lambda area: area.priority):
        yield tuple(group)


def _stops(
    group: Sequence[SwapArea], budget: SwapBudget, flow: SwapFlow | None, left_today: int | None
) -> Iterator[_Room]:
    """What ends page-out on areas that are filled in turns, each with the bytes that fit until then."""
    free = sum(area.free_bytes for area in group)
    for area in group:
        if area.pool_limit_bytes is not None and area.pool is not None:
            left = max(0, area.pool_limit_bytes - area.pool.used_bytes)
            until = int(left / kept_share(area.pool))
            if until < area.free_bytes:
                yield _Room(until, _limited(area, area.pool_limit_bytes))
        slow = flow.seconds_per_read.get(area.device.name) if flow and area.device and area.on_disk else None
        if slow is not None and slow > budget.max_latency_seconds:
            allowed = budget.max_latency_seconds
            yield _Room(
                0, f"swap on {area.path} is slow: {_ms(slow)} per read, the policy allows {_ms(allowed)}"
            )
    disks = [area.path for area in group if area.on_disk]
    if flow and left_today is not None and disks and left_today < free:
        yield _Room(max(0, left_today), _worn(disks, budget, flow))


def _limited(area: SwapArea, limit: int) -> str:
    used = format_size(area.pool.used_bytes if area.pool else 0)
    return f"swap on {area.path} takes {used} of memory, its mem_limit is {format_size(limit)}"


def _worn(disks: Sequence[str], budget: SwapBudget, flow: SwapFlow) -> str:
    return (
        f"swap on {', '.join(disks)} wears out: {format_size(flow.written_bytes)} was written in a day, "
        f"the policy allows {format_size(budget.max_write_bytes_per_day)}"
    )


def _busy(budget: SwapBudget, flow_now: float, granted: int) -> str:
    allowed = format_size(budget.max_write_bytes_per_second)
    if granted > flow_now:
        return f"page-outs in progress may write {format_size(granted)}/s, the policy allows {allowed}/s"
    return f"swap is written at {format_size(flow_now)}/s, the policy allows {allowed}/s"


def _unknown(host: HostFacts, flow: SwapFlow | None) -> Iterator[str]:
    """What could not be checked about disks with room."""
    disks = [area for area in host.swap if area.on_disk and area.free_bytes]
    paths = ", ".join(area.path for area in disks)
    if not disks:
        return
    if flow is None:
        yield f"the speed and the wear of swap on {paths} are not known yet: that takes two measurements"
        return
    if blind := ", ".join(area.path for area in disks if area.device is None):
        yield f"the speed of swap on {blind} cannot be measured"
    if host.swap_traffic is None:
        yield f"the writes to swap on {paths} cannot be measured"
    elif flow.known_seconds < DAY_SECONDS:
        known = format_duration(flow.known_seconds)
        yield f"the writes to swap on {paths} are known for the last {known} only, not for a day"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
