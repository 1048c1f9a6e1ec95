"""Makes the plan: the domains' possible actions, within the host's budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from overcommit.errors import in_a_line
from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    DomainAction,
    GuestReclaimAction,
    KsmAction,
    VirtioMemAction,
    frees,
    kind_of,
)
from overcommit.model.facts import DomainFacts, Incarnation, Snapshot
from overcommit.model.heat import Heat
from overcommit.model.past import NOTHING_PAST, Past
from overcommit.model.plan import CachePlan, DomainPlan, Drift, HostPlan, LeftOut, Plan
from overcommit.model.policy import Actuator, Policy, ReclaimMode
from overcommit.model.restraint import Restraint
from overcommit.plan.arbiter import Candidate, arbitrate
from overcommit.plan.budget import make_budget
from overcommit.plan.cache import CacheRule
from overcommit.plan.case import Case, cache_for, guest_bytes, room_on, worthwhile
from overcommit.plan.eligibility import judge, judge_help, judge_return
from overcommit.plan.emergency import emergency_note, emergency_policy
from overcommit.plan.feedback import NO_FEEDBACK, Feedback
from overcommit.plan.isolation import FailedDomain, without_failed_domains
from overcommit.plan.main_job import stopped
from overcommit.plan.notes import notes, swap_notes
from overcommit.plan.promises import promised
from overcommit.plan.reasons import Sharing, reasons
from overcommit.plan.rungs.ksm import ksm_notes, merge
from overcommit.plan.rungs.ladder import propose
from overcommit.plan.rungs.relief import relieve
from overcommit.plan.swap_budget import SwapVerdict, judge_swap, spread
from overcommit.plan.vetoes import (
    drifts,
    held_to,
    owned_by_others,
    quarantined,
    restrained,
)

LIFETIME_SECONDS = 600.0
"""How long a saved plan may be applied. Idle memory is checked again page by page, guests' sizes are not."""
_LADDER = list(Actuator)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What holds for all domains of a plan.

    ``written`` is the policy as its owner wrote it, ``policy`` is the one in force.
    """

    written: Policy
    policy: Policy
    past: Past
    feedback: Feedback
    swap: SwapVerdict

    @property
    def emergency(self) -> bool:
        return self.feedback.emergency

    @property
    def restraints(self) -> Mapping[Incarnation, Restraint]:
        return {} if self.emergency else self.feedback.restraints


def make_plan(
    snapshot: Snapshot,
    heats: Mapping[str, Heat],
    policy: Policy,
    *,
    past: Past = NOTHING_PAST,
    only: Collection[Incarnation] | None = None,
    feedback: Feedback = NO_FEEDBACK,
) -> Plan:
    """The plan for this snapshot.

    Args:
        snapshot: the facts.
        heats: the access frequency of each watched domain, by UUID.
        policy: the policy.
        past: what earlier runs left.
        only: the domains to consider; None: all, and the host. The host's account always has all.
        feedback: what a controller has learned so far.
    """
    terms = _Terms(
        written=policy,
        policy=emergency_policy(policy) if feedback.emergency else policy,
        past=past,
        feedback=feedback,
        swap=feedback.swap or judge_swap(snapshot.host, policy.swap),
    )
    host, unaccounted = account(snapshot, terms.policy, past)

    def plan(domains: Sequence[DomainFacts]) -> Plan:
        chosen = [domain for domain in domains if only is None or domain.incarnation in only]
        among = _among(snapshot, chosen)

        def consider(cache: CacheRule) -> tuple[Candidate, ...]:
            return tuple(_consider_all(among, heats, terms, cache))

        return _written(_among(snapshot, domains), consider, host, terms, merges=only is None)

    uncounted = {failed_domain.domain.incarnation for failed_domain in unaccounted}
    sound = [domain for domain in snapshot.domains if domain.incarnation not in uncounted]
    made, unplanned = without_failed_domains(sound, plan)
    left_out = (
        *_left_out(unaccounted, "its memory cannot be counted and is missing in the host's account"),
        *_left_out(unplanned, "no plan is possible for it"),
    )
    return dataclasses.replace(
        made, left_out=left_out, notes=(*made.notes, *(left_out_text(each) for each in left_out))
    )


def account(snapshot: Snapshot, policy: Policy, past: Past) -> tuple[HostPlan, tuple[FailedDomain, ...]]:
    """See `host_plan`. The domains that cannot be counted are left out, and returned."""

    def count(domains: Sequence[DomainFacts]) -> HostPlan:
        return host_plan(_among(snapshot, domains), policy, past)

    return without_failed_domains(snapshot.domains, count)


def left_out_text(left_out: LeftOut) -> str:
    """The sentence about a domain that was left out."""
    return f"left out: domain {left_out.domain.name}: {left_out.why}; nothing is done to it"


def _among(snapshot: Snapshot, domains: Sequence[DomainFacts]) -> Snapshot:
    return dataclasses.replace(snapshot, domains=tuple(domains))


def _left_out(failed_domains: Iterable[FailedDomain], what: str) -> Iterator[LeftOut]:
    for domain, error in failed_domains:
        yield LeftOut(domain=domain.incarnation, why=f"{what}: {in_a_line(error)}")


def _written(
    snapshot: Snapshot,
    consider: Callable[[CacheRule], Sequence[Candidate]],
    host: HostPlan,
    terms: _Terms,
    *,
    merges: bool,
) -> Plan:
    """The plan for the candidates. ``consider`` returns them under a rule for file cache.

    ``merges``: the plan is about the host too, not only about some domains.
    """
    policy, past, swap, emergency = terms.policy, terms.past, terms.swap, terms.emergency
    short = host.short_bytes

    def share(candidates: Sequence[Candidate], sharing: Policy) -> list[DomainAction]:
        return arbitrate(candidates, snapshot.host, host, sharing, swap, emergency=emergency)

    candidates = consider(CacheRule.TAKEN if emergency else CacheRule.KEPT)
    sharing = policy
    shared_out = share(candidates, sharing)
    if not emergency and _lacks(shared_out, short, policy):
        # Unused memory is not enough. File caches may give what is missing, and no more.
        candidates = consider(CacheRule.IN_STEPS)
        sharing = dataclasses.replace(policy, reclaim=ReclaimMode.ON_PRESSURE)
        shared_out = share(candidates, sharing)
    # In an emergency no domain's page-out waits for the others' balloons.
    actions: list[Action] = [*spread(shared_out if emergency else sorted(shared_out, key=_order), swap)]
    if merges and (merging := merge(snapshot, policy, past, short=short > 0)) is not None:
        actions.append(merging)
    numbered = tuple(
        dataclasses.replace(action, id=str(number)) for number, action in enumerate(actions, start=1)
    )
    return Plan(
        created_at=snapshot.taken_at,
        expires_at=snapshot.taken_at + LIFETIME_SECONDS,
        policy_source=policy.source,
        policy_digest=policy.digest,
        host=host,
        domains=tuple(
            _domain_plans(
                candidates,
                numbered,
                Sharing(snapshot.host, snapshot.taken_at, sharing.reclaim, short, emergency),
            )
        ),
        actions=numbered,
        drift=tuple(_drift(candidates, past.by_domain())),
        emergency=emergency,
        stopped=stopped(snapshot.host, terms.written, swap),
        notes=(
            *([emergency_note(host, policy)] if emergency else []),
            *notes(snapshot, candidates, host, terms.written, numbered, emergency=emergency),
            *swap_notes(swap, numbered),
            *ksm_notes(snapshot, policy, past, short=short > 0),
        ),
    )


def _lacks(actions: Iterable[DomainAction], short: int, policy: Policy) -> bool:
    """Whether a host that is short, or must give memory, would lack memory after these actions."""
    if policy.reclaim is ReclaimMode.OFF or not (short or policy.reclaim is ReclaimMode.ON_PRESSURE):
        return False
    missing = short
    for action in (action for action in actions if action.blocked is None):
        relieves = isinstance(action, VirtioMemAction | BalloonAction) and action.relieves
        missing += action.after_bytes - action.before_bytes if relieves else -frees(action)
    return missing >= worthwhile(0)


def _order(action: DomainAction) -> tuple[bool, int]:
    """Short guests first, their balloons before their blocks; then by the order of the ladder."""
    relieves = isinstance(action, VirtioMemAction | BalloonAction) and action.relieves
    rung = _LADDER.index(kind_of(action))
    return not relieves, -rung if relieves else rung


def host_plan(snapshot: Snapshot, policy: Policy, past: Past) -> HostPlan:
    """The account of the host, and how much of its memory is reserved."""
    host, budget = snapshot.host, make_budget(snapshot, policy)
    return HostPlan(
        name=host.name,
        kernel=host.kernel,
        boot_id=host.boot_id,
        total_bytes=host.total_bytes,
        available_bytes=budget.available_bytes,
        running_domains=len(snapshot.domains),
        promised_bytes=budget.promised_bytes,
        swap_total_bytes=host.swap_total_bytes,
        swap_free_bytes=host.swap_free_bytes,
        reserve_bytes=round(policy.reserve * host.total_bytes),
        reserved_bytes=promised(past.reservations, snapshot.domains, now=snapshot.taken_at),
        lru_bytes=host.lru_bytes,
        budget=budget,
    )


def _consider_all(
    snapshot: Snapshot,
    heats: Mapping[str, Heat],
    terms: _Terms,
    cache: CacheRule,
) -> Iterator[Candidate]:
    """The possible actions of each domain, by name. The domains share the room on the memory nodes."""
    policy, pasts, emergency = terms.policy, terms.past.by_domain(), terms.emergency
    restraints, pains = terms.restraints, terms.feedback.pains
    host, proactive = snapshot.host, policy.reclaim is ReclaimMode.PROACTIVE
    rooms = {present.nid: room_on(host, present.nid) for present in host.nodes}
    for domain in sorted(snapshot.domains, key=lambda d: (d.name, d.incarnation.uuid)):
        past, restraint = pasts.get(domain.incarnation, NOTHING_PAST), restraints.get(domain.incarnation)
        domain_class = held_to(policy.class_of(domain), restraint)
        others, pain = owned_by_others(domain, past), pains.get(domain.incarnation)
        owned = judge(
            domain,
            host,
            domain_class.actuators,
            pageout_actor=policy.pageout_actor,
            cold_node=policy.cold_node,
            vetoes=others,
        )
        barred = {**quarantined(domain, snapshot.taken_at, past), **restrained(owned, restraint)}
        verdicts = {
            help_kind: barred.get(help_kind, verdict) if verdict.ok else verdict
            for help_kind, verdict in owned.items()
        }
        inside = judge_help(domain, domain_class.guest_help, verdicts[Actuator.FREE_PAGE_REPORTING])
        case = Case(
            domain,
            heats.get(domain.incarnation.uuid),
            domain_class,
            policy,
            verdicts,
            inside,
            cooldown=next(iter(past.cooldowns), None) if proactive else None,
            restraint=restraint,
            pain=pain,
            emergency=emergency,
            cache=cache,
        )
        back = owned if pain is None else judge_return(domain, vetoes=others)
        reliefs = tuple(relieve(case._replace(verdicts=back), past))
        # A guest that is short, or under pressure, gives nothing. In an emergency pressure exempts no guest.
        spared = bool(reliefs) or (pain is not None and not emergency)
        offers = () if spared else tuple(propose(case, rooms=rooms))
        for action in offers:
            if isinstance(action, DemotionAction):
                rooms[action.destination] -= action.expected_bytes
        yield Candidate(case, offers, reliefs)


def _drift(candidates: Iterable[Candidate], pasts: Mapping[Incarnation, Past]) -> Iterator[Drift]:
    for candidate in candidates:
        domain = candidate.case.domain
        yield from drifts(domain, pasts.get(domain.incarnation, NOTHING_PAST))


def _domain_plans(
    candidates: Iterable[Candidate], actions: Sequence[Action], sharing: Sharing
) -> Iterator[DomainPlan]:
    changes: dict[Incarnation, int] = {}
    for action in actions:
        if isinstance(action, VirtioMemAction | BalloonAction) and action.blocked is None:
            change = action.after_bytes - action.before_bytes
            changes[action.domain] = changes.get(action.domain, 0) + change
    acted_on = {action.domain for action in actions if not isinstance(action, KsmAction)}
    for candidate in candidates:
        who = candidate.case.domain.incarnation
        why = () if who in acted_on else tuple(reasons(candidate, sharing))
        yield dataclasses.replace(_domain_plan(candidate, changes.get(who, 0)), gives_nothing=why)


def _domain_plan(candidate: Candidate, change: int) -> DomainPlan:
    """``change`` is what balloon and blocks give the guest; negative: take."""
    case = candidate.case
    domain, heat, bounds = case.domain, case.heat, case.bounds
    actual = guest_bytes(domain.definition, domain.balloon) if domain.balloon else bounds.ceiling_bytes
    return DomainPlan(
        incarnation=domain.incarnation,
        class_name=case.domain_class.name,
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
        target_bytes=actual + change,
        confidence=heat.confidence if heat else "none",
        eligible=case.verdicts,
        guest_help=case.guest_help,
        offers=_offers(candidate.offers),
        cache=_cache(case),
        gaps=domain.gaps,
    )


def _cache(case: Case) -> CachePlan | None:
    found = cache_for(case, case.domain.balloon) if case.domain.balloon else None
    if found is None:
        return None
    return CachePlan(found.cache_bytes, found.droppable_bytes, found.because)


def _offers(actions: Iterable[DomainAction]) -> dict[Actuator, int]:
    """The bytes that each actuator could take. A domain may have several virtio-mem devices."""
    offers: dict[Actuator, int] = {}
    for action in (action for action in actions if not isinstance(action, GuestReclaimAction)):
        kind = kind_of(action)
        offers[kind] = offers.get(kind, 0) + action.expected_bytes
    return offers
