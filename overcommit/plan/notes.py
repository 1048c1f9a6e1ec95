"""The sentences beside a plan's actions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from overcommit.model.action import Action, DemotionAction, PageoutAction, frees
from overcommit.model.facts import MIGRATION_AWAY, DomainFacts, HostFacts, Snapshot
from overcommit.model.heat import Heat
from overcommit.model.moments import Wall
from overcommit.model.plan import HostPlan
from overcommit.model.policy import Actuator, Policy, ReclaimMode
from overcommit.plan.arbiter import Candidate
from overcommit.plan.budget import budget_notes
from overcommit.plan.case import Case, cache_for, worthwhile
from overcommit.plan.cooldown import least_worth
from overcommit.plan.eligibility import reporting_would_work
from overcommit.plan.rungs.reporting import held_free, left_in_pieces
from overcommit.plan.swap_budget import SwapVerdict
from overcommit.units import format_duration, format_ratio, format_size

_MOST_NAMED = 5


def notes(
    snapshot: Snapshot,
    candidates: Sequence[Candidate],
    host: HostPlan,
    policy: Policy,
    actions: Sequence[Action],
    *,
    emergency: bool,
) -> Iterator[str]:
    """What an operator should know in addition to the actions."""
    yield from budget_notes(host.budget, snapshot.host, policy)
    yield from swap_place_notes(snapshot.host)
    if policy.reclaim is ReclaimMode.OFF:
        yield "the policy says reclaim: off"
    elif policy.reclaim is ReclaimMode.ON_PRESSURE and not host.short_bytes and not actions:
        yield (
            f"{format_size(host.headroom_bytes)} above the reserve: reclaim: on_pressure takes nothing now"
        )
    if policy.cold_node is not None:
        yield from _cold_node_notes(candidates, policy.cold_node, policy.reclaim)
    for candidate in candidates:
        domain, heat = candidate.case.domain, candidate.case.heat
        yield from (f"{domain.name}: {why}" for why in policy.complaints_of(domain))
        if domain.busy_with == MIGRATION_AWAY:
            yield leaving_text(domain)
        if candidate.case.pain is not None and not candidate.reliefs and not candidate.case.emergency:
            yield f"{domain.name} is over its SLO and gives nothing: {candidate.case.pain}"
        if heat is not None and heat.cold_bytes is None:
            yield _too_short_text(candidate.case, heat)
        yield from _cooldown_notes(candidate, snapshot.taken_at)
    yield from _cache_notes(candidates, policy)
    yield from _reporting_notes(candidates)
    if (emergency or policy.reclaim is ReclaimMode.ON_PRESSURE) and host.short_bytes:
        yield from _still_short(candidates, host, actions)
    for gap in snapshot.gaps:
        yield f"left out: {gap.what}: {gap.why}"


def _too_short_text(case: Case, heat: Heat) -> str:
    watched, least = format_duration(heat.window_seconds), case.domain_class.cold_after_seconds
    who = "its class calls"
    if heat.cold_after_seconds > least:
        who = f"it is throttled (class: {format_duration(least)}), which calls"
    return (
        f"{case.domain.name}: watched for {watched}, but {who} memory cold after "
        f"{format_duration(heat.cold_after_seconds)}: no page-out"
    )


def leaving_text(domain: DomainFacts) -> str:
    """How much a migration must read back from swap first."""
    residency = domain.residency
    swapped, held = (residency.swapped_bytes, residency.resident_bytes) if residency else (0, 0)
    share = swapped / (held + swapped) if swapped else 0.0
    return (
        f"{domain.name} migrates to another host and is left alone. The migration reads "
        f"{format_size(swapped)} of it ({format_ratio(share)}) back from swap"
    )


def swap_notes(swap: SwapVerdict, actions: Iterable[Action]) -> Iterator[str]:
    """What of swap could not be checked, where something is paged out all the same."""
    if any(isinstance(action, PageoutAction) and action.blocked is None for action in actions):
        yield from swap.unknown


def swap_place_notes(host: HostFacts) -> Iterator[str]:
    """Swap areas in a bad place, or in a place that others may read."""
    for area in host.swap:
        if area.hazard is not None:
            yield f"swap on {area.path} {area.hazard.value}"
    untold = [area.path for area in host.swap if area.on_disk and area.encrypted is None]
    if untold:
        yield f"it is not known whether {', '.join(untold)} is encrypted"


def _still_short(candidates: Iterable[Candidate], host: HostPlan, actions: Iterable[Action]) -> Iterator[str]:
    """Where the plan is not enough: domains with idle memory that give none of it, and why."""
    gained = sum(frees(action) for action in actions if action.blocked is None)
    missing = host.short_bytes - gained
    if missing < worthwhile(0):
        return
    yield f"{format_size(missing)} of the reserve is still missing after this plan"
    for case, offers, _ in candidates:
        idle = (case.heat.cold_bytes or 0) if case.heat else 0
        refused = [v.reason for v in case.verdicts.values() if not v.ok and v.reason]
        if not offers and refused and idle >= worthwhile(case.bounds.ceiling_bytes):
            yield f"{case.domain.name} has {format_size(idle)} idle and gives nothing: {refused[-1]}"


def _cache_notes(candidates: Iterable[Candidate], policy: Policy) -> Iterator[str]:
    """Domains whose cache stays though a balloon or blocks could take it: one line, those with most."""
    keeps = []
    for case, _, _ in candidates:
        stats = case.domain.balloon
        takes = not math.isinf(case.domain_class.cache_after_seconds)
        usable = case.may(Actuator.BALLOON) or case.may(Actuator.VIRTIO_MEM)
        cache = cache_for(case, stats) if stats is not None and usable and takes else None
        if cache is not None and cache.kept_bytes >= worthwhile(case.bounds.ceiling_bytes):
            keeps.append((cache.kept_bytes, case.domain.name, cache.because))
    if not keeps or policy.reclaim is ReclaimMode.OFF:
        return
    keeps.sort(key=lambda one: (-one[0], one[1]))
    size, name, because = keeps[0]
    others = ""
    if more := keeps[1:]:
        others = f"; {len(more)} more keep {format_size(sum(kept for kept, _, _ in more))} (explain says why)"
    yield f"{name} keeps {format_size(size)} of file cache: {because}{others}"


def _reporting_notes(candidates: Iterable[Candidate]) -> Iterator[str]:
    """What free page reporting would have freed in domains where only their definition turns it off."""
    would = []
    for case, _, _ in candidates:
        size = held_free(case.domain) - left_in_pieces(case.bounds.ceiling_bytes)
        if (
            Actuator.FREE_PAGE_REPORTING in case.verdicts
            and reporting_would_work(case.domain)
            and size >= _least(case)
        ):
            would.append((size, case.domain.name))
    if not would:
        return
    would.sort(key=lambda one: (-one[0], one[1]))
    named = ", ".join(f"{name} {format_size(size)}" for size, name in would[:_MOST_NAMED])
    more = f" and {len(would) - _MOST_NAMED} more" if len(would) > _MOST_NAMED else ""
    yield (
        f"free page reporting would have given the host about {format_size(sum(s for s, _ in would))} that "
        f"guests have free ({named}{more}); the verb prepare switches it on"
    )


def _least(case: Case) -> int:
    return worthwhile(case.bounds.ceiling_bytes)


def _cooldown_notes(candidate: Candidate, now: Wall) -> Iterator[str]:
    """A page-out that is not made because the last one is recent."""
    case, last = candidate.case, candidate.case.cooldown
    if last is None or case.heat is None or any(isinstance(a, PageoutAction) for a in candidate.offers):
        return
    usual = worthwhile(case.bounds.ceiling_bytes)
    resident = case.domain.residency.resident_bytes if case.domain.residency else 0
    more = min(case.heat.cold_bytes or 0, resident - case.bounds.floor_bytes)
    if usual <= more < least_worth(last, usual):
        yield (
            f"{case.domain.name}: {format_size(more)} more looks idle. That is too little so soon: "
            f"{format_size(last.freed_bytes)} was paged out {format_duration(now - last.ended_at)} ago"
        )


def _cold_node_notes(candidates: Iterable[Candidate], node: int, mode: ReclaimMode) -> Iterator[str]:
    if mode is ReclaimMode.ON_PRESSURE:
        yield f"reclaim: on_pressure moves nothing to node {node}: the host as a whole gains nothing"
    for case, offers, _ in candidates:
        domain, heat = case.domain, case.heat
        if heat is None or heat.cold_bytes is None or domain.placement is None:
            continue
        recalled = sum(a.expected_bytes for a in offers if isinstance(a, DemotionAction))
        in_use = domain.placement.get(node, 0) - heat.cold_bytes - recalled
        if in_use >= worthwhile(domain.definition.maximum_bytes):
            yield (
                f"{domain.name}: at least {format_size(in_use)} on node {node} is not cold, so the guest "
                f"reaches it more slowly than necessary"
            )
