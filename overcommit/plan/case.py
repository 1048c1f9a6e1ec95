"""One domain as the planner considers it, and the measures that all rungs share."""

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
"""Part of its reserve that a guest keeps free beside its cache.

Its kernel begins to drop cache below its high watermark: about 1.5 times min_free_kbytes, which is up to 5 %
of a small guest with huge pages (Linux, ``set_recommended_min_free_kbytes``).
"""


class Bounds(NamedTuple):
    """The bytes a domain is never taken below, and never given more than."""

    floor_bytes: int
    ceiling_bytes: int


class Case(NamedTuple):
    """A domain with what was seen of it, what its class wants, and which actuators may be used.

    ``pain``: what hurts it, in words; None: nothing that was seen. ``emergency`` is the host's, and so is
    ``cache``: what of its file cache may go.
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
        """Whether something may be done inside of the guest, and was found possible."""
        return help_kind in self.guest_help and self.guest_help[help_kind].ok

    def may(self, actuator: Actuator) -> bool:
        """Whether an actuator was judged, and found usable."""
        return actuator in self.verdicts and self.verdicts[actuator].ok

    @property
    def write_rate(self) -> int:
        """Bytes per second that a page-out of it may write to swap."""
        share = self.restraint.step_share if self.restraint else 1.0
        return round(self.policy.swap.max_write_bytes_per_second * share)

    @property
    def bounds(self) -> Bounds:
        """See `bounds_of`."""
        return bounds_of(self.domain, self.domain_class)


def bounds_of(domain: DomainFacts, domain_class: DomainClass) -> Bounds:
    """Floor (rounded up to whole MiB) and ceiling: of what the host holds for it in memory."""
    ceiling = domain.memory_bytes
    return Bounds(min(round_up(domain_class.floor * ceiling), ceiling), ceiling)


def worthwhile(ceiling_bytes: int) -> int:
    """The least gain worth an action: 2 % of the domain, 8 MiB at least."""
    return max(8 * MIB, ceiling_bytes // 50)


def guest_bytes(definition: Definition, stats: BalloonStats) -> int:
    """What the guest has: what its balloon leaves it, and what virtio-mem adds to that."""
    return stats.actual_bytes + definition.plugged_bytes


def used_bytes(definition: Definition, stats: BalloonStats) -> int:
    """Memory the guest could not give; what it says is bounded by what it can have (rule S8)."""
    size = guest_bytes(definition, stats)
    return size - min(stats.usable_bytes or 0, size)


def hot_bytes(case: Case) -> int:
    """What was seen in steady use, which is left to the guest, cache or not, while the host is not short."""
    return case.heat.hot_bytes if case.heat and case.policy.reclaim is ReclaimMode.PROACTIVE else 0


def cache_for(case: Case, stats: BalloonStats) -> Droppable | None:
    """The guest's file cache, and what of it may go; None: not told from what is free."""
    size = guest_bytes(case.domain.definition, stats)
    cache = cache_of(stats, size)
    if cache is None:
        return None
    resident = case.domain.residency.resident_bytes if case.domain.residency else size
    cache_after = case.domain_class.cache_after_seconds
    return droppable_cache(cache, resident, case.heat, cache_after=cache_after, rule=case.cache)


def kept_bytes(case: Case, stats: BalloonStats) -> int:
    """What a guest is to keep of its memory: its use and a reserve, and never less than its floor.

    What it could give includes all that it caches: of that it keeps what is hot, and whatever is not to go
    (`cache_for`). A guest whose last free page is taken drops cache all the same, so that it keeps some free.
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
    """What the guest keeps of its cache, as the end of a sentence about what it could give."""
    cache = cache_for(case, stats)
    if cache is None or cache.kept_bytes < worthwhile(case.bounds.ceiling_bytes):
        return ""
    return f", but keeps {format_size(cache.kept_bytes)} of cache"


def spare_bytes(domain: DomainFacts) -> int:
    """Of what is resident, at least how much holds nothing that the guest needs, by its own word.

    What is in swap is taken for needed: else each page-out would make room for the next.
    """
    if domain.residency is None or domain.balloon is None:
        return 0
    resident, swapped = domain.residency.resident_bytes, domain.residency.swapped_bytes
    return max(0, min(resident, resident + swapped - used_bytes(domain.definition, domain.balloon)))


def free_bytes(definition: Definition, stats: BalloonStats) -> int:
    """Memory free in the guest, of which the host may hold some; the guest's word, bounded as above."""
    return min(stats.unused_bytes or 0, guest_bytes(definition, stats))


def room_on(host: HostFacts, nid: int) -> int:
    """What may still be moved to a memory node: 2 % of it, 64 MiB at least, stay free for others."""
    node = host.node(nid)
    return max(0, node.free_bytes - max(64 * MIB, node.total_bytes // 50)) if node else 0
