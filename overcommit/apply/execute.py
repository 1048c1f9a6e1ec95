"""Carry out a plan: refuse early, cheapest rung first, verify each step, report what the host got."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from overcommit.apply.balloon import move_balloon
from overcommit.apply.demotion import demote
from overcommit.apply.guest_reclaim import reclaim_inside
from overcommit.apply.ksm import start_merging
from overcommit.apply.pageout import page_out
from overcommit.apply.reporting import compact_inside
from overcommit.apply.virtio_mem import resize
from overcommit.apply.worksite import Worksite
from overcommit.damon.pool import DamonPool
from overcommit.host.memory import read_host
from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
)
from overcommit.model.facts import Snapshot
from overcommit.model.outcome import HostBalance, Outcome, Report
from overcommit.model.plan import Plan

_SETTLE_SECONDS = 2.0
"""Between what guests give themselves and page-out, so that each counter belongs to one mechanism only."""


def carry_out(
    site: Worksite,
    pool: DamonPool,
    plan: Plan,
    snapshot: Snapshot,
    *,
    take_over: bool,
    started: Callable[[Action], None],
    finished: Callable[[Outcome], None],
) -> Report:
    """Do the plan's actions that are not blocked, one after another.

    ``snapshot`` is of now, and the plan was found fresh against it. DAMON is claimed before anything is
    changed, so that a refusal leaves nothing behind.

    Raises:
        Conflict: DAMON belongs to somebody else.
        HostError: the journal cannot be written.
    """
    facts = {domain.incarnation: domain for domain in snapshot.domains}
    if plan.needs_damon:
        pool.claim(1, take_over=take_over)
    outcomes: list[Outcome] = []
    for action in _in_order(site, plan):
        started(action)
        match action:
            case ReportingAction():
                outcome = compact_inside(site, action, facts[action.domain])
            case GuestReclaimAction():
                outcome = reclaim_inside(site, action, facts[action.domain])
            case VirtioMemAction():
                outcome = resize(site, action, facts[action.domain])
            case BalloonAction():
                outcome = move_balloon(site, action, facts[action.domain])
            case DemotionAction():
                outcome = demote(site, pool, action, facts[action.domain])
            case PageoutAction():
                outcome = page_out(site, pool, action, facts[action.domain])
            case KsmAction():
                outcome = start_merging(site, action)
        outcomes.append(outcome)
        finished(outcome)
    before, after = snapshot.host, read_host(site.kernel)
    return Report(
        generation=site.generation.number,
        outcomes=tuple(outcomes),
        balance=HostBalance(
            available_before_bytes=before.available_bytes,
            available_after_bytes=after.available_bytes,
            swap_used_before_bytes=before.swap_used_bytes,
            swap_used_after_bytes=after.swap_used_bytes,
            zram_before_bytes=before.zram_used_bytes,
            zram_after_bytes=after.zram_used_bytes,
        ),
    )


def _in_order(site: Worksite, plan: Plan) -> Iterator[Action]:
    given = False
    for action in plan.runnable:
        if isinstance(action, VirtioMemAction | BalloonAction):
            given = True
        elif given:
            site.clock.wait(_SETTLE_SECONDS)
            given = False
        yield action
