"""The controller's state of each domain, for the status."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from overcommit.control.status import MOST_PAIN, Standing
from overcommit.daemon.acting import Acting
from overcommit.daemon.faults import Boundary
from overcommit.daemon.state import DomainState
from overcommit.daemon.tracked_domain import TrackedDomain
from overcommit.model.action import name_of
from overcommit.model.facts import Incarnation
from overcommit.model.pain import COMFORT
from overcommit.model.past import Past
from overcommit.model.plan import DomainPlan, Plan
from overcommit.units import PAGE_SIZE


def domain_states(
    tracked: Mapping[Incarnation, TrackedDomain],
    boundary: Boundary,
    acting: Acting,
    past: Past,
    plan: Plan | None,
) -> dict[Incarnation, DomainState]:
    """The state of each tracked domain. If that fails for a domain, its state is the error."""
    plans = {domain.incarnation: domain for domain in plan.domains} if plan else {}
    stops = plan is not None and plan.stopped is not None
    states = {}
    for incarnation, each in tracked.items():
        standing = Standing()
        with boundary.around(incarnation):
            standing = dataclasses.replace(
                _standing(each, plans.get(incarnation), stops=stops),
                reclaimed_bytes=_swapped(each) + past.taken_from(incarnation),
                reclaimed_by={"swap": _swapped(each), **past.taken_by(incarnation)},
                doing=name_of(doing) if (doing := acting.of(incarnation)) else None,
            )
        rests = boundary.why_not(incarnation)
        standing = dataclasses.replace(
            standing, why_not=rests or standing.why_not, faults=_faults(boundary, incarnation)
        )
        states[incarnation] = DomainState(
            standing=standing,
            rests=each.throttle.why_not is not None,
            hurt=each.throttle.why_not if each.throttle.rested_seconds is not None else None,
            faulty=rests is not None,
        )
    return states


def _standing(tracked: TrackedDomain, planned: DomainPlan | None, *, stops: bool) -> Standing:
    """Its SLO figures and limits. ``stops``: nothing is taken from any domain."""
    throttle, heat = tracked.throttle, tracked.heat
    working_set = heat.wss_bytes if heat else None
    promoted = throttle.slo_state.promoted
    rate = None
    if promoted is not None and working_set:
        rate = promoted.total * PAGE_SIZE / working_set
    pain, worst = throttle.pain, throttle.worst
    restraint, cgroup = tracked.restraint, tracked.tick_reading.cgroup if tracked.tick_reading else None
    return Standing(
        target_bytes=planned.target_bytes if planned else None,
        floor_bytes=planned.floor_bytes if planned else None,
        ceiling_bytes=planned.ceiling_bytes if planned else None,
        wss_bytes=working_set,
        idle_histogram=heat.histogram if heat else (),
        promoted_pages=cgroup.promoted_pages if cgroup else None,
        slo_psi_some=throttle.domain_class.objective.psi_some,
        promotion_rate_per_minute=rate,
        slo_promotion_rate_per_minute=throttle.domain_class.objective.promotions_per_minute,
        cold_after_seconds=restraint.cold_after_seconds,
        outside_share=throttle.outside_share,
        pain=None if pain is None else min(pain, MOST_PAIN),
        feels=worst.text if worst is not None and worst.pain > COMFORT else None,
        why_not=restraint.why_not,
        held=restraint.sentence if throttle.throttled and restraint.why_not is None and not stops else None,
    )


def _swapped(tracked: TrackedDomain) -> int:
    residency = tracked.domain.residency
    return residency.swapped_bytes if residency else 0


def _faults(boundary: Boundary, incarnation: Incarnation) -> dict[str, Any] | None:
    faults = boundary.of(incarnation)
    return {"count": faults.count, "last": faults.last, "at": faults.at} if faults else None
