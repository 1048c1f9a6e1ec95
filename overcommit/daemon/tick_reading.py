"""What is read of a domain in every tick: little, and cheap."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from overcommit.clock import Clock
from overcommit.errors import Gone, HostError
from overcommit.host.cgroup import read_signs
from overcommit.host.kernel import Kernel
from overcommit.host.process import read_start_time
from overcommit.hypervisor.guest_figures import surveyed_balloon
from overcommit.model.facts import BalloonStats, CgroupSigns, DomainFacts
from overcommit.model.guest_reserve import guest_reserve, short_below
from overcommit.model.heat import Heat
from overcommit.model.moments import Monotonic
from overcommit.plan.cache import cache_of
from overcommit.plan.case import used_bytes
from overcommit.slo import Reading, SloSample


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReading:
    """A domain's counters at a moment (monotonic seconds); None: could not be read.

    ``read_bytes`` is what its disks have read so far.
    """

    at: Monotonic
    cgroup: CgroupSigns | None
    balloon: BalloonStats | None
    read_bytes: int | None = None

    def short_bytes(self, domain: DomainFacts) -> int:
        """The bytes that the guest is short of, by its own figures; 0 where they are not known."""
        stats = self.balloon
        if stats is None or stats.usable_bytes is None:
            return 0
        size = stats.actual_bytes + domain.definition.plugged_bytes
        usable = size - used_bytes(domain.definition, stats)
        return max(0, short_below(guest_reserve(domain.memory_bytes)) - usable)


def read_for_tick(
    kernel: Kernel,
    clock: Clock,
    domain: DomainFacts,
    said: BalloonStats | None,
    read_bytes: int | None = None,
) -> TickReading | None:
    """A domain's counters now, with its guest's statistics in the survey; None: the incarnation has ended."""
    incarnation = domain.incarnation
    at = clock.monotonic()
    cgroup, balloon, read = None, None, read_bytes
    try:
        if domain.cgroup is not None:
            cgroup = read_signs(kernel, domain.cgroup.path)
    except (OSError, ValueError):
        cgroup = None
    if domain.definition.balloon_model != "none" and said is not None:
        with contextlib.suppress(HostError):
            balloon = surveyed_balloon(said, domain.definition)
    try:
        if read_start_time(kernel, incarnation.pid) != incarnation.start_time:
            return None  # what was read may be somebody else's, who got its pid
    except Gone:
        return None
    except (OSError, HostError):
        cgroup = balloon = read = None  # nobody knows whose they are
    return TickReading(at=at, cgroup=cgroup, balloon=balloon, read_bytes=read)


def sample_between(
    before: TickReading,
    now: TickReading,
    domain: DomainFacts,
    *,
    heat: Heat | None,
    taken_bytes: int,
    taking: bool,
) -> SloSample:
    """What was measured of a domain between two readings. ``taken_bytes`` were taken from its guest."""
    old, new = before.cgroup, now.cgroup
    told, tells = before.balloon, now.balloon
    promoted = stalled = swapped_in = faults = None
    if old is not None and new is not None:
        promoted = max(0, new.promoted_pages - old.promoted_pages)
        if old.pressure is not None and new.pressure is not None:
            stalled = max(0.0, new.pressure.some_total_seconds - old.pressure.some_total_seconds)
    if told is not None and tells is not None:
        swapped_in = _grown(told.swap_in_bytes, tells.swap_in_bytes)
        faults = _grown(told.major_faults, tells.major_faults)
    usable = None
    if tells is not None and tells.usable_bytes is not None:
        size = tells.actual_bytes + domain.definition.plugged_bytes
        usable = size - used_bytes(domain.definition, tells)
    return SloSample(
        seconds=now.at - before.at,
        promoted_pages=promoted,
        stalled_seconds=stalled,
        working_set_bytes=heat.wss_bytes if heat else None,
        cooling_pages_per_minute=heat.promotions_per_minute if heat else None,
        out_bytes=(new.swap_bytes if new else 0) + taken_bytes,
        usable_bytes=usable,
        reserve_bytes=guest_reserve(domain.memory_bytes),
        swap_in_bytes=swapped_in,
        major_faults=faults,
        taking=taking,
        reduced=taken_bytes > 0,
        reading=_reading(before, now),
    )


def _reading(before: TickReading, now: TickReading) -> Reading:
    was, has = _cache_bytes(before.balloon), _cache_bytes(now.balloon)
    return Reading(
        read_bytes=_grown(before.read_bytes, now.read_bytes),
        cache_grown_bytes=None if was is None or has is None else has - was,
    )


def _cache_bytes(stats: BalloonStats | None) -> int | None:
    """All file cache of the guest, by its own figures."""
    if stats is None or stats.cache_bytes is not None:
        return stats.cache_bytes if stats else None
    return cache_of(stats, stats.actual_bytes)


def _grown(before: int | None, now: int | None) -> int | None:
    """The growth of a guest's counter; None where it started anew (a reboot)."""
    return None if before is None or now is None or now < before else now - before
