"""Put the domains' proposals under the host's budgets and write the plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from overcommit.model.facts import DomainFacts, HostFacts, Snapshot
from overcommit.model.heat import Heat, HostHeat
from overcommit.model.past import NOTHING_PAST, Past
from overcommit.model.plan import (
    Action,
    BalloonAction,
    DemotionAction,
    DomainPlan,
    HostPlan,
    PageoutAction,
    Plan,
    Verdict,
    kind_of,
)
from overcommit.model.policy import Actuator, DomainClass, Policy, ReclaimMode
from overcommit.plan import rungs
from overcommit.plan.eligibility import judge
from overcommit.units import MIB, format_duration, format_size

LIFETIME_SECONDS = 600.0
"""How long a saved plan may be applied; idle memory is re-checked page by page, guest sizes are not."""


class _Candidate(NamedTuple):
    domain: DomainFacts
    domain_class: DomainClass
    heat: Heat | None
    verdicts: Mapping[Actuator, Verdict]
    actions: tuple[Action, ...]


def make_plan(
    snapshot: Snapshot,
    heats: Mapping[str, Heat],
    policy: Policy,
    host_heat: HostHeat | None = None,
    *,
    past: Past = NOTHING_PAST,
) -> Plan:
    """The plan for this snapshot; ``heats`` by domain UUID, missing where a domain was not watched."""
    host = _host_plan(snapshot, policy, host_heat, past)
    candidates = list(_consider_all(snapshot, heats, policy))
    missing = max(0, -host.headroom_bytes) if policy.reclaim is ReclaimMode.ON_PRESSURE else None
    actions = _within_budgets(_in_turn(candidates, policy), snapshot.host, policy, missing=missing)
    ladder = list(Actuator)
    ordered = sorted(actions, key=lambda a: ladder.index(kind_of(a)))
    numbered = tuple(dataclasses.replace(a, id=str(i)) for i, a in enumerate(ordered, start=1))
    return Plan(
        created_at=snapshot.taken_at,
        expires_at=snapshot.taken_at + LIFETIME_SECONDS,
        policy_source=policy.source,
        policy_digest=policy.digest,
        host=host,
        domains=tuple(_domain_plan(c, numbered) for c in candidates),
        actions=numbered,
        notes=tuple(_notes(snapshot, candidates, host, policy)),
    )


def _host_plan(snapshot: Snapshot, policy: Policy, heat: HostHeat | None, past: Past) -> HostPlan:
    host = snapshot.host
    return HostPlan(
        name=host.name,
        kernel=host.kernel,
        boot_id=host.boot_id,
        total_bytes=host.total_bytes,
        available_bytes=host.available_bytes,
        promised_bytes=sum(d.definition.maximum_bytes for d in snapshot.domains),
        swap_total_bytes=host.swap_total_bytes,
        swap_free_bytes=host.swap_free_bytes,
        reserve_bytes=round(policy.reserve * host.total_bytes),
        reserved_bytes=_reserved(snapshot, past),
        lru_bytes=host.lru_bytes,
        idle_bytes=heat.idle_bytes if heat else None,
        idle_after_seconds=heat.idle_after_seconds if heat else None,
    )


def _reserved(snapshot: Snapshot, past: Past) -> int:
    """What was promised and not taken yet."""
    held = {d.name: d.residency.resident_bytes for d in snapshot.domains if d.residency}
    return sum(
        max(0, reservation.size_bytes - held.get(reservation.purpose or "", 0))
        for reservation in past.reservations
        if reservation.expires_at > snapshot.taken_at
    )


def _consider_all(snapshot: Snapshot, heats: Mapping[str, Heat], policy: Policy) -> Iterator[_Candidate]:
    """What each domain allows, by name; they share the room on the memory nodes."""
    host, node = snapshot.host, policy.cold_node
    rooms = {present.nid: rungs.room_on(host, present.nid) for present in host.nodes}
    for domain in sorted(snapshot.domains, key=lambda d: (d.name, d.incarnation.uuid)):
        domain_class, heat = policy.class_of(domain), heats.get(domain.incarnation.uuid)
        verdicts = judge(
            domain, host, domain_class.actuators, pageout_actor=policy.pageout_actor, cold_node=node
        )
        actions = tuple(rungs.propose(domain, heat, domain_class, policy, verdicts, rooms=rooms))
        for action in actions:
            if isinstance(action, DemotionAction):
                rooms[action.destination] -= action.expected_bytes
        yield _Candidate(domain, domain_class, heat, verdicts, actions)


def _in_turn(candidates: Iterable[_Candidate], policy: Policy) -> Iterator[Action]:
    """All proposals by name when proactive; under pressure, those of the idlest domains first."""

    def turn(candidate: _Candidate) -> tuple[float, str]:
        spare = sum(a.expected_bytes for a in candidate.actions)
        share = spare / candidate.domain.definition.maximum_bytes
        return -share / candidate.domain_class.weight, candidate.domain.name

    match policy.reclaim:
        case ReclaimMode.OFF:
            return
        case ReclaimMode.ON_PRESSURE:
            candidates = sorted(candidates, key=turn)
        case ReclaimMode.PROACTIVE:
            pass
    for candidate in candidates:
        yield from candidate.actions


def _limit(action: BalloonAction | PageoutAction, most: int) -> BalloonAction | PageoutAction:
    """The same action for at most ``most`` bytes."""
    if action.expected_bytes <= most:
        return action
    if isinstance(action, BalloonAction):
        # Rounding the new size up keeps it a whole number of MiB, and the gain at most what is wanted.
        surplus = -(-(action.expected_bytes - most) // MIB) * MIB
        return dataclasses.replace(
            action,
            after_bytes=action.after_bytes + surplus,
            expected_bytes=action.expected_bytes - surplus,
        )
    pieces = rungs.coldest(action.pieces, most)
    kept = sum(piece.resident_bytes for piece in pieces)
    return dataclasses.replace(
        action, pieces=pieces, after_bytes=action.before_bytes - kept, expected_bytes=kept
    )


def _within_budgets(
    actions: Iterable[Action], host: HostFacts, policy: Policy, *, missing: int | None
) -> Iterator[Action]:
    """Trim to what is ``missing`` (None: take all), and page-out to the policy's share of swap (rule S7).

    Page-out that finds no room in swap is blocked, and the next in turn is asked for what it would have
    given.
    """
    room = max(0, round(policy.swap.max_used * host.swap_total_bytes) - host.swap_used_bytes)
    for action in actions:
        if isinstance(action, DemotionAction):
            yield action
            continue
        wanted = action if missing is None else _limit(action, missing)
        if wanted.expected_bytes <= 0:
            continue
        granted = _limit(wanted, room) if isinstance(wanted, PageoutAction) else wanted
        if granted.expected_bytes < min(wanted.expected_bytes, rungs.worthwhile(0)):
            yield dataclasses.replace(
                wanted,
                blocked=f"swap budget: {format_size(host.swap_used_bytes)} of "
                f"{format_size(host.swap_total_bytes)} in use, the policy allows "
                f"{policy.swap.max_used:.0%}",
            )
            continue
        if isinstance(granted, PageoutAction):
            room -= granted.expected_bytes
        if missing is not None:
            missing -= granted.expected_bytes
        yield granted


def _domain_plan(candidate: _Candidate, actions: Iterable[Action]) -> DomainPlan:
    domain, heat = candidate.domain, candidate.heat
    bounds = rungs.bounds_of(domain, candidate.domain_class)
    actual = domain.balloon.actual_bytes if domain.balloon else bounds.ceiling_bytes
    target = next(
        (
            a.after_bytes
            for a in actions
            if isinstance(a, BalloonAction) and a.domain == domain.incarnation and not a.blocked
        ),
        actual,
    )
    return DomainPlan(
        incarnation=domain.incarnation,
        class_name=candidate.domain_class.name,
        resident_bytes=domain.residency.resident_bytes if domain.residency else None,
        swapped_bytes=domain.residency.swapped_bytes if domain.residency else None,
        hot_bytes=heat.hot_bytes if heat else None,
        warm_bytes=heat.warm_bytes if heat else None,
        cold_bytes=heat.cold_bytes if heat else None,
        wss_bytes=heat.wss_bytes if heat else None,
        idle_histogram=heat.histogram if heat else (),
        floor_bytes=bounds.floor_bytes,
        ceiling_bytes=bounds.ceiling_bytes,
        actual_bytes=actual,
        target_bytes=target,
        confidence=heat.confidence if heat else "none",
        eligible=candidate.verdicts,
        gaps=domain.gaps,
    )


def _notes(
    snapshot: Snapshot, candidates: Iterable[_Candidate], host: HostPlan, policy: Policy
) -> Iterator[str]:
    if host.promised_bytes > policy.max_overcommit * host.total_bytes:
        yield (
            f"promised {format_size(host.promised_bytes)} is more than max_overcommit "
            f"{policy.max_overcommit:g} x {format_size(host.total_bytes)}"
        )
    shortfall = host.promised_bytes - host.available_bytes - host.swap_free_bytes
    resident = sum(c.domain.residency.resident_bytes for c in candidates if c.domain.residency)
    if shortfall - resident > 0:
        yield (
            f"if every guest wanted all its memory now, {format_size(shortfall - resident)} "
            "would find room neither in memory nor in swap"
        )
    if policy.reclaim is ReclaimMode.OFF:
        yield "the policy says reclaim: off"
    elif policy.reclaim is ReclaimMode.ON_PRESSURE and host.headroom_bytes >= 0:
        yield (f"{format_size(host.headroom_bytes)} above the reserve: nothing to do on_pressure")
    if policy.cold_node is not None:
        yield from _cold_node_notes(candidates, policy.cold_node, policy.reclaim)
    for candidate in candidates:
        heat = candidate.heat
        if heat is not None and heat.cold_bytes is None:
            yield (
                f"{candidate.domain.name}: watched for {format_duration(heat.window_seconds)}, but its "
                f"class calls memory cold after {format_duration(heat.cold_after_seconds)}: no page-out"
            )
    for gap in snapshot.gaps:
        yield f"left out: {gap.what}: {gap.why}"


def _cold_node_notes(candidates: Iterable[_Candidate], node: int, mode: ReclaimMode) -> Iterator[str]:
    if mode is ReclaimMode.ON_PRESSURE:
        yield f"no memory goes to node {node} on_pressure: the host as a whole would gain nothing"
    for domain, _, heat, _, actions in candidates:
        if heat is None or heat.cold_bytes is None or domain.placement is None:
            continue
        recalled = sum(a.expected_bytes for a in actions if isinstance(a, DemotionAction))
        in_use = domain.placement.get(node, 0) - heat.cold_bytes - recalled
        if in_use >= rungs.worthwhile(domain.definition.maximum_bytes):
            yield (
                f"{domain.name}: at least {format_size(in_use)} on node {node} are not cold, and slower to "
                "reach than need be"
            )
