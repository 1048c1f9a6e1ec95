"""A host near its own OOM: when that is, and what changes then.

The kernel would kill a guest, chosen by size. To prevent that, memory is taken at once from the domains that
leave most of it idle, without the steps of the classes and without the tax that protects a busy domain's idle
pages. These bounds stay: floors, quarantines, the budget of swap, and what a guest needs by its own figures.
"""

from __future__ import annotations

import dataclasses

from overcommit.model.facts import Snapshot
from overcommit.model.plan import HostPlan
from overcommit.model.policy import Policy, ReclaimMode
from overcommit.plan.budget import make_budget
from overcommit.units import format_size

_BEGINS, _ENDS = 0.5, 0.75
"""The shares of the reserve at which an emergency begins and ends."""
_ONLY_IDLE_COUNTS = 1.0


def is_emergency(snapshot: Snapshot, policy: Policy, *, before: bool, stalled: bool = False) -> bool:
    """Whether the host is near its own OOM. ``before``: whether it was at the last check.

    An emergency begins when less than half of the reserve is left, and ends when three quarters are.
    ``stalled``: recently all tasks of the host waited for memory (PSI full). Then less than the whole reserve
    is enough. PSI alone is not: a host that only reads back one guest's memory stalls as much, and taking
    more would make it worse. Without a reserve in the policy there is no emergency.
    """
    left = make_budget(snapshot, policy).available_bytes
    needed = 1.0 if stalled else _ENDS if before else _BEGINS
    return left < needed * policy.reserve * snapshot.host.total_bytes


def emergency_policy(policy: Policy) -> Policy:
    """The policy that applies in an emergency. ``reclaim: off`` stays off."""
    if policy.reclaim is ReclaimMode.OFF:
        return policy
    return dataclasses.replace(policy, reclaim=ReclaimMode.ON_PRESSURE, idle_tax=_ONLY_IDLE_COUNTS)


def emergency_note(host: HostPlan, policy: Policy) -> str:
    """The sentence that says what happens."""
    left, reserve = format_size(host.available_bytes), format_size(host.reserve_bytes)
    what = f"EMERGENCY: the host has {left} left of its reserve of {reserve}"
    if policy.reclaim is ReclaimMode.OFF:
        return what
    return (
        f"{what}. What is missing is taken at once, from the idlest domains first. Only a guest near its "
        f"own OOM gets memory"
    )
