"""One domain with what the planner knows of it, and the figures that all mechanisms share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from overcommit.model.facts import BalloonStats, Definition, DomainFacts, HostFacts
from overcommit.model.guest_reserve import guest_reserve
from overcommit.model.heat import Heat
from overcommit.model.past import Cooldown
from overcommit.model.plan import Verdict
from overcommit.model.policy import Actuator, DomainClass, GuestHelp, Policy, ReclaimMode
from overcommit.model.restraint import Restraint
from overcommit.plan.cache import CacheRule, Droppable, cache_of, droppable_cache
from overcommit.units import MIB, format_size, round_up

_KEPT_FREE = 4
"""The divisor of the reserve for the free memory that a guest keeps beside its cache. Its kernel begins to
drop cache below its high watermark: about 1.5 times min_free_kbytes, which is up to 5 % of a small guest with
huge pages (Linux, ``set_recommended_min_free_kbytes``).
"""


class Bounds(NamedTuple):
    """The sizes in bytes that a domain is never taken below, and never given more than."""

    floor_bytes: int
    ceiling_bytes: int


class Case(NamedTuple):
    """A domain with its facts, its class, and a verdict per actuator.

    ``pain`` is why the guest is under pressure, in words; None: it is not. ``emergency`` is the host's state.
    ``cache`` is the host-wide rule for file cache.
    """

    domain: DomainFacts
    heat: Heat | None
    domain_class: DomainClass
    policy: Policy
    verdicts: Mapping[Actuator, Verdict]
    guest_help: Mapping[GuestHelp, Verdict]
    cooldown: Cooldown | None = None
    restraint: Restraint | None = None
    pain: str | None = None
    emergency: bool = False
    cache: CacheRule = CacheRule.KEPT

    def may_help(self, help_kind: GuestHelp) -> bool:
        """Whether a help inside of the guest is allowed and possible."""
        return help_kind in self.guest_help and self.guest_help[help_kind].ok

    def may(self, actuator: Actuator) -> bool:
        """Whether an actuator is allowed and possible."""
        return actuator in self.verdicts and self.verdicts[actuator].ok

    @property
    def write_rate(self) -> int:
        """Bytes per second that a page-out of the domain may write to swap."""
        share = self.restraint.step_share if self.restraint else 1.0
        return round(self.policy.swap.max_write_bytes_per_second * share)

    @property
    def bounds(self) -> Bounds:
        """See `bounds_of`."""
        return bounds_of(self.domain, self.domain_class)


def bounds_of(domain: DomainFacts, domain_class: DomainClass) -> Bounds:
    """Floor (rounded up to whole MiB) and ceiling of the domain's memory on the host."""
    ceiling = domain.memory_bytes
    return Bounds(min(round_up(domain_class.floor * ceiling), ceiling), ceiling)


def worthwhile(ceiling_bytes: int) -> int:
    """The least gain of an action in bytes: 2 % of the domain, at least 8 MiB."""
    return max(8 * MIB, ceiling_bytes // 50)


def guest_bytes(definition: Definition, stats: BalloonStats) -> int:
    """The guest's memory: what its balloon leaves it, plus plugged virtio-mem."""
    return stats.actual_bytes + definition.plugged_bytes


def used_bytes(definition: Definition, stats: BalloonStats) -> int:
    """Memory that the guest cannot give. The guest's figure, bounded by its size (rule S8)."""
    size = guest_bytes(definition, stats)
    return size - min(stats.usable_bytes or 0, size)


def hot_bytes(case: Case) -> int:
    """Memory in steady use, which the guest keeps while the host is not short, cache or not."""
    return case.heat.hot_bytes if case.heat and case.policy.reclaim is ReclaimMode.PROACTIVE else 0


def cache_for(case: Case, stats: BalloonStats) -> Droppable | None:
    """The guest's file cache, and how much may be dropped; None: not reported apart from free memory."""
    size = guest_bytes(case.domain.definition, stats)
    cache = cache_of(stats, size)
    if cache is None:
        return None
    resident = case.domain.residency.resident_bytes if case.domain.residency else size
    cache_after = case.domain_class.cache_after_seconds
    return droppable_cache(cache, resident, case.heat, cache_after=cache_after, rule=case.cache)


def kept_bytes(case: Case, stats: BalloonStats) -> int:
    """The memory that a guest keeps: its use and a reserve, at least its floor.

    What it could give includes all of its cache. Of that it keeps what is hot, and what may not be dropped
    (`cache_for`). A guest without free memory drops cache by itself, so some memory stays free.
    """
    definition, bounds = case.domain.definition, case.bounds
    reserve = guest_reserve(bounds.ceiling_bytes)
    kept = max(bounds.floor_bytes, max(used_bytes(definition, stats), hot_bytes(case)) + reserve)
    cache = cache_for(case, stats)
    if cache is not None and not cache.kept_bytes:
        return kept
    free = max(0, free_bytes(definition, stats) - round_up(reserve / _KEPT_FREE))
    return max(kept, guest_bytes(definition, stats) - free - (cache.droppable_bytes if cache else 0))


def cache_text(case: Case, stats: BalloonStats) -> str:
    """What the guest keeps of its cache, as the end of a sentence."""
    cache = cache_for(case, stats)
    if cache is None or cache.kept_bytes < worthwhile(case.bounds.ceiling_bytes):
        return ""
    return f", but keeps {format_size(cache.kept_bytes)} of cache"


def spare_bytes(domain: DomainFacts) -> int:
    """Resident bytes that the guest does not need, by its own figures; a lower bound.

    Memory in swap counts as needed. Otherwise each page-out would make room for the next.
    """
    if domain.residency is None or domain.balloon is None:
        return 0
    resident, swapped = domain.residency.resident_bytes, domain.residency.swapped_bytes
    return max(0, min(resident, resident + swapped - used_bytes(domain.definition, domain.balloon)))


def free_bytes(definition: Definition, stats: BalloonStats) -> int:
    """Free memory in the guest, of which some may be resident. The guest's figure, bounded as above."""
    return min(stats.unused_bytes or 0, guest_bytes(definition, stats))


def room_on(host: HostFacts, nid: int) -> int:
    """Bytes that may still be moved to a memory node. 2 % of it, at least 64 MiB, stay free for others."""
    node = host.node(nid)
    return max(0, node.free_bytes - max(64 * MIB, node.total_bytes // 50)) if node else 0
