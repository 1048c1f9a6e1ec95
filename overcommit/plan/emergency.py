"""A host near its own OOM: when that is, and what is different then.

The kernel would kill a guest, and chooses which by size. To prevent that memory is taken at once from whoever
leaves most of it idle, without the steps of the classes and without the tax that spares a busy domain's idle
pages. What bounds a guest's loss stays: floors, quarantines, the budget of swap, and what a guest needs by
its own word.
"""

from __future__ import annotations

import dataclasses

from overcommit.model.facts import Snapshot
from overcommit.model.plan import HostPlan
from overcommit.model.policy import Policy, ReclaimMode
from overcommit.plan.budget import make_budget
from overcommit.units import format_size

_BEGINS, _ENDS = 0.5, 0.75
"""The shares of the reserve that are left."""
_ONLY_IDLE_COUNTS = 1.0


def is_emergency(snapshot: Snapshot, policy: Policy, *, before: bool, stalled: bool = False) -> bool:
    """Whether the host is near its own OOM; ``before`` says whether it was when last looked at.

    It is when less than half of its reserve is left, until three quarters are. ``stalled``: all of the host
    lately waited for memory (PSI full); then less than the whole reserve is reason enough. That alone is not:
    a host that does little else than read one guest's memory back is as stalled, and would read back more.
    Where the policy keeps no reserve there is no emergency.
    """
    left = make_budget(snapshot, policy).available_bytes
    needed = 1.0 if stalled else _ENDS if before else _BEGINS
    return left < needed * policy.reserve * snapshot.host.total_bytes


def emergency_policy(policy: Policy) -> Policy:
    """The policy as it is meant in an emergency; one that says off still does."""
    if policy.reclaim is ReclaimMode.OFF:
        return policy
    return dataclasses.replace(policy, reclaim=ReclaimMode.ON_PRESSURE, idle_tax=_ONLY_IDLE_COUNTS)


def emergency_note(host: HostPlan, policy: Policy) -> str:
    """What is the matter, and what it means."""
    left, reserve = format_size(host.available_bytes), format_size(host.reserve_bytes)
    what = f"EMERGENCY: the host has {left} left of its reserve of {reserve}"
    if policy.reclaim is ReclaimMode.OFF:
        return what
    return (
        f"{what}. What is missing is taken at once, from the idlest domains first. Only a guest near its "
        f"own OOM gets memory"
    )
