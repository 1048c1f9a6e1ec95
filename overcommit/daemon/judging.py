"""Collects what a plan of the daemon needs beside the snapshot, per domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overcommit.classify.page_ages import with_page_ages
from overcommit.control.planning import Evidence
from overcommit.daemon.faults import Boundary
from overcommit.daemon.tracked_domain import TrackedDomain
from overcommit.daemon.watching import Watching
from overcommit.model.facts import DomainFacts, HostFacts, Incarnation, Snapshot
from overcommit.model.heat import Heat
from overcommit.model.past import Past
from overcommit.model.policy import Actuator, Policy
from overcommit.model.restraint import Restraint
from overcommit.observe.ageing import interval_for
from overcommit.plan.budget import room_of
from overcommit.plan.emergency import is_emergency
from overcommit.plan.feedback import Feedback
from overcommit.plan.isolation import without_failed_domains
from overcommit.plan.swap_budget import SwapVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The conditions that apply to all domains. Memory is ``wanted_for`` the domain of that name.

    ``swap`` is what page-outs may do. In an ``emergency`` no domain is exempt because of its SLO.
    """

    policy: Policy
    past: Past
    wanted_for: str | None
    swap: SwapVerdict | None
    emergency: bool


def evidence_of(
    tracked: Mapping[Incarnation, TrackedDomain],
    watching: Watching,
    boundary: Boundary,
    terms: Terms,
) -> Evidence:
    """The evidence of each domain, from its monitor."""
    heats: dict[str, Heat] = {}
    restraints: dict[Incarnation, Restraint] = {}
    pains: dict[Incarnation, str] = {}
    for incarnation, each in tracked.items():
        with boundary.around(incarnation):
            restraints[incarnation] = each.restraint
            if terms.past.taken_from(incarnation) and (pain := each.suffers) is not None:
                pains[incarnation] = pain
            heat = each.judge(watching.idle(incarnation), terms.policy, boldly=terms.emergency)
            if heat is not None:
                heats[incarnation.uuid] = heat
        why_not = boundary.why_not(incarnation)
        if terms.wanted_for == incarnation.name:
            why_not = "memory is being freed for it"
        if why_not is not None:
            restraints[incarnation] = dataclasses.replace(each.throttle.restraint, why_not=why_not)
    return Evidence(
        heats=with_page_ages(heats, watching.ages),
        host_idle=watching.host,
        feedback=Feedback(restraints=restraints, pains=pains, swap=terms.swap, emergency=terms.emergency),
    )


def paged_out(domains: Sequence[DomainFacts], policy: Policy) -> list[tuple[DomainFacts, float]]:
    """Those whose class allows page-out, each with the seconds between two walks of its page tables."""
    found = []
    for domain in domains:
        of = policy.class_of(domain)
        if Actuator.PAGEOUT in of.actuators:
            found.append((domain, interval_for(of.cold_after_seconds)))
    return found


def knows_cold_now(tracked: Mapping[Incarnation, TrackedDomain], watching: Watching) -> bool:
    """Whether a domain that was watched for too short a time at the last plan no longer is."""
    for incarnation, each in tracked.items():
        heat = each.heat
        if heat is None or heat.cold_bytes is not None:
            continue
        idle = watching.idle(incarnation)
        if idle is not None and idle.window_seconds >= heat.cold_after_seconds:
            return True
    return False


def emergency_now(snapshot: Snapshot, policy: Policy, *, before: bool, stalled: bool) -> bool:
    """See `is_emergency`. Domains that cannot be counted are left out."""

    def emergency(domains: Sequence[DomainFacts]) -> bool:
        among = dataclasses.replace(snapshot, domains=tuple(domains))
        return is_emergency(among, policy, before=before, stalled=stalled)

    return without_failed_domains(snapshot.domains, emergency)[0]


def is_short(host: HostFacts, domains: Sequence[DomainFacts], policy: Policy) -> bool:
    """Whether guests can get less than the reserve. Domains that cannot be counted are left out."""
    room, _ = without_failed_domains(domains, lambda counted: room_of(host, counted))
    return room.available_bytes < policy.reserve * host.total_bytes
