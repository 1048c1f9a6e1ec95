"""What a plan of the daemon's rests on beside the snapshot, domain by domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from overcommit.classify.idle import judge_host
from overcommit.daemon.faults import Boundary
from overcommit.daemon.followed import Followed
from overcommit.daemon.watching import Watching
from overcommit.model.facts import DomainFacts, HostFacts, Incarnation, Snapshot
from overcommit.model.heat import Heat, HostHeat
from overcommit.model.past import Past
from overcommit.model.policy import Policy
from overcommit.model.restraint import Restraint
from overcommit.plan.budget import room_of
from overcommit.plan.emergency import is_emergency
from overcommit.plan.isolating import without_spoilers


class Judged(NamedTuple):
    """What of each domain is cold, by UUID, how firmly it may be held, and what hurts it, in words.

    The latter of the guests that say so while we have memory of theirs.
    """

    heats: Mapping[str, Heat]
    restraints: Mapping[Incarnation, Restraint]
    pains: Mapping[Incarnation, str]


def judge_all(
    followed: Mapping[Incarnation, Followed],
    watching: Watching,
    policy: Policy,
    boundary: Boundary,
    past: Past,
    *,
    wanted_for: str | None,
    boldly: bool,
) -> Judged:
    """Each domain by what its monitor saw; memory is ``wanted_for`` the one of that name."""
    heats: dict[str, Heat] = {}
    restraints: dict[Incarnation, Restraint] = {}
    pains: dict[Incarnation, str] = {}
    for who, each in followed.items():
        with boundary.around(who):
            restraints[who] = each.restraint
            if past.taken_from(who) and (pain := each.suffers) is not None:
                pains[who] = pain
            heat = each.judge(watching.idle(who), policy, boldly=boldly)
            if heat is not None:
                heats[who.uuid] = heat
        why_not = boundary.why_not(who)
        if wanted_for == who.name:
            why_not = "memory is being reserved for it"
        if why_not is not None:
            restraints[who] = dataclasses.replace(each.grip.restraint, why_not=why_not)
    return Judged(heats, restraints, pains)


def knows_cold_now(followed: Mapping[Incarnation, Followed], watching: Watching) -> bool:
    """Whether a domain was watched for too short a time when all was planned, and is not any more."""
    for who, each in followed.items():
        heat = each.heat
        if heat is None or heat.cold_bytes is not None:
            continue
        idle = watching.idle(who)
        if idle is not None and idle.window_seconds >= heat.cold_after_seconds:
            return True
    return False


def emergency_now(snapshot: Snapshot, policy: Policy, *, before: bool, stalled: bool) -> bool:
    """See `is_emergency`; by the domains that can be counted."""

    def emergency(domains: Sequence[DomainFacts]) -> bool:
        among = dataclasses.replace(snapshot, domains=tuple(domains))
        return is_emergency(among, policy, before=before, stalled=stalled)

    return without_spoilers(snapshot.domains, emergency)[0]


def is_short(host: HostFacts, domains: Sequence[DomainFacts], policy: Policy) -> bool:
    """Whether guests can have less than the reserve, by the domains that can be counted."""
    room, _ = without_spoilers(domains, lambda counted: room_of(host, counted))
    return room.available_bytes < policy.reserve * host.total_bytes


def host_heat(watching: Watching, host: HostFacts, policy: Policy) -> HostHeat | None:
    """What of the host's memory is idle; None: it is not watched."""
    if watching.host is None:
        return None
    idle_after = policy.classes[policy.default_class].cold_after_seconds
    return judge_host(watching.host, lru_bytes=host.lru_bytes, idle_after=idle_after)
