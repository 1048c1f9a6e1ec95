"""Observe, watch, classify, plan: what `plan` and `apply` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from overcommit.classify.idle import classify, judge_host
from overcommit.cli.naming import names_of
from overcommit.cli.session import Session, require_root
from overcommit.damon.pool import DamonPool
from overcommit.errors import UNCONTAINED, HostError, in_a_line
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.facts import DomainFacts, Gap, Snapshot
from overcommit.model.heat import Heat
from overcommit.model.past import Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Actuator, Policy, ReclaimMode
from overcommit.observe.agent import ask_agents, asks_agents
from overcommit.observe.facts import observe, watchable
from overcommit.observe.watch import WINDOW_SECONDS, Watched, duration_for, watch
from overcommit.plan.eligibility import judge
from overcommit.plan.planner import make_plan
from overcommit.plan.promises import aimed
from overcommit.plan.swap_watch import SwapWatch
from overcommit.records.journal import Generation
from overcommit.units import format_duration

_SHORT_LOOK_SECONDS = 5 * WINDOW_SECONDS


def select(snapshot: Snapshot, names: Sequence[str]) -> Snapshot:
    """Only the domains named, or meant by their UUID (all when none is).

    Raises:
        UsageError: no such running domain.
    """
    if not names:
        return snapshot
    meant = names_of(names, {d.incarnation.uuid: d.name for d in snapshot.domains})
    return dataclasses.replace(snapshot, domains=tuple(d for d in snapshot.domains if d.name in meant))


def look_and_plan(
    session: Session,
    command: str,
    *,
    names: Sequence[str],
    observe_for: float | None,
    take_over: bool,
) -> Plan:
    """A plan for whoever only looks: nothing is changed but our monitors, which are gone when this returns.

    Raises:
        PolicyError: the policy does not validate.
        Unsupported: not root, or no DAMON.
        Conflict: DAMON belongs to somebody else.
        UsageError: an unknown domain.
    """
    policy = session.policy()
    require_root()
    session.require_damon(take_over=take_over)
    hypervisor = session.hypervisor(read_only=not asks_agents(policy))
    with session.generation(command) as generation:
        return plan_now(
            session,
            hypervisor,
            generation,
            policy,
            names=names,
            observe_for=observe_for,
            take_over=take_over,
        )


def plan_now(
    session: Session,
    hypervisor: Hypervisor,
    generation: Generation,
    policy: Policy,
    *,
    names: Sequence[str],
    observe_for: float | None,
    take_over: bool,
    reserving: Reservation | None = None,
    leave_out: str | None = None,
) -> Plan:
    """Watch the domains, look at everything once more, and plan.

    ``reserving`` is aimed at, as if it were promised; the domain to ``leave_out`` gives nothing.

    Raises:
        Conflict: DAMON belongs to somebody else.
        UsageError: an unknown domain.
    """
    before = observe(session.kernel, hypervisor, session.clock)
    first = select(before, names)
    names = tuple(domain.name for domain in first.domains) if names else ()
    first = dataclasses.replace(first, domains=tuple(d for d in first.domains if d.name != leave_out))
    domains = [d for d in first.domains if watchable(d)]
    seconds = observe_for if observe_for is not None else _long_enough(first, domains, policy)
    watched = Watched(idle={}, lost={})
    migration: bool | None = None
    if domains and policy.reclaim is not ReclaimMode.OFF:
        watched, migration = _watch(session, hypervisor, generation, domains, seconds, take_over=take_over)
    now = select(observe(session.kernel, hypervisor, session.clock), ())
    now = dataclasses.replace(
        now,
        host=dataclasses.replace(now.host, migration=migration),
        gaps=(*now.gaps, *_lost(first, now, watched)),
    )
    some = bool(names) or leave_out is not None
    if domains and not watched.idle and policy.reclaim is not ReclaimMode.OFF:
        raise HostError(
            f"no domain could be watched: {next(iter(watched.lost.values()), 'each of them ended')}",
            hint="overcommitctl doctor says what is the matter with DAMON",
        )
    meant = {d.incarnation for d in now.domains if (not names or d.name in names) and d.name != leave_out}
    now = ask_agents(now, hypervisor, policy, meant)
    host_heat = None
    if watched.host is not None:
        idle_after = policy.classes[policy.default_class].cold_after_seconds
        host_heat = judge_host(watched.host, lru_bytes=now.host.lru_bytes, idle_after=idle_after)
    session.adopt(generation, now.domains)
    policy, past = aimed(policy, session.past(now.taken_at), reserving)
    heats, unjudged = _heats(first, now, watched, policy)
    now = dataclasses.replace(now, gaps=(*now.gaps, *unjudged))
    swap = SwapWatch.begin(before.host).after(now.host, now.taken_at - before.taken_at)
    return make_plan(
        now,
        heats,
        policy,
        host_heat,
        past=past,
        only=meant if some else None,
        swap=swap.verdict(policy.swap),
    )


def _watch(
    session: Session,
    hypervisor: Hypervisor,
    generation: Generation,
    domains: Sequence[DomainFacts],
    seconds: float,
    *,
    take_over: bool,
) -> tuple[Watched, bool]:
    """What was seen, and whether this kernel's DAMON can move a domain's memory to another node."""
    talk = session.talk
    with DamonPool(session.kernel, session.journal, generation) as pool:
        pool.claim(len(domains) + 1, take_over=take_over)  # one for the host
        result = watch(
            session.kernel,
            hypervisor,
            pool,
            session.clock,
            domains,
            seconds=seconds,
            began=lambda how: talk.say(
                f"watching {len(domains)} domain(s) for {format_duration(seconds)} by {how} "
                "(--observe-for changes that; memory can be called cold only for as long as it was watched)"
            ),
            progress=lambda share: talk.progress(
                f"  watched {format_duration(share * seconds)} of {format_duration(seconds)}"
            ),
        )
        migration = pool.capabilities.migration
    talk.done()
    return result, migration


def _long_enough(snapshot: Snapshot, domains: Sequence[DomainFacts], policy: Policy) -> float:
    """Long enough for the classes of those domains whose cold memory could go anywhere at all."""
    needed = []
    for domain in domains:
        of = policy.class_of(domain)
        verdicts = judge(domain, snapshot.host, of.actuators, cold_node=policy.cold_node)
        if any(verdicts[way].ok for way in (Actuator.DEMOTION, Actuator.PAGEOUT) if way in verdicts):
            needed.append(of.cold_after_seconds)
    return duration_for(max(needed)) if needed else _SHORT_LOOK_SECONDS


def _heats(
    first: Snapshot, now: Snapshot, watched: Watched, policy: Policy
) -> tuple[dict[str, Heat], tuple[Gap, ...]]:
    """What was seen, for those who still live the life that was watched, and for whom that failed."""
    same_life = {domain.incarnation for domain in first.domains}
    heats: dict[str, Heat] = {}
    gaps: list[Gap] = []
    for domain in now.domains:
        seen = watched.idle.get(domain.incarnation.uuid) if domain.incarnation in same_life else None
        if seen is None or domain.residency is None:
            continue
        try:
            of = policy.class_of(domain)
            heats[domain.incarnation.uuid] = classify(
                seen,
                domain.residency.resident,
                cold_after=of.cold_after_seconds,
                unused_after=of.cache_after_seconds,
            )
        except UNCONTAINED:
            raise
        except Exception as error:  # noqa: BLE001 - a boundary: whatever it is, it is this domain's
            gaps.append(Gap(what=f"accesses of domain {domain.name}", why=in_a_line(error)))
    return heats, tuple(gaps)


def _lost(first: Snapshot, now: Snapshot, watched: Watched) -> tuple[Gap, ...]:
    """Domains that left, or could not be watched: named, not forgotten."""
    alive = {domain.incarnation for domain in now.domains}
    gaps = []
    for domain in first.domains:
        if domain.incarnation not in alive:
            gaps.append(Gap(what=f"domain {domain.name}", why="it ended while being watched"))
        elif domain.incarnation.uuid in watched.lost:
            why = watched.lost[domain.incarnation.uuid]
            gaps.append(Gap(what=f"accesses of domain {domain.name}", why=why))
    if watched.no_host is not None:
        gaps.append(Gap(what="the host's own idle memory", why=watched.no_host))
    return tuple(gaps)
