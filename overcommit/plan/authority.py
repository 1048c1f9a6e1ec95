"""Checks that an action stays within what the policy and the host allow now. Pure.

Rules S12 and S13: a plan is a file, and its author is not trusted. Each bound that the planner applies is
checked again with the present facts: floor and ceiling, the class's step, what a guest needs by its own
figures, and the actor, place, rate and SLO of a page-out. An action that does less than the planner would is
accepted. The daemon checks its own plans in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    DomainAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
    frees,
)
from overcommit.model.facts import DomainFacts, Incarnation, Snapshot
from overcommit.model.guest_reserve import guest_reserve, short_below
from overcommit.model.heat import ColdPiece
from overcommit.model.part import MemoryPart
from overcommit.model.past import NOTHING_PAST, Past
from overcommit.model.policy import DomainClass, Policy, ReclaimMode
from overcommit.model.ranges import Range, intersect, total_size
from overcommit.plan.case import bounds_of, guest_bytes, used_bytes, worthwhile
from overcommit.plan.emergency import emergency_policy
from overcommit.plan.planner import account
from overcommit.plan.rungs.ksm import foreign_settings, may_start
from overcommit.plan.rungs.pageout import suitable_actors
from overcommit.units import format_duration, format_ratio, format_size


def excesses(
    actions: Sequence[Action],
    now: Snapshot,
    policy: Policy,
    past: Past = NOTHING_PAST,
    *,
    emergency: bool = False,
) -> Iterator[str]:
    """The sentences that say how actions exceed their bounds; each names the domain.

    ``actions`` must be all of one plan, because what a class or the host allows applies to all together.
    Domains that are not in ``now`` are not checked. In an ``emergency`` no step bounds what is taken from a
    domain.
    """
    policy = emergency_policy(policy) if emergency else policy
    pasts = past.by_domain()
    short = account(now, policy, past)[0].short_bytes
    of_domains: dict[Incarnation, list[DomainAction]] = {}
    for action in actions:
        if not isinstance(action, KsmAction):
            of_domains.setdefault(action.domain, []).append(action)
    for domain in now.domains:
        if of_it := of_domains.get(domain.incarnation):
            own_past = pasts.get(domain.incarnation, NOTHING_PAST)
            yield from _of_domain(of_it, domain, policy, own_past, emergency=emergency)
    for action in actions:
        if isinstance(action, KsmAction):
            yield from _of_ksm(action, policy, past, short=short > 0)
    yield from _together(actions, now, policy, short)


def _together(actions: Sequence[Action], now: Snapshot, policy: Policy, short: int) -> Iterator[str]:
    """Check the plan as a whole: under pressure no more is taken than is missing."""
    taking = [a for a in actions if not isinstance(a, KsmAction) and not _relieves(a)]
    if policy.reclaim is ReclaimMode.OFF and actions:
        yield "the policy says reclaim: off"
    if policy.reclaim is ReclaimMode.ON_PRESSURE and taking:
        ceilings = {d.incarnation: d.definition.maximum_bytes for d in now.domains}
        slack = sum(
            2 * worthwhile(ceilings.get(incarnation, 0)) for incarnation in {a.domain for a in taking}
        )
        given = sum(a.after_bytes - a.before_bytes for a in actions if _relieves(a))
        if sum(map(frees, taking)) > short + given + slack:
            yield f"the policy takes only what the host is short of. That is {format_size(short)} now"


def _relieves(action: Action) -> bool:
    return isinstance(action, VirtioMemAction | BalloonAction) and action.relieves


def _of_domain(
    actions: Sequence[DomainAction], domain: DomainFacts, policy: Policy, past: Past, *, emergency: bool
) -> Iterator[str]:
    domain_class, name = policy.class_of(domain), domain.name
    taking = [action for action in actions if not _relieves(action)]
    for action in actions:
        if _relieves(action):
            why = _too_much_given(action, domain, past)
        else:
            why = _too_far(action, domain, domain_class, policy)
        for reason in why:
            yield f"domain {name}: {reason}"
    for reason in _size_left(taking, domain, domain_class):
        yield f"domain {name}: {reason}"
    ceiling = domain.definition.maximum_bytes
    allowed = max(worthwhile(ceiling), int(domain_class.step * ceiling))
    taken = sum(frees(action) for action in taking)
    if taken > allowed and not emergency:
        yield (
            f"domain {name}: {format_size(taken)} would be taken at once, its class allows "
            f"{format_size(allowed)} ({format_ratio(domain_class.step)})"
        )


def _size_left(
    actions: Sequence[DomainAction], domain: DomainFacts, domain_class: DomainClass
) -> Iterator[str]:
    """Check that blocks and balloon together leave the guest its floor and its reserve."""
    sizing = [action for action in actions if isinstance(action, VirtioMemAction | BalloonAction)]
    stats, definition = domain.balloon, domain.definition
    if not sizing or stats is None:
        return
    change = sum(action.after_bytes - action.before_bytes for action in sizing)
    left = guest_bytes(definition, stats) - definition.leaving_bytes + change
    floor, ceiling = bounds_of(domain, domain_class)
    used = used_bytes(definition, stats)
    if left < floor:
        yield f"it would be left {format_size(left)}, less than its floor of {format_size(floor)}"
    elif left < used + short_below(guest_reserve(ceiling)):
        yield (
            f"it would be left {format_size(left)}, of which it uses {format_size(used)} now: too little "
            "above that"
        )


def _too_far(
    action: DomainAction, domain: DomainFacts, domain_class: DomainClass, policy: Policy
) -> Iterator[str]:
    """Check one action that takes memory."""
    match action:
        case BalloonAction() | VirtioMemAction():
            yield from _of_size(action, domain)
            if isinstance(action, BalloonAction) and action.after_bytes < guest_reserve(domain.memory_bytes):
                yield f"its balloon would leave {format_size(action.after_bytes)} of its ordinary memory"
        case ReportingAction():
            if action.expected_bytes > action.before_bytes - action.after_bytes:
                yield "the compaction is expected to free more than it changes"
        case GuestReclaimAction():
            yield from _of_age(action.min_age_seconds, domain_class)
        case PageoutAction():
            yield from _of_pageout(action, domain, domain_class, policy)
        case DemotionAction():
            yield from _of_demotion(action, domain, domain_class, policy)


def _of_size(action: BalloonAction | VirtioMemAction, domain: DomainFacts) -> Iterator[str]:
    if action.after_bytes >= action.before_bytes:
        yield "nothing would change"
    swapped = action.expected_swap_bytes if isinstance(action, BalloonAction) else 0
    if action.expected_bytes + swapped > action.before_bytes - action.after_bytes:
        yield "it is expected to free more than it takes"
    if isinstance(action, VirtioMemAction):
        yield from _of_blocks(action, domain)


def _of_blocks(action: VirtioMemAction, domain: DomainFacts) -> Iterator[str]:
    device = domain.definition.device(action.device)
    if device is None:
        yield "its virtio-mem device is gone"
    elif action.block_bytes != device.block_bytes or action.after_bytes % max(1, device.block_bytes):
        yield f"its device {action.device} has blocks of {format_size(device.block_bytes)}"


def _of_age(seconds: float, domain_class: DomainClass) -> Iterator[str]:
    if seconds < domain_class.cold_after_seconds:
        yield f"its memory is cold only after {format_duration(domain_class.cold_after_seconds)}"


def _of_pageout(
    action: PageoutAction, domain: DomainFacts, domain_class: DomainClass, policy: Policy
) -> Iterator[str]:
    floor, ceiling = bounds_of(domain, domain_class)
    if action.after_bytes < floor:
        yield (
            f"{format_size(action.after_bytes)} of it would stay in memory, less than its floor of "
            f"{format_size(floor)}"
        )
    if action.after_bytes != action.before_bytes - action.expected_bytes:
        yield "the sizes of its page-out do not add up"
    if action.before_bytes > ceiling or action.working_set_bytes > ceiling - action.expected_bytes:
        yield f"it has no more than {format_size(ceiling)}"
    actors = (policy.pageout_actor,) if policy.pageout_actor else suitable_actors(domain)
    if action.actor not in actors:
        yield f"it is paged out by {actors[0].value}, not by {action.actor.value}"
    if action.promotions_limit > domain_class.objective.promotions_per_minute:
        allowed = format_ratio(domain_class.objective.promotions_per_minute)
        yield f"its class allows {allowed} read back per minute"
    yield from _of_rate(action, domain_class, policy)
    if sum(piece.resident_bytes for piece in action.pieces) != action.expected_bytes:
        yield "the pieces are not what would be paged out"
    yield from _of_pieces(action.pieces, domain, domain_class)


def _of_demotion(
    action: DemotionAction, domain: DomainFacts, domain_class: DomainClass, policy: Policy
) -> Iterator[str]:
    if action.node != policy.cold_node:
        yield f"the policy names no memory node {action.node} for cold memory"
    if action.recall_to == action.node or (action.recall_to is not None and action.pieces):
        yield "a recall moves memory that is in use to another node"
    moved = action.after_bytes - action.before_bytes
    if action.expected_bytes != (moved if action.recall_to is None else -moved):
        yield "the sizes of its move do not add up"
    yield from _of_age(action.cold_after_seconds, domain_class)
    yield from _of_rate(action, domain_class, policy)
    yield from _of_pieces(action.pieces, domain, domain_class)


def _of_rate(
    action: PageoutAction | DemotionAction, domain_class: DomainClass, policy: Policy
) -> Iterator[str]:
    most = policy.swap.max_write_bytes_per_second
    if not 0 < action.max_bytes_per_second <= most:
        yield f"the policy allows {format_size(most)} per second"
    if action.psi_some_limit > domain_class.objective.psi_some:
        allowed = format_ratio(domain_class.objective.psi_some)
        yield f"its class allows {allowed} of its time waiting for memory"


def _of_pieces(pieces: Sequence[ColdPiece], domain: DomainFacts, domain_class: DomainClass) -> Iterator[str]:
    """Check that each piece is guest RAM of this domain, idle for long enough, and listed once."""
    spans = [Range(piece.start, piece.end) for piece in pieces]
    in_order = all(a.end <= b.start for a, b in pairwise(spans))
    if not in_order or any(span.size <= 0 for span in spans):
        yield "its pieces are in no order, or overlap"
    elif total_size(intersect(spans, domain.ram)) != total_size(spans):
        yield "a piece is not in its guest RAM"
    if any(piece.resident_bytes > piece.end - piece.start for piece in pieces):
        yield "a piece holds more than its size"
    if any(piece.idle_seconds < domain_class.cold_after_seconds for piece in pieces):
        yield f"a piece was idle for less than {format_duration(domain_class.cold_after_seconds)}"


def _too_much_given(action: DomainAction, domain: DomainFacts, past: Past) -> Iterator[str]:
    """Check that a guest gets back no more than was taken, and no more than its definition has."""
    if isinstance(action, VirtioMemAction):
        yield from _of_blocks(action, domain)
        device = domain.definition.device(action.device)
        took = past.left_of(MemoryPart(action.domain, action.device))
        most = min(device.size_bytes if device else 0, took.baseline_bytes if took else 0)
    else:
        left = past.left_of(MemoryPart(action.domain))
        most = min(domain.definition.base_bytes, left.baseline_bytes if left else 0)
    if action.after_bytes > most:
        yield f"it would be given {format_size(action.after_bytes)}, it had {format_size(most)} before"


def _of_ksm(action: KsmAction, policy: Policy, past: Past, *, short: bool) -> Iterator[str]:
    if not may_start(policy, past, short=short):
        yield "the policy does not start KSM now"
    yield from foreign_settings(action.settings)
