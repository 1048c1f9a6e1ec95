"""Domains that read back from swap more than their class allows, by two snapshots. Pure.

This is what a command knows of the effects of an earlier one: a page taken wrongly comes back seconds after
the page-out has ended. The daemon measures it all the time (`overcommit.slo`).
"""

from __future__ import annotations

from collections.abc import Mapping

from overcommit.model.facts import Incarnation, Snapshot
from overcommit.model.heat import Heat
from overcommit.model.pain import PainBounds
from overcommit.model.policy import Policy
from overcommit.model.restraint import Restraint
from overcommit.units import format_duration

_MINUTE = 60.0


def held_for_reading_back(
    first: Snapshot, now: Snapshot, heats: Mapping[str, Heat], policy: Policy
) -> dict[Incarnation, Restraint]:
    """Restraints of the domains of which more came back between the snapshots than is allowed.

    The bound is of a minute, also where less time passed: a burst counts once. What comes back because swap
    is being turned off is no domain's need.
    """
    seconds = now.taken_at - first.taken_at
    if seconds <= 0 or now.host.swap_leaving_bytes:
        return {}
    before = {domain.incarnation: domain.cgroup for domain in first.domains}
    held: dict[Incarnation, Restraint] = {}
    for domain in now.domains:
        then = before.get(domain.incarnation)
        if then is None or domain.cgroup is None:
            continue
        pages = domain.cgroup.promoted_pages - then.promoted_pages
        of, heat = policy.class_of(domain), heats.get(domain.incarnation.uuid)
        working_set = (heat.wss_bytes or 0) if heat else 0
        bounds = PainBounds.of(of.objective.psi_some, of.objective.promotions_per_minute, working_set)
        if pages <= bounds.promoted_pages_per_minute * max(1.0, seconds / _MINUTE):
            continue
        why = (
            f"{pages} pages were read back from swap in {format_duration(seconds)}, its class allows "
            f"{bounds.promoted_pages_per_minute:.0f} a minute"
        )
        held[domain.incarnation] = Restraint(
            cold_after_seconds=of.cold_after_seconds, step_share=1.0, why_not=why, sentence=why
        )
    return held
