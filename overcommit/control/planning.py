"""Makes a plan: observe, watch, classify, plan. Shared by the verbs and the daemon."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from overcommit.apply.execute import MOST_AT_ONCE
from overcommit.classify.idle import classify, judge_host
from overcommit.classify.page_ages import with_page_ages
from overcommit.control.naming import names_of
from overcommit.control.operation import Listener, Operation
from overcommit.damon.pool import DamonPool
from overcommit.errors import UNCONTAINED, HostError, in_a_line
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.action import Action
from overcommit.model.facts import DomainFacts, Gap, Incarnation, Snapshot
from overcommit.model.heat import Heat, IdleMap
from overcommit.model.past import Past, Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Actuator, Policy, ReclaimMode
from overcommit.observe.agent import ask_agents
from overcommit.observe.facts import observe, watchable
from overcommit.observe.watch import WINDOW_SECONDS, Watched, begin_watch, duration_for
from overcommit.plan.authority import excesses
from overcommit.plan.eligibility import judge
from overcommit.plan.feedback import Feedback
from overcommit.plan.planner import make_plan
from overcommit.plan.promises import aimed
from overcommit.plan.read_back import held_for_reading_back
from overcommit.plan.swap_watch import SwapWatch
from overcommit.units import counted, format_duration

_SHORT_LOOK_SECONDS = 5 * WINDOW_SECONDS


def select(snapshot: Snapshot, names: Sequence[str]) -> Snapshot:
    """The snapshot with only the domains of these names or UUIDs; all, where there are none.

    Raises:
        UsageError: there is no such running domain.
    """
    if not names:
        return snapshot
    meant = names_of(names, {d.incarnation.uuid: d.name for d in snapshot.domains})
    return dataclasses.replace(snapshot, domains=tuple(d for d in snapshot.domains if d.name in meant))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which domains a plan is about, and for what.

    ``names`` are names or UUIDs; empty: all domains. The domain ``leave_out`` gives nothing. ``observe_for``
    is how long to watch in seconds; None: as long as the classes need. ``reserving`` is planned for as if it
    were reserved.
    """

    names: tuple[str, ...] = ()
    observe_for: float | None = None
    leave_out: str | None = None
    reserving: Reservation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a plan needs beside the snapshot, by UUID or by incarnation.

    ``host_idle`` is the watch of the host's memory. ``only`` are the domains that the plan is about.
    """

    heats: Mapping[str, Heat]
    host_idle: IdleMap | None
    feedback: Feedback
    only: Collection[Incarnation] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A plan, with the policy and the past behind it, which include what is being reserved."""

    plan: Plan
    policy: Policy
    past: Past
    emergency: bool

    def excess(self, action: Action, snapshot: Snapshot) -> str | None:
        """Why an action goes further than one that is planned now may; None: it does not."""
        found = excesses((action,), snapshot, self.policy, self.past, emergency=self.emergency)
        return next(found, None)


def decide(
    snapshot: Snapshot, policy: Policy, past: Past, evidence: Evidence, *, reserving: Reservation | None
) -> Decision:
    """Make the plan. The only place where a plan is made from what was seen. Pure."""
    policy, past = aimed(policy, past, reserving)
    feedback = evidence.feedback
    plan = make_plan(snapshot, evidence.heats, policy, past=past, only=evidence.only, feedback=feedback)
    if evidence.host_idle is not None:
        idle_after = policy.classes[policy.default_class].cold_after_seconds
        heat = judge_host(evidence.host_idle, lru_bytes=snapshot.host.lru_bytes, idle_after=idle_after)
        host = dataclasses.replace(
            plan.host, idle_bytes=heat.idle_bytes, idle_after_seconds=heat.idle_after_seconds
        )
        plan = dataclasses.replace(plan, host=host)
    return Decision(plan=plan, policy=policy, past=past, emergency=feedback.emergency)


def complete(
    snapshot: Snapshot,
    hypervisor: Hypervisor,
    policy: Policy,
    *,
    migration: bool | None,
    meant: Collection[Incarnation] | None = None,
) -> Snapshot:
    """The snapshot with the agents' answers, where a class allows it, and with DAMON's ability to migrate."""
    host = dataclasses.replace(snapshot.host, migration=migration)
    snapshot = dataclasses.replace(snapshot, host=host)
    return ask_agents(snapshot, hypervisor, policy, meant)


def plan_now(operation: Operation, scope: Scope, listener: Listener) -> Plan:
    """Watch the domains, read everything once more, and plan.

    Raises:
        Conflict: DAMON belongs to somebody else.
        HostError: no domain could be watched.
        UsageError: there is no such domain.
    """
    control, policy = operation.control, operation.policy
    before = observe(control.kernel, operation.hypervisor, control.clock)
    first = select(before, scope.names)
    names = {domain.name for domain in first.domains} if scope.names else None
    first = dataclasses.replace(first, domains=tuple(d for d in first.domains if d.name != scope.leave_out))
    domains = [d for d in first.domains if watchable(d)]
    watched = Watched(idle={}, lost={})
    migration: bool | None = None
    if domains and policy.reclaim is not ReclaimMode.OFF:
        seconds = scope.observe_for
        if seconds is None:
            seconds = _long_enough(first, domains, policy)
        watched, migration = _watch(operation, domains, seconds, listener)
    now = observe(control.kernel, operation.hypervisor, control.clock)
    if domains and not watched.idle and policy.reclaim is not ReclaimMode.OFF:
        raise HostError(
            f"no domain could be watched: {next(iter(watched.lost.values()), 'each of them ended')}",
            hint="to see what each domain lacks: overcommitctl doctor",
        )
    meant = {
        d.incarnation for d in now.domains if (names is None or d.name in names) and d.name != scope.leave_out
    }
    now = dataclasses.replace(now, gaps=(*now.gaps, *_lost(first, now, watched)))
    now = complete(now, operation.hypervisor, policy, migration=migration, meant=meant)
    control.adopt(operation.generation, now.domains)
    heats, unjudged = _heats(first, now, watched, policy)
    now = dataclasses.replace(now, gaps=(*now.gaps, *unjudged))
    swap = SwapWatch.begin(before.host).after(now.host, now.taken_at - before.taken_at)
    evidence = Evidence(
        heats=heats,
        host_idle=watched.host,
        feedback=Feedback(
            swap=swap.verdict(policy.swap, at_once=MOST_AT_ONCE),
            restraints=held_for_reading_back(first, now, heats, policy),
        ),
        only=meant if names is not None or scope.leave_out is not None else None,
    )
    past = control.past(now.taken_at)
    return decide(now, policy, past, evidence, reserving=scope.reserving).plan


def _watch(
    operation: Operation, domains: Sequence[DomainFacts], seconds: float, listener: Listener
) -> tuple[Watched, bool]:
    """The result of the watch, and whether this kernel's DAMON can move memory to another node."""
    control = operation.control
    with DamonPool(control.kernel, control.journal, operation.generation) as pool:
        pool.acquire(len(domains) + 1, take_over=operation.take_over)  # one for the host
        watch = begin_watch(control.kernel, operation.hypervisor, pool, control.clock, domains)
        listener.say(
            f"watching {counted(len(domains), 'domain')} for {format_duration(seconds)} by {watch.how} "
            f"(--observe-for changes this; memory is cold only after it was watched that long)"
        )
        result = watch.run(
            seconds,
            lambda share: listener.progress(
                f"  watched {format_duration(share * seconds)} of {format_duration(seconds)}"
            ),
        )
        migration = pool.capabilities.migration
    listener.done()
    return result, migration


def _long_enough(snapshot: Snapshot, domains: Sequence[DomainFacts], policy: Policy) -> float:
    """The longest watch that the classes need, of domains whose cold memory could be moved at all."""
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
    """The access frequency of each domain in its watched incarnation, and a gap for each failure."""
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
    return with_page_ages(heats, watched.ages), tuple(gaps)


def _lost(first: Snapshot, now: Snapshot, watched: Watched) -> tuple[Gap, ...]:
    """A gap for each domain that has ended or could not be watched."""
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
