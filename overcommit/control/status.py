"""The status document: the host, its domains, reservations, and a running daemon's state."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from overcommit import __version__
from overcommit.control.swap_text import swap_text
from overcommit.model.facts import DomainFacts, HostFacts, Incarnation, Snapshot
from overcommit.model.heat import IdleBucket
from overcommit.model.moments import Wall
from overcommit.model.past import Past, Quarantine, Reservation
from overcommit.model.plan import HostPlan
from overcommit.model.policy import Policy
from overcommit.model.swap import SwapArea
from overcommit.plan.budget import shared_limit, zfs_text
from overcommit.plan.main_job import stopped
from overcommit.plan.planner import account
from overcommit.plan.swap_budget import filled_next, judge_swap
from overcommit.records.journal import GenerationSummary, of_boot
from overcommit.units import counted, format_size


class Mode(enum.Enum):
    """Who acts on this host."""

    MANUAL = "manual"
    """Only the verbs."""
    OBSERVE = "observe"
    """The daemon plans, and changes nothing."""
    ACTIVE = "active"
    PAUSED = "paused"
    """The daemon takes nothing, and gives memory back to short guests."""
    SAFE = "safe"
    """The daemon has lost something that it needs. It holds, then gives everything back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The daemon's state. ``reason`` says why it is in its mode, ``until`` when a pause ends (epoch).

    ``stopped`` is why page-out is stopped (`overcommit.plan.main_job`, or the mode). ``ticked_at`` and
    ``planned_at`` are the times of the last tick and plan. ``policy_refused`` is why the policy on disk is
    invalid, so that an older one is in force. ``work`` counts what was done since the start
    (`overcommit.daemon.loop`). ``swap_budget`` is what page-outs may do now: ``room_bytes``,
    ``bytes_per_second``, why it is ``spent``.
    """

    pid: int
    mode: Mode
    tick: int
    sentence: str
    reason: str | None = None
    until: Wall | None = None
    policy_refused: str | None = None
    stopped: str | None = None
    ticked_at: Wall | None = None
    planned_at: Wall | None = None
    work: Mapping[str, Any] | None = None
    swap_budget: Mapping[str, Any] | None = None


MOST_PAIN = 1000.0
"""JSON has no infinity, which is the share of a bound of 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The daemon's state of one domain. Rates are shares of the working set. None is a gap.

    ``reclaimed_bytes`` were taken and not given back; ``reclaimed_by`` splits them by actuator.
    ``outside_share`` is the share of the last day beyond the SLO. ``doing``, ``why_not`` and ``held`` are
    phrases: the current action, why nothing is taken, and why less is taken than the class says. ``faults``
    are errors with the domain (`overcommit.daemon.faults.Faults`): ``count``, the ``last`` in words, ``at``
    seconds since the epoch. ``promoted_pages`` is a counter of the domain's cgroup. The rest is of the latest
    plan.
    """

    target_bytes: int | None = None
    reclaimed_bytes: int | None = None
    promotion_rate_per_minute: float | None = None
    slo_promotion_rate_per_minute: float | None = None
    cold_after_seconds: float | None = None
    outside_share: float | None = None
    pain: float | None = None
    feels: str | None = None
    doing: str | None = None
    why_not: str | None = None
    held: str | None = None
    faults: Mapping[str, Any] | None = None
    reclaimed_by: Mapping[str, int] | None = None
    promoted_pages: int | None = None
    slo_psi_some: float | None = None
    floor_bytes: int | None = None
    ceiling_bytes: int | None = None
    wss_bytes: int | None = None
    idle_histogram: tuple[IdleBucket, ...] = ()


_UNKNOWN = Standing()
_OF_STANDINGS = tuple(field.name for field in dataclasses.fields(Standing))


def status_document(
    snapshot: Snapshot,
    policy: Policy,
    past: Past,
    generations: Iterable[GenerationSummary],
    *,
    service: Service | None = None,
    standings: Mapping[Incarnation, Standing] | None = None,
) -> dict[str, Any]:
    """The document of ``overcommitctl status``.

    Of ``generations`` it has those with something to undo now.
    """
    alive = {domain.incarnation for domain in snapshot.domains}
    in_force = [g for g in of_boot(generations, snapshot.host.boot_id) if g.outstanding]
    swap = judge_swap(snapshot.host, policy.swap)
    host = _host(snapshot, account(snapshot, policy, past)[0])
    return {
        "kind": "status",
        "mode": (service.mode if service else Mode.MANUAL).value,
        "mode_reason": service.reason if service else None,
        "mode_until": service.until if service else None,
        "sentence": service.sentence
        if service
        else f"{host['text']}; {counted(len(in_force), 'generation')} in force",
        "tick": service.tick if service else None,
        "pid": service.pid if service else None,
        "policy_source": policy.source,
        "policy_refused": service.policy_refused if service else None,
        "taken_at": snapshot.taken_at,
        "ticked_at": service.ticked_at if service else None,
        "planned_at": service.planned_at if service else None,
        "version": __version__,
        "work": service.work if service else None,
        "swap_budget": service.swap_budget if service else None,
        "stopped": service.stopped if service else stopped(snapshot.host, policy, swap),
        "host": host,
        "domains": [
            _domain(domain, policy)
            | (_standing((standings or {}).get(domain.incarnation, _UNKNOWN)) if service else {})
            for domain in snapshot.domains
        ],
        "gaps": [dataclasses.asdict(gap) for gap in snapshot.gaps],
        "reservations": [reservation_json(r) for r in past.reservations],
        "quarantines": [quarantine_json(q) for q in past.quarantines if q.domain in alive],
        "outstanding_generations": [generation.number for generation in in_force],
        "generations": [generation_json(generation) for generation in in_force],
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {name: getattr(standing, name) for name in _OF_STANDINGS} | {
        "idle_histogram": [
            {"min_idle_seconds": bucket.min_idle_seconds, "bytes": bucket.resident_bytes}
            for bucket in standing.idle_histogram
        ]
    }


def generation_json(generation: GenerationSummary) -> dict[str, Any]:
    """What is still changed of a generation, as JSON."""
    return {
        "number": generation.number,
        "command": generation.command,
        "changes": generation.outstanding,
    }


def reservation_json(reservation: Reservation) -> dict[str, Any]:
    """A reservation as JSON."""
    return {
        "id": reservation.id,
        "for": reservation.purpose,
        "size_bytes": reservation.size_bytes,
        "expires_at": reservation.expires_at,
    }


def quarantine_json(quarantine: Quarantine) -> dict[str, Any]:
    """A quarantine as JSON."""
    return {
        "domain": quarantine.domain.name,
        "uuid": quarantine.domain.uuid,
        "actuator": quarantine.actuator.value,
        "reason": quarantine.reason,
        "until": quarantine.until,
    }


def _host(snapshot: Snapshot, plan: HostPlan) -> dict[str, Any]:
    host, limit = snapshot.host, shared_limit(snapshot.domains)
    return {
        "name": host.name,
        "kernel": host.kernel,
        "total_bytes": host.total_bytes,
        "available_bytes": plan.available_bytes,
        "mem_available_bytes": host.mem_available_bytes,
        "arc_bytes": plan.budget.arc_bytes,
        "free_now_bytes": plan.budget.free_now_bytes,
        "promised_bytes": plan.promised_bytes,
        "reserve_bytes": plan.reserve_bytes,
        "reserved_bytes": plan.reserved_bytes,
        "headroom_bytes": plan.headroom_bytes,
        "swap_total_bytes": host.swap_total_bytes,
        "swap_used_bytes": host.swap_used_bytes,
        "zram_used_bytes": host.zram_used_bytes,
        "swap": [_swap(area, host) for area in host.swap],
        "huge_pages_bytes": host.huge_pages.total_bytes if host.huge_pages else None,
        "slice_limit": dataclasses.asdict(limit) if limit else None,
        "psi_some_avg60": host.pressure.some_avg60 if host.pressure else None,
        "text": _host_text(host, plan),
    }


def _host_text(host: HostFacts, plan: HostPlan) -> str:
    headroom = plan.headroom_bytes
    kept = f"reserve of {format_size(plan.reserve_bytes)}"
    if plan.reserved_bytes:
        kept += f" and {format_size(plan.reserved_bytes)} reserved"
    return (
        f"{host.name}: {counted(plan.running_domains, 'domain')}, "
        f"{format_size(plan.promised_bytes)} promised of {format_size(host.total_bytes)}, "
        f"{format_size(plan.available_bytes)} available"
        f"{zfs_text(plan.budget)}, swap "
        f"{format_size(host.swap_used_bytes)} of {format_size(host.swap_total_bytes)}, "
        f"{format_size(abs(headroom))} {'above' if headroom >= 0 else 'BELOW'} the {kept}"
    )


def _swap(area: SwapArea, host: HostFacts) -> dict[str, Any]:
    return {
        "path": area.path,
        "kind": area.kind.value,
        "behind_zswap": area.on_disk and host.zswap is not None and host.zswap.enabled,
        "priority": area.priority,
        "filled_next": area in filled_next(host.swap),
        "size_bytes": area.size_bytes,
        "used_bytes": area.used_bytes,
        "encrypted": area.encrypted,
        "device": dataclasses.asdict(area.device) if area.device else None,
        "pool": dataclasses.asdict(area.pool) if area.pool else None,
        "pool_limit_bytes": area.pool_limit_bytes,
        "text": swap_text(area, host),
    }


def _domain(domain: DomainFacts, policy: Policy) -> dict[str, Any]:
    cgroup, residency = domain.cgroup, domain.residency
    pressure = cgroup.pressure if cgroup else None
    return {
        "name": domain.name,
        "uuid": domain.incarnation.uuid,
        "pid": domain.incarnation.pid,
        "class": policy.class_of(domain).name,
        "state": domain.state.value,
        "busy_with": domain.busy_with,
        "maximum_bytes": domain.definition.maximum_bytes,
        "actual_bytes": domain.balloon.actual_bytes if domain.balloon else None,
        "plugged_bytes": domain.definition.plugged_bytes,
        "usable_bytes": domain.balloon.usable_bytes if domain.balloon else None,
        "resident_bytes": residency.resident_bytes if residency else None,
        "swapped_bytes": residency.swapped_bytes if residency else None,
        "placement_bytes": dict(domain.placement) if domain.placement is not None else None,
        "cgroup_bytes": cgroup.current_bytes if cgroup else None,
        "overhead_bytes": domain.overhead_bytes,
        "cgroup_swap_bytes": cgroup.swap_bytes if cgroup else None,
        "major_faults": cgroup.major_faults if cgroup else None,
        "psi_some_avg60": pressure.some_avg60 if pressure else None,
        "gaps": [{"what": g.what, "why": g.why} for g in domain.gaps],
    }
