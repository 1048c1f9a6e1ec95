"""Converts a validated file to the policy that the planner uses."""

from __future__ import annotations

from overcommit.model.policy import (
    Actuator,
    DomainClass,
    GuestHelp,
    PageoutActor,
    Policy,
    ReclaimMode,
    Rule,
    Rules,
    Selector,
    ServiceObjective,
    SwapBudget,
)
from overcommit.policy import schema


def compile_policy(file: schema.PolicyFile, *, source: str, digest: str) -> Policy:
    """The policy. ``source`` names its main file, ``digest`` identifies the text of all files."""
    host = file.host
    return Policy(
        digest=digest,
        source=source,
        reserve=host.reserve,
        max_overcommit=host.max_overcommit,
        swap=SwapBudget(
            max_used=host.swap.max_used,
            max_write_bytes_per_second=host.swap.max_write,
            max_write_bytes_per_day=host.swap.max_write_per_day,
            max_latency_seconds=host.swap.max_latency,
        ),
        reclaim=ReclaimMode(host.reclaim),
        pageout_actor=None if host.pageout_actor == "auto" else PageoutActor(host.pageout_actor),
        cold_node=host.cold_node,
        classes={name: _class(name, section) for name, section in file.classes.items()},
        rules=Rules(Rule(selector=_selector(rule.match), class_name=rule.class_) for rule in file.domains),
        default_class=file.default_class,
        idle_tax=host.idle_tax,
        ksm=host.ksm,
        domain_overrides=frozenset(host.domain_overrides),
    )


def _class(name: str, section: schema.ClassSection) -> DomainClass:
    return DomainClass(
        name=name,
        floor=section.floor,
        cold_after_seconds=section.cold_after,
        weight=section.weight,
        objective=ServiceObjective(
            promotions_per_minute=section.slo.promotions, psi_some=section.slo.psi_some
        ),
        actuators=frozenset(map(Actuator, section.actuators)),
        step=section.step,
        guest_help=frozenset(map(GuestHelp, section.guest_help)),
        cache_after_seconds=section.cache_after,
    )


def _selector(match: schema.MatchSection) -> Selector:
    return Selector(
        # A glob of asterisks alone asks for nothing.
        name=match.name if match.name and match.name.strip("*") else None,
        uuid=match.uuid,
        metadata=match.metadata,
        memory=match.memory,
    )
