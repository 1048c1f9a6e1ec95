"""Does a plan still describe this host? Applied exactly or refused (rule S12)."""

from __future__ import annotations

from overcommit.errors import StalePlan
from overcommit.model.facts import Snapshot
from overcommit.model.plan import BalloonAction, Plan, kind_of
from overcommit.model.policy import Policy
from overcommit.plan.eligibility import judge
from overcommit.units import MIB, format_size

_AGAIN = "nothing was changed; make a new plan with overcommitctl plan -o FILE"


def require_fresh(plan: Plan, now: Snapshot, policy: Policy) -> None:
    """Return when every action may still be carried out as written.

    Raises:
        StalePlan: the first thing that changed, by name.
    """
    for what in _changes(plan, now, policy):
        raise StalePlan(f"the saved plan is stale: {what}", hint=_AGAIN)


def _changes(plan: Plan, now: Snapshot, policy: Policy) -> list[str]:
    if plan.host.boot_id != now.host.boot_id:
        return ["this is another host, or it was rebooted since"]
    if now.taken_at > plan.expires_at:
        return [f"it expired {now.taken_at - plan.expires_at:.0f} s ago"]
    if plan.policy_digest != policy.digest:
        return [f"the policy {policy.source} is not the one it was made with ({plan.policy_source})"]
    by_uuid = {domain.incarnation.uuid: domain for domain in now.domains}
    changes = []
    for action in plan.runnable:
        name = action.domain.name
        domain = by_uuid.get(action.domain.uuid)
        if domain is None:
            changes.append(f"domain {name} is not running any more")
            continue
        if domain.incarnation != action.domain:
            changes.append(f"domain {name} was restarted since")
            continue
        verdict = judge(domain, now.host, frozenset({kind_of(action)}))[kind_of(action)]
        if not verdict.ok:
            changes.append(
                f"domain {name} is no longer eligible for {kind_of(action).value}: {verdict.reason}"
            )
        elif isinstance(action, BalloonAction) and domain.balloon is not None:
            actual = domain.balloon.actual_bytes
            if abs(actual - action.before_bytes) > MIB:
                changes.append(
                    f"the balloon of domain {name} was moved since, from "
                    f"{format_size(action.before_bytes)} to {format_size(actual)}"
                )
    return changes
