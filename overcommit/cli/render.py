"""Plans as text: tables, a line per fact, and details on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from overcommit.cli.tables import Block, Line, Row, Table, fitted, prose, table
from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    GuestReclaimAction,
    KsmAction,
    VirtioMemAction,
    name_of,
    subject_of,
)
from overcommit.model.budget import HostBudget, WorstCase
from overcommit.model.heat import IdleBucket
from overcommit.model.plan import Cause, DomainPlan, Drift, HostPlan, Plan
from overcommit.model.policy import Actuator
from overcommit.plan.budget import OVERHEAD, zfs_text
from overcommit.plan.reasons import IN_GENERAL
from overcommit.units import counted, format_duration, format_size

UNKNOWN = "?"
_BAR_WIDTH = 30
_MOST_LINES, _MOST_NAMES = 6, 4
"""The most domains with a line each, and the most names in a line for several."""
_SAID_IN_NOTES = {Cause.RECLAIM_OFF, Cause.NOT_SHORT, Cause.IN_PAIN}


def size(value: int | None) -> str:
    """A size, or a question mark for a gap."""
    return UNKNOWN if value is None else format_size(value)


def plan_text(plan: Plan, *, verbose: bool = False) -> Iterator[Block]:
    """A whole plan. For many domains the details are shown only when ``verbose``."""
    if plan.stopped:
        yield Line(plan.stopped, "yellow")
    yield from _host_text(plan)
    if plan.domains:
        yield ""
        yield _domain_table(plan.domains)
    for note in plan.notes:
        yield prose(f"  note: {note}")
    yield from _drift(plan.drift)
    objections = [*_objections(plan.domains, verbose=verbose), *gives_nothing(plan.domains, verbose=verbose)]
    if objections:
        yield ""
        yield from objections
    yield ""
    if not plan.actions:
        yield "No changes. The policy allows nothing that is worth taking back now."
        return
    details = verbose or len(plan.actions) <= _MOST_LINES
    yield _action_table(plan.actions, details=details)
    yield ""
    blocked = len(plan.actions) - len(plan.runnable)
    yield prose(f"Plan: {len(plan.runnable)} to change, {blocked} blocked. Frees {gains(plan)}.")
    yield prose(
        f"Headroom above the reserve now: {format_size(plan.host.headroom_bytes)} ({_kept(plan.host)})."
    )
    if not details:
        yield "-v shows the reason and the risk of each action."


def _host_text(plan: Plan) -> Iterator[Line]:
    host = plan.host
    ratio = host.budget.overcommit_ratio
    times = UNKNOWN if ratio is None else f"{ratio:.2f}x"
    yield prose(
        f"{host.name}: {_how_many(plan)}, {format_size(host.total_bytes)} RAM, "
        f"{format_size(host.budget.promised_bytes)} promised ({times}), "
        f"{format_size(host.available_bytes)} available{zfs_text(host.budget)}, kernel {host.kernel}"
    )
    if host.idle_bytes is not None and host.idle_after_seconds is not None:
        yield prose(
            f"  processes and files use {format_size(host.lru_bytes)}; at least "
            f"{format_size(host.idle_bytes)} of it is idle for {format_duration(host.idle_after_seconds)}"
        )
    if plan.domains:
        yield from _budget_text(host.budget)


def _kept(host: HostPlan) -> str:
    reserve = f"reserve {format_size(host.reserve_bytes)}"
    return f"{reserve}, reserved {format_size(host.reserved_bytes)}" if host.reserved_bytes else reserve


def _budget_text(budget: HostBudget) -> Iterator[Line]:
    huge = f", huge pages {format_size(budget.huge_pages_bytes)}" if budget.huge_pages_bytes else ""
    unknown = [basis for basis in budget.rests_on if basis.startswith(OVERHEAD)]
    but = f" ({unknown[0]}: it is counted as others)" if unknown else ""
    yield prose(
        f"  used: guests {format_size(budget.guests_bytes)}, QEMU overhead "
        f"{format_size(budget.overhead_bytes)}{but}, kernel and others "
        f"{format_size(budget.others_bytes)}{huge}"
    )
    if budget.limit is not None:
        yield prose(
            f"  limit: {budget.limit} allows guests {format_size(budget.available_bytes)} of the "
            f"{format_size(budget.free_bytes)} that the host has"
        )
    worst = budget.worst_case
    if not worst.wanted_bytes:
        text = "every guest already has all that it was promised"
    elif worst.wanted_bytes == worst.memory_bytes:
        text = f"guests want {format_size(worst.wanted_bytes)} more; the host has it in memory"
    else:
        text = f"guests want {format_size(worst.wanted_bytes)} more: {_worst_parts(worst)}"
    yield prose("  worst case: " + "; ".join((text, *worst.rests_on)))


def _worst_parts(worst: WorstCase) -> str:
    parts = [f"{format_size(worst.memory_bytes)} from memory"]
    if worst.swap_bytes:
        parts.append(
            f"{format_size(worst.swap_bytes)} by paging out {format_size(worst.pushed_bytes)} in "
            f"{format_duration(worst.seconds)} ({format_size(worst.max_write_bytes_per_second)}/s)"
        )
    if worst.nowhere_bytes:
        bounds = f" ({'; '.join(worst.bounds)})" if worst.bounds else ""
        parts.append(f"{format_size(worst.nowhere_bytes)} is missing{bounds}")
    return ", ".join(parts)


def explain_text(plan: Plan) -> Iterator[Block]:
    """All that a plan has about each of its domains."""
    if plan.stopped:
        yield Line(plan.stopped, "yellow")
    for domain in plan.domains:
        yield from _explained(domain, stopped=plan.stopped)
    if plan.actions:
        yield _action_table(plan.actions, details=True)
    for note in plan.notes:
        yield prose(f"  note: {note}")
    yield from _drift(plan.drift)
    if not plan.actions:
        yield "The plan has no action for it now."


def _explained(domain: DomainPlan, *, stopped: str | None) -> Iterator[Block]:
    who = domain.incarnation
    yield f"{who.name}  (class {domain.class_name}, uuid {who.uuid}, pid {who.pid})"
    yield prose(
        f"  memory: promised {format_size(domain.ceiling_bytes)}, now {format_size(domain.actual_bytes)}, "
        f"floor {format_size(domain.floor_bytes)}"
    )
    yield prose(
        f"  resident on the host: {size(domain.resident_bytes)} (hot {size(domain.hot_bytes)}, warm "
        f"{size(domain.warm_bytes)}, cold {size(domain.cold_bytes)}); swapped {size(domain.swapped_bytes)}"
    )
    yield prose(f"  working set: {size(domain.wss_bytes)}, confidence {domain.confidence}")
    if domain.cache is not None:
        held, kept = domain.cache.cache_bytes, domain.cache.cache_bytes - domain.cache.droppable_bytes
        why = f": {domain.cache.because}" if kept and domain.cache.because else ""
        yield prose(f"  file cache: {format_size(held)}, of which {format_size(kept)} is kept{why}")
    if domain.offers:
        offers = ", ".join(f"{format_size(size)} by {kind.value}" for kind, size in domain.offers.items())
        yield prose(f"  can give: {offers}")
    if domain.idle_histogram:
        yield _histogram(domain.idle_histogram)
    verdicts = {kind.value: verdict for kind, verdict in domain.eligible.items()}
    verdicts |= {f"{kind.value} in the guest": verdict for kind, verdict in domain.guest_help.items()}
    nothing = {reason.actuator.value: reason.text for reason in domain.gives_nothing}
    for kind, verdict in verdicts.items():
        usable = "can be used" + (f", takes nothing now: {nothing[kind]}" if kind in nothing else "")
        if stopped and kind == Actuator.PAGEOUT.value:
            usable = f"not now: {stopped}"
        yield f"  {kind}: {usable if verdict.ok else 'no: ' + verdict.reason}"
        if verdict.hint:
            yield f"      fix: {verdict.hint}"
    for gap in domain.gaps:
        yield prose(f"  cannot read its {gap.what}: {gap.why}")


def _histogram(buckets: Sequence[IdleBucket]) -> Table:
    most = max(bucket.resident_bytes for bucket in buckets) or 1
    rows = (
        (
            format_duration(b.min_idle_seconds),
            format_size(b.resident_bytes),
            "#" * round(_BAR_WIDTH * b.resident_bytes / most),
        )
        for b in buckets
    )
    return table(("idle for at least", "resident", ""), rows, names=(), left=(0, 2))


def _how_many(plan: Plan) -> str:
    considered, running = len(plan.domains), plan.host.running_domains
    return (
        counted(running, "domain")
        if considered == running
        else f"{considered} of {counted(running, 'domain')}"
    )


def _drift(drift: Iterable[Drift]) -> Iterator[Line]:
    for item in drift:
        yield prose(
            f"  drift: {item.what} of {item.domain.name} is {format_size(item.found_bytes)}; generation "
            f"{item.generation} left it at {format_size(item.left_bytes)}"
        )


def gains(plan: Plan) -> str:
    """What a plan frees, gives, and moves to another memory node, which frees nothing."""
    text = f"at least {format_size(plan.expected_bytes)}"
    text += f" and {format_size(plan.swap_given_bytes)} of swap" if plan.swap_given_bytes else ""
    text += f", gives {format_size(plan.given_bytes)}" if plan.given_bytes else ""
    return text + (f", moves {format_size(plan.moving_bytes)}" if plan.moving_bytes else "")


def _domain_table(domains: Sequence[DomainPlan]) -> Table:
    header = ("domain", "class", "memory", "resident", "hot", "warm", "cold", "swapped", "floor")
    rows = (
        (
            domain.incarnation.name,
            domain.class_name,
            format_size(domain.actual_bytes),
            *(size(v) for v in (domain.resident_bytes, domain.hot_bytes, domain.warm_bytes)),
            *(size(v) for v in (domain.cold_bytes, domain.swapped_bytes, domain.floor_bytes)),
        )
        for domain in domains
    )
    return table(header, rows, left=(0, 1))


def _objections(domains: Sequence[DomainPlan], *, verbose: bool) -> Iterator[Line]:
    """Actuators that cannot be used on a domain: a line each, or, for many, a line per reason."""
    said: dict[str, list[str]] = {}
    for domain in domains:
        for actuator, verdict in domain.eligible.items():
            if not verdict.ok and actuator is not Actuator.FREE_PAGE_REPORTING:
                said.setdefault(f"no {actuator.value}: {verdict.reason}", []).append(domain.incarnation.name)
        for kind, verdict in domain.guest_help.items():
            if not verdict.ok:
                what = f"no {kind.value} in the guest: {verdict.reason}"
                said.setdefault(what, []).append(domain.incarnation.name)
    if verbose or sum(map(len, said.values())) <= _MOST_LINES:
        each = sorted((name, what) for what, names in said.items() for name in names)
        yield from (prose(f"  {name}: {what}") for name, what in each)
    else:
        yield from (prose(f"  {_several(names)}: {what}") for what, names in said.items())


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(map(fitted, names[:_MOST_NAMES])) + more


def gives_nothing(domains: Sequence[DomainPlan], *, verbose: bool = False) -> Iterator[Line]:
    """Why domains give nothing, where no note says it: a line each, or, for many, a line per reason."""
    untold = [
        domain
        for domain in domains
        if any(reason.cause not in _SAID_IN_NOTES for reason in domain.gives_nothing)
    ]
    if verbose or len(untold) <= _MOST_LINES:
        for domain in untold:
            texts = dict.fromkeys(reason.text for reason in domain.gives_nothing)
            yield prose(f"  {domain.incarnation.name} gives nothing: {'; '.join(texts)}")
        return
    alike: dict[tuple[tuple[str, Cause], ...], list[str]] = {}
    for domain in untold:
        key = tuple((reason.actuator.value, reason.cause) for reason in domain.gives_nothing)
        alike.setdefault(key, []).append(domain.incarnation.name)
    for key, names in alike.items():
        why = "; ".join(f"{kind}: {IN_GENERAL[cause]}" for kind, cause in key)
        yield prose(
            f"  {_several(names)} {'give' if names[1:] else 'gives'} nothing (explain says why): {why}"
        )


def _action_table(actions: Sequence[Action], *, details: bool) -> Table:
    rows = tuple(
        Row(
            (
                "~" if action.blocked is None else "!",
                subject_of(action),
                name_of(action),
                *_change(action),
            ),
            below=tuple(_details(action, reason=details)),
            colour="" if action.blocked is None else "yellow",
        )
        for action in actions
    )
    header = ("", "domain", "action", "of", "before", "after", "effect")
    return Table(header, rows, names=frozenset({1}), left=frozenset({0, 1, 2, 3, 6}))


def _details(action: Action, *, reason: bool) -> Iterator[Line]:
    if action.blocked is not None:
        yield prose(f"      blocked: {action.blocked}")
    if reason:
        if isinstance(action, KsmAction):
            settings = ", ".join(f"{name} {value}" for name, value in action.settings)
            yield prose(f"      sets: {settings}")
        yield prose(f"      reason: {action.because}")
        yield prose(f"      risk: {action.risk}")


def _change(action: Action) -> tuple[str, str, str, str]:
    """What changes, from what to what, and the effect."""
    before, after = format_size(action.before_bytes), format_size(action.after_bytes)
    given = isinstance(action, BalloonAction | VirtioMemAction) and action.relieves
    amount = format_size(action.after_bytes - action.before_bytes if given else action.expected_bytes)
    match action:
        case GuestReclaimAction(min_age_seconds=age):
            return "guest", "-", "-", f"reclaims what is idle for {format_duration(age)}"
        case KsmAction():
            return "host", "-", "-", f"merges equal pages in {format_size(action.mergeable_bytes)}"
        case VirtioMemAction(device=device):
            return device, before, after, f"{'gives' if action.relieves else 'frees'} {amount}"
        case BalloonAction(relieves=True):
            return "guest", before, after, f"gives {amount}"
        case BalloonAction():
            return "guest", before, after, f"frees {_freed_text(action)}"
        case DemotionAction(node=node):
            return f"node {node}", before, after, f"moves {amount}"
        case _:
            return "resident", before, after, f"frees {amount}"


def _freed_text(action: BalloonAction) -> str:
    """What a balloon frees: memory, swap, or both."""
    freed, swapped = format_size(action.expected_bytes), format_size(action.expected_swap_bytes)
    if not action.expected_swap_bytes:
        return freed
    return f"{freed} of memory and {swapped} of swap" if action.expected_bytes else f"{swapped} of swap"
