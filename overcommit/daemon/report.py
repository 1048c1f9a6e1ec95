"""What a tick comes to: one sentence, and the status document."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

from overcommit.control.one_controller import Control
from overcommit.control.status import Mode, Service, Standing, status_document
from overcommit.daemon.controller import Controller
from overcommit.daemon.followed import Followed
from overcommit.model.action import name_of, subject_of
from overcommit.model.facts import Incarnation
from overcommit.model.plan import HostPlan
from overcommit.model.policy import ReclaimMode
from overcommit.plan.main_job import briefly
from overcommit.units import PAGE_SIZE

_MOST_NAMED = 3


def sentence_of(controller: Controller, now: float) -> str:
    """Where it stands, without figures that change all the time: it is logged when it is another one."""
    return "; ".join(_parts(controller, now))


def _parts(controller: Controller, now: float) -> Iterator[str]:
    mode = controller.footing.mode(now)
    reason = controller.footing.reason(now)
    why = stopped_by(controller, now) if mode is Mode.ACTIVE else None
    if why is not None:
        yield briefly(why)
    yield f"{mode.value}: {reason}" if reason else mode.value
    if controller.emergency:
        yield "EMERGENCY: less than half of the reserve is left"
    plan = controller.plan
    if plan is None:
        yield "nothing could be looked at yet"
        return
    yield f"{len(controller.followed)} domain(s)"
    at_work = [f"{name_of(action)} {subject_of(action)}" for action in controller.acting.actions]
    if at_work:
        yield f"at work: {_some(at_work)}"
    if mode is Mode.OBSERVE and plan.runnable:
        yield f"would: {_some([f'{name_of(a)} {subject_of(a)}' for a in plan.runnable])}"
    resting = [who.name for who, f in controller.followed.items() if f.grip.why_not]
    if resting:
        yield f"resting: {_some(sorted(resting))}"
    faulty = [who.name for who in controller.followed if controller.boundary.why_not(who)]
    if faulty:
        yield f"left alone, for something went wrong with it: {_some(sorted(faulty))}"
    if controller.wanted is not None:
        yield "frees memory for a reservation"
    if _below_reserve(controller, plan.host) and not controller.emergency:
        yield "the host is below its reserve"
    if controller.policy.reclaim is ReclaimMode.OFF and why is None:
        yield "the policy says reclaim: off"
    if controller.policy_file.refused:
        yield "the policy on disk is refused, the old one stays"


def _below_reserve(controller: Controller, host: HostPlan) -> bool:
    """Whether the host is; a plan for somebody who waits for memory counts what he was not promised."""
    promised = min(host.reserved_bytes, sum(each.size_bytes for each in controller.past.reservations))
    return host.available_bytes < host.reserve_bytes + promised


def stopped_by(controller: Controller, now: float) -> str | None:
    """What stops the main job, the daemon's own mode first; None: nothing does."""
    plan = controller.plan
    return controller.footing.why_not(now) or (plan.stopped if plan else None)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def status_of(controller: Controller, control: Control, sentence: str) -> Callable[[], dict[str, Any]] | None:
    """What makes the status document of how it is now, at any time and in any thread.

    None before anything was looked at.
    """
    if controller.snapshot is None:
        return None
    now, wall = control.clock.monotonic(), control.clock.now()
    mode, until = controller.footing.mode(now), controller.footing.paused_until
    service = Service(
        pid=os.getpid(),
        mode=mode,
        tick=controller.ticks,
        sentence=sentence,
        reason=controller.footing.reason(now),
        until=wall + until - now if mode is Mode.PAUSED and until is not None and until < math.inf else None,
        stopped=stopped_by(controller, now),
        ticked_at=wall,
        policy_refused=controller.policy_file.refused,
    )
    planned = controller.plan.domains if controller.plan else ()
    targets = {domain.incarnation: domain.target_bytes for domain in planned}
    standings = {}
    for who, followed in controller.followed.items():
        with controller.boundary.around(who):
            standings[who] = _standing(controller, who, followed, target_bytes=targets.get(who))
        if who not in standings:
            rests = controller.boundary.why_not(who)
            standings[who] = Standing(why_not=rests, faults=_faults(controller, who))
    return functools.partial(
        status_document,
        controller.snapshot,
        controller.policy,
        controller.past,
        controller.generations,
        service=service,
        standings=standings,
    )


def _standing(
    controller: Controller, who: Incarnation, followed: Followed, *, target_bytes: int | None
) -> Standing:
    grip, heat, domain = followed.grip, followed.heat, followed.domain
    working_set = heat.wss_bytes if heat else None
    promoted = grip.felt.promoted
    rate = None
    if promoted is not None and working_set:
        rate = promoted.total * PAGE_SIZE / working_set
    swapped = domain.residency.swapped_bytes if domain.residency else 0
    doing, restraint = controller.acting.of(who), followed.restraint
    stops = controller.plan is not None and controller.plan.stopped is not None
    return Standing(
        target_bytes=target_bytes,
        reclaimed_bytes=swapped + controller.past.taken_from(who),
        promotion_rate_per_minute=rate,
        slo_promotion_rate_per_minute=grip.domain_class.objective.promotions_per_minute,
        cold_after_seconds=restraint.cold_after_seconds,
        outside_share=grip.outside_share,
        doing=name_of(doing) if doing else None,
        why_not=controller.boundary.why_not(who) or restraint.why_not,
        held=restraint.sentence if grip.firmer and restraint.why_not is None and not stops else None,
        faults=_faults(controller, who),
    )


def _faults(controller: Controller, who: Incarnation) -> dict[str, Any] | None:
    faults = controller.boundary.of(who)
    return {"count": faults.count, "last": faults.last, "at": faults.at} if faults else None
