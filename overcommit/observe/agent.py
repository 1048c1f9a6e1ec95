"""Asks the guest agents of domains whose class allows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from overcommit.errors import UNCONTAINED, Gone, in_a_line
from overcommit.hypervisor.guest_agent import GuestAgent
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.facts import AgentFacts, DomainFacts, Incarnation, Snapshot
from overcommit.model.policy import Actuator, GuestHelp, Policy
from overcommit.plan.eligibility import READS, may_ask_agent


def asks_agents(policy: Policy) -> bool:
    """Whether the policy allows to ask any agent. That needs a connection to libvirt that may write."""
    by_class = any(domain_class.guest_help for domain_class in policy.classes.values())
    return by_class or "guest_help" in policy.domain_overrides


def ask_agents(
    snapshot: Snapshot, hypervisor: Hypervisor, policy: Policy, only: Collection[Incarnation] | None = None
) -> Snapshot:
    """The same snapshot with the agents' answers, of domains that allow it and have an agent.

    ``only`` these domains are asked; None: all.
    """
    return dataclasses.replace(
        snapshot,
        domains=tuple(
            _asked(domain, hypervisor, policy) if only is None or domain.incarnation in only else domain
            for domain in snapshot.domains
        ),
    )


def _asked(domain: DomainFacts, hypervisor: Hypervisor, policy: Policy) -> DomainFacts:
    domain_class = policy.class_of(domain)
    ways = domain_class.guest_help
    reports = Actuator.FREE_PAGE_REPORTING in domain_class.actuators
    if not (ways and reports and may_ask_agent(domain)):
        return domain
    agent = GuestAgent(hypervisor, domain.incarnation.uuid)
    try:
        commands = agent.commands()
        reclaims = None
        if GuestHelp.DAMON_RECLAIM in ways and commands >= READS:
            enabled = agent.read_setting("enabled")
            reclaims = None if enabled is None else enabled == "Y"
    except Gone:
        return domain  # whoever wants to do something with it will notice
    except UNCONTAINED:
        raise
    except Exception as error:  # noqa: BLE001 - a boundary: whatever it is, it is this domain's
        trouble = in_a_line(error)
        return dataclasses.replace(domain, agent=AgentFacts(trouble=trouble))
    return dataclasses.replace(domain, agent=AgentFacts(commands=commands, reclaims=reclaims))
