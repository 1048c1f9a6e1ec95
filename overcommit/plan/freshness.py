"""Checks that a plan still describes this host. It is applied exactly or refused (rule S12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from overcommit.errors import StalePlan
from overcommit.model.action import (
    BalloonAction,
    DemotionAction,
    DomainAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
    guest_help_of,
    kind_of,
    name_of,
)
from overcommit.model.facts import DomainFacts, HostFacts, Incarnation, Snapshot
from overcommit.model.moments import Wall
from overcommit.model.part import MemoryPart
from overcommit.model.past import NOTHING_PAST, Past
from overcommit.model.plan import DomainPlan, Plan, refusal
from overcommit.model.policy import Policy
from overcommit.plan.authority import excesses
from overcommit.plan.case import bounds_of, guest_bytes, room_on, used_bytes, worthwhile
from overcommit.plan.eligibility import judge, judge_help, judge_return
from overcommit.plan.planner import LIFETIME_SECONDS
from overcommit.plan.rungs.ksm import obstacle
from overcommit.plan.rungs.reporting import held_free
from overcommit.plan.swap_budget import judge_swap
from overcommit.plan.vetoes import quarantined
from overcommit.units import MIB, format_duration, format_size

_AHEAD_SECONDS = 30.0
"""Tolerance for a clock that was set back a little."""
_NO_DEVICE = refusal("its virtio-mem device is gone", "")


def require_fresh(plan: Plan, now: Snapshot, policy: Policy, past: Past = NOTHING_PAST) -> None:
    """Check that every action may still be carried out as written.

    ``now`` and ``past`` are of the same moment.

    Raises:
        StalePlan: something changed since, or an action does more than a plan made now could; it is named.
    """
    if not plan.addresses:
        raise StalePlan(
            "the plan has no addresses, because its user may not see them",
            hint="nothing was changed; make a new plan as root",
        )
    for what in _changes(plan, now, policy, past.by_domain()):
        raise StalePlan(f"the plan is stale: {what}", hint="nothing was changed; plan again")
    for what in excesses(plan.runnable, now, policy, past):
        raise StalePlan(f"the plan goes too far: {what}", hint="nothing was changed; plan again")


def _changes(plan: Plan, now: Snapshot, policy: Policy, pasts: Mapping[Incarnation, Past]) -> list[str]:
    if out_of_date := _out_of_date(plan, now, policy):
        return [out_of_date]
    by_uuid = {domain.incarnation.uuid: domain for domain in now.domains}
    names = {domain.name for domain in now.domains}
    planned = {domain.incarnation: domain for domain in plan.domains}
    changes = []
    for action in plan.runnable:
        if isinstance(action, KsmAction):
            changes += [f"KSM can no longer be started: {reason}"] if (reason := obstacle(now)) else []
            continue
        name = action.domain.name
        domain = by_uuid.get(action.domain.uuid)
        if domain is None:
            anew = (
                "was redefined since then: it has another UUID"
                if name in names
                else "is not running any more"
            )
            changes.append(f"domain {name} {anew}")
            continue
        if domain.incarnation != action.domain:
            changes.append(f"domain {name} was restarted since")
            continue
        if isinstance(action, VirtioMemAction | BalloonAction) and action.relieves:
            changes += _relief_changes(action, plan, domain)
            continue
        changes += _class_changes(action, planned[action.domain], domain, policy)
        changes += _domain_changes(action, plan, domain, now.host)
        changes += _barred(action, domain, now.taken_at, pasts.get(domain.incarnation, NOTHING_PAST))
    swapping = sum(a.expected_bytes for a in plan.runnable if isinstance(a, PageoutAction))
    swap = judge_swap(now.host, policy.swap)
    if swapping > swap.room_bytes:
        changes.append(f"swap has room for only {format_size(swap.room_bytes)} now: {swap.bound}")
    moves = [a for a in plan.runnable if isinstance(a, DemotionAction)]
    for node in sorted({a.destination for a in moves}):
        arriving = sum(a.expected_bytes for a in moves if a.destination == node)
        if (room := room_on(now.host, node)) < arriving:
            changes.append(f"memory node {node} has filled: {format_size(room)} can be moved there")
    return changes


def _out_of_date(plan: Plan, now: Snapshot, policy: Policy) -> str | None:
    """Why the plan as a whole is for another host, time or policy; None: it is not."""
    if plan.host.boot_id != now.host.boot_id:
        return "it was made on another host, or before this one rebooted"
    if (
        plan.expires_at > plan.created_at + LIFETIME_SECONDS
        or plan.created_at > now.taken_at + _AHEAD_SECONDS
    ):
        return "its times are not valid"
    if plan.emergency:
        return "it was made for an emergency of the host at that time"
    if now.taken_at > plan.expires_at:
        return f"it expired {now.taken_at - plan.expires_at:.0f} s ago"
    if plan.policy_digest != policy.digest:
        return f"the policy {policy.source} is not the one it was made with ({plan.policy_source})"
    return None


def _barred(action: DomainAction, domain: DomainFacts, now: Wall, past: Past) -> list[str]:
    """Reasons in the domain's past since the plan. They do not bar giving memory back."""
    veto = quarantined(domain, now, past).get(kind_of(action))
    return [f"the {name_of(action)} of domain {domain.name} is {veto.reason}"] if veto else []


def _relief_changes(
    action: VirtioMemAction | BalloonAction, plan: Plan, domain: DomainFacts
) -> Iterator[str]:
    """Reasons against giving memory back: fewer than against taking, and none of the class."""
    verdict = judge_return(domain)[kind_of(action)]
    if isinstance(action, VirtioMemAction) and domain.definition.device(action.device) is None:
        verdict = _NO_DEVICE
    if not verdict.ok:
        yield f"domain {domain.name} is no longer eligible for {name_of(action)}: {verdict.reason}"
        return
    yield from _guest_changes(action, plan, domain)


def _class_changes(
    action: DomainAction, planned: DomainPlan, domain: DomainFacts, policy: Policy
) -> list[str]:
    """Changes by the domain's labels or size. The policy itself is the same."""
    of, name = policy.class_of(domain), domain.name
    bounds = bounds_of(domain, of)
    if bounds != (planned.floor_bytes, planned.ceiling_bytes) or of.name != planned.class_name:
        was = f"{planned.class_name} with {format_size(planned.floor_bytes)}"
        floor = format_size(bounds.floor_bytes)
        return [f"domain {name} is of class {of.name} with a floor of {floor} now, not of {was}"]
    if kind_of(action) not in of.actuators:
        return [f"domain {name} may no longer be given to {kind_of(action).value}"]
    if (inside := guest_help_of(action)) is not None and inside not in of.guest_help:
        return [f"the policy no longer allows {inside.value} inside of domain {name}"]
    if isinstance(action, PageoutAction) and action.cold_after_seconds < of.cold_after_seconds:
        return [f"memory of domain {name} is cold only after {format_duration(of.cold_after_seconds)} now"]
    return []


def _domain_changes(action: DomainAction, plan: Plan, domain: DomainFacts, host: HostFacts) -> list[str]:
    """Changes of a domain in the incarnation of the plan."""
    kind = kind_of(action)
    actor = action.actor if isinstance(action, PageoutAction) else None
    node = action.node if isinstance(action, DemotionAction) else None
    verdicts = judge(domain, host, frozenset({kind}), pageout_actor=actor, cold_node=node)
    verdict = verdicts.get(kind, _NO_DEVICE)
    helped = guest_help_of(action)
    if helped is not None:
        verdict = judge_help(domain, frozenset({helped}), verdict)[helped]
    if not verdict.ok:
        return [f"domain {domain.name} is no longer eligible for {name_of(action)}: {verdict.reason}"]
    little = worthwhile(domain.definition.maximum_bytes)
    match action:
        case GuestReclaimAction():
            on = domain.agent is not None and domain.agent.reclaims
            return [f"the guest of domain {domain.name} already reclaims by itself"] if on else []
        case ReportingAction(expected_bytes=expected):
            left = held_free(domain)
            if left >= expected - little:
                return []
            return [f"domain {domain.name} has less to give: the host holds {format_size(left)} free in it"]
        case VirtioMemAction() | BalloonAction():
            return list(_guest_changes(action, plan, domain))
        case DemotionAction(node=node, before_bytes=before, recall_to=recall_to):
            there = domain.placement.get(node, 0) if domain.placement else 0
            more = there - before
            if (more if recall_to is None else -more) <= little:
                return []
            what = f"{format_size(there)} on memory node {node}"
        case PageoutAction(before_bytes=before):
            resident = domain.residency.resident_bytes if domain.residency else before
            if resident >= before - little:
                return []
            what = f"{format_size(resident)} resident"
    return [f"domain {domain.name} has less to give: {what} instead of {format_size(before)}"]


def _guest_changes(action: VirtioMemAction | BalloonAction, plan: Plan, domain: DomainFacts) -> Iterator[str]:
    """Changes of the guest's memory, and of how much of it the guest needs."""
    name, stats, definition = action.domain.name, domain.balloon, domain.definition
    if stats is None:
        return
    part, actual = MemoryPart(action.domain), stats.actual_bytes
    if isinstance(action, VirtioMemAction):
        device = definition.device(action.device)
        part, actual = MemoryPart(action.domain, action.device), device.current_bytes if device else 0
    if abs(actual - action.before_bytes) > MIB:
        before = format_size(action.before_bytes)
        yield f"the {part.what} of domain {name} was moved since, from {before} to {format_size(actual)}"
        return
    used = used_bytes(definition, stats)
    planned = guest_bytes(definition, stats) + plan.change_of(action.domain)
    if not action.relieves and used > planned:
        yield f"domain {name} now uses {format_size(used)}, more than the {format_size(planned)} planned"
