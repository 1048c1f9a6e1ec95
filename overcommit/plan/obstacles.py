"""Why a plan frees no more, for a user who waits for memory."""

from __future__ import annotations

from collections.abc import Iterator

from overcommit.model.action import KsmAction, name_of
from overcommit.model.plan import DomainPlan, Plan
from overcommit.model.policy import Actuator
from overcommit.units import format_size

_MOST_OBSTACLES = 3
SYS_FREE = "/sys/module/zfs/parameters/zfs_arc_sys_free"
"""ZFS evicts until this much is free (OpenZFS, module/os/linux/zfs/arc_os.c: arc_available_memory)."""


def obstacles_of(plan: Plan) -> Iterator[str]:
    """Reasons why no more can be freed; domains with most above their floor come first."""
    actions = [action for action in plan.actions if not isinstance(action, KsmAction)]
    giving = {action.domain for action in actions if action.blocked is None}
    blocked = {action.domain: f"{name_of(action)} is blocked: {action.blocked}" for action in actions}
    keeping = [domain for domain in plan.domains if domain.incarnation not in giving]
    keeping.sort(
        key=lambda domain: (domain.floor_bytes - (domain.resident_bytes or 0), domain.incarnation.name)
    )
    for domain in keeping[:_MOST_OBSTACLES]:
        why = blocked.get(domain.incarnation) or _verdicts(domain)
        yield f"{domain.incarnation.name} gives nothing of its {_size(domain.resident_bytes)}: {why}"
    if plan.host.budget.arc_bytes:
        free, cached = plan.host.reserve_bytes + plan.host.reserved_bytes, plan.host.budget.arc_bytes
        yield (
            f"ZFS's cache can give back {format_size(cached)}, but only when memory is short: echo {free} "
            f"> {SYS_FREE}"
        )
    if not plan.domains:
        yield "no running domain can give memory"


def _verdicts(domain: DomainPlan) -> str:
    objections = [
        f"no {actuator.value}: {verdict.reason}"
        for actuator, verdict in domain.eligible.items()
        if not verdict.ok and actuator is not Actuator.FREE_PAGE_REPORTING
    ]
    return "; ".join((*objections, *dict.fromkeys(reason.text for reason in domain.gives_nothing)))


def _size(size: int | None) -> str:
    return "memory" if size is None else format_size(size)
