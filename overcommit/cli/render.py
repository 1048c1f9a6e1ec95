"""Plans, reports and tables as text: one line per thing, readable without colour.

Nothing is cut off but a long name in a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
    name_of,
    subject_of,
)
from overcommit.model.budget import HostBudget, WorstCase
from overcommit.model.heat import IdleBucket
from overcommit.model.outcome import Controller, Outcome, Report
from overcommit.model.plan import Cause, DomainPlan, Drift, HostPlan, Plan
from overcommit.model.policy import Actuator
from overcommit.plan.budget import OVERHEAD, zfs_text
from overcommit.plan.reasons import IN_GENERAL
from overcommit.shown import columns, fitted, plain
from overcommit.units import format_duration, format_size

UNKNOWN = "?"
_BAR_WIDTH = 30
_MOST_LINES, _MOST_NAMES = 6, 6
"""Domains that have a line each; names in a line of several."""
_SAID_IN_NOTES = {Cause.RECLAIM_OFF, Cause.NOT_SHORT, Cause.IN_PAIN}
_PACED_BY = {
    Controller.OWN: ", paced by overcommit",
    Controller.DAMON_GOAL: ", paced by DAMON's goal tuner",
    None: "",
}


def size(value: int | None) -> str:
    """A size, or a question mark for a gap."""
    return UNKNOWN if value is None else format_size(value)


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, names: Collection[int] = (0,)
) -> Iterator[str]:
    """Columns wide enough for their longest cell; the first to the left, the others to the right.

    The columns with ``names`` that others give are no wider than a name has to be.
    """
    shown = (tuple(plain(cell) for cell in row) for row in rows)
    cut = (tuple(fitted(cell) if i in names else cell for i, cell in enumerate(row)) for row in shown)
    lines = [header, *cut]
    widths = [max(columns(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        padding = [" " * (width - columns(cell)) for cell, width in zip(line, widths, strict=True)]
        cells = [line[0] + padding[0], *(p + cell for p, cell in zip(padding[1:], line[1:], strict=True))]
        yield "  " + "  ".join(cells).rstrip()


def plan_text(plan: Plan) -> Iterator[str]:
    """A whole plan."""
    if plan.stopped:
        yield plan.stopped
    host = plan.host
    ratio = host.budget.overcommit_ratio
    times = UNKNOWN if ratio is None else f"{ratio:.2f}x"
    yield (
        f"{host.name}: {_how_many(plan)}, {format_size(host.total_bytes)} RAM, "
        f"{format_size(host.budget.promised_bytes)} promised ({times}), "
        f"{format_size(host.available_bytes)} available{zfs_text(host.budget)}, kernel {host.kernel}"
    )
    if host.idle_bytes is not None and host.idle_after_seconds is not None:
        yield (
            f"  of {format_size(host.lru_bytes)} that processes and files take, at least "
            f"{format_size(host.idle_bytes)} idle for {format_duration(host.idle_after_seconds)}"
        )
    if plan.domains:
        yield from _budget_text(host.budget)
        yield ""
        yield from table(
            ("domain", "class", "memory", "resident", "hot", "warm", "cold", "swapped", "floor"),
            (_domain_row(domain) for domain in plan.domains),
        )
    for note in plan.notes:
        yield f"  note: {note}"
    yield from _drift(plan.drift)
    objections = [*_objections(plan), *gives_nothing(plan.domains)]
    if objections:
        yield ""
        yield from objections
    yield ""
    if not plan.actions:
        yield "No changes. There is nothing worth taking back under this policy."
        return
    for action in plan.actions:
        yield from _action_text(action)
    yield ""
    blocked = len(plan.actions) - len(plan.runnable)
    yield (
        f"Plan: {len(plan.runnable)} to change, {blocked} blocked. "
        f"Frees {gains(plan)}. Headroom above the reserve now: "
        f"{format_size(host.headroom_bytes)} ({_kept(host)})."
    )


def _kept(host: HostPlan) -> str:
    reserve = f"reserve {format_size(host.reserve_bytes)}"
    return f"{reserve}, reserved {format_size(host.reserved_bytes)}" if host.reserved_bytes else reserve


def _budget_text(budget: HostBudget) -> Iterator[str]:
    huge = f", huge pages {format_size(budget.huge_pages_bytes)}" if budget.huge_pages_bytes else ""
    unknown = [basis for basis in budget.rests_on if basis.startswith(OVERHEAD)]
    but = f" ({unknown[0]}: it is among the others)" if unknown else ""
    yield (
        f"  guests hold {format_size(budget.guests_bytes)}, QEMU beyond that "
        f"{format_size(budget.overhead_bytes)}{but}, kernel and others "
        f"{format_size(budget.others_bytes)}{huge}"
    )
    if budget.limit is not None:
        yield (
            f"  of {format_size(budget.free_bytes)} that could be had, {budget.limit} lets guests have "
            f"{format_size(budget.available_bytes)}"
        )
    worst = budget.worst_case
    if not worst.wanted_bytes:
        text = "none, every guest holds all it was promised"
    elif worst.wanted_bytes == worst.memory_bytes:
        text = f"guests want {format_size(worst.wanted_bytes)} more, which memory has"
    else:
        text = f"guests want {format_size(worst.wanted_bytes)} more: {_worst_parts(worst)}"
    yield "  worst case: " + "; ".join((text, *worst.rests_on))


def _worst_parts(worst: WorstCase) -> str:
    parts = [f"{format_size(worst.memory_bytes)} from memory"]
    if worst.swap_bytes:
        parts.append(
            f"{format_size(worst.swap_bytes)} by paging out {format_size(worst.pushed_bytes)} in "
            f"{format_duration(worst.seconds)} ({format_size(worst.max_write_bytes_per_second)}/s)"
        )
    if worst.nowhere_bytes:
        bounds = f" ({'; '.join(worst.bounds)})" if worst.bounds else ""
        parts.append(f"{format_size(worst.nowhere_bytes)} finds no room{bounds}")
    return ", ".join(parts)


def explain_text(plan: Plan) -> Iterator[str]:
    """All that a plan knows of each of its domains."""
    if plan.stopped:
        yield plan.stopped
    for domain in plan.domains:
        yield from _explained(domain, stopped=plan.stopped)
    for action in plan.actions:
        yield from _action_text(action)
    for note in plan.notes:
        yield f"  note: {note}"
    yield from _drift(plan.drift)
    if not plan.actions:
        yield "Nothing would be done about it now."


def _explained(domain: DomainPlan, *, stopped: str | None) -> Iterator[str]:
    who = domain.incarnation
    yield f"{who.name}  (class {domain.class_name}, uuid {who.uuid}, process {who.pid})"
    yield (
        f"  promised {format_size(domain.ceiling_bytes)}, has {format_size(domain.actual_bytes)} now, "
        f"never less than {format_size(domain.floor_bytes)}"
    )
    yield (
        f"  the host holds {size(domain.resident_bytes)}: hot {size(domain.hot_bytes)}, warm "
        f"{size(domain.warm_bytes)}, cold {size(domain.cold_bytes)}; {size(domain.swapped_bytes)} swapped out"
    )
    yield f"  working set {size(domain.wss_bytes)}, confidence {domain.confidence}"
    if domain.cache is not None:
        held, kept = domain.cache.cache_bytes, domain.cache.cache_bytes - domain.cache.droppable_bytes
        why = f": {domain.cache.because}" if kept and domain.cache.because else ""
        yield f"  file cache {format_size(held)}, of which it keeps {format_size(kept)}{why}"
    if domain.offers:
        offers = ", ".join(f"{format_size(size)} by {way.value}" for way, size in domain.offers.items())
        yield f"  could give {offers}"
    if domain.idle_histogram:
        yield from _histogram(domain.idle_histogram)
    verdicts = {way.value: verdict for way, verdict in domain.eligible.items()}
    verdicts |= {f"{way.value} in the guest": verdict for way, verdict in domain.guest_help.items()}
    nothing = {reason.actuator.value: reason.text for reason in domain.gives_nothing}
    for way, verdict in verdicts.items():
        usable = "can be used" + (f", and takes nothing: {nothing[way]}" if way in nothing else "")
        if stopped and way == Actuator.PAGEOUT.value:
            usable = f"not now: {stopped}"
        yield f"  {way}: {usable if verdict.ok else 'no: ' + verdict.reason}"
        if verdict.remedy:
            yield f"      fix: {verdict.remedy}"
    for gap in domain.gaps:
        yield f"  cannot read its {gap.what}: {gap.why}"


def _histogram(buckets: Sequence[IdleBucket]) -> Iterator[str]:
    most = max(bucket.resident_bytes for bucket in buckets) or 1
    rows = (
        (format_duration(b.min_idle_seconds), format_size(b.resident_bytes), _bar(b.resident_bytes / most))
        for b in buckets
    )
    for line in table(("idle for at least", "resident", ""), rows):
        yield line.rstrip()


def _bar(share: float) -> str:
    return ("#" * round(_BAR_WIDTH * share)).ljust(_BAR_WIDTH)


def _how_many(plan: Plan) -> str:
    considered, running = len(plan.domains), plan.host.running_domains
    return f"{running} domain(s)" if considered == running else f"{considered} of {running} domain(s)"


def _drift(drift: Iterable[Drift]) -> Iterator[str]:
    for item in drift:
        yield (
            f"  drift: {item.what} of {item.domain.name} is {format_size(item.found_bytes)}; generation "
            f"{item.generation} left it at {format_size(item.left_bytes)}"
        )


def gains(plan: Plan) -> str:
    """What a plan frees, what it gives, and what it moves to another memory node, which frees nothing."""
    text = f"at least {format_size(plan.expected_bytes)}"
    text += f" and {format_size(plan.swap_given_bytes)} of swap" if plan.swap_given_bytes else ""
    text += f", gives {format_size(plan.given_bytes)}" if plan.given_bytes else ""
    return text + (f", moves {format_size(plan.moving_bytes)}" if plan.moving_bytes else "")


def _domain_row(domain: DomainPlan) -> tuple[str, ...]:
    return (
        domain.incarnation.name,
        domain.class_name,
        format_size(domain.actual_bytes),
        *(size(v) for v in (domain.resident_bytes, domain.hot_bytes, domain.warm_bytes)),
        *(size(v) for v in (domain.cold_bytes, domain.swapped_bytes, domain.floor_bytes)),
    )


def _objections(plan: Plan) -> Iterator[str]:
    for domain in plan.domains:
        for actuator, verdict in domain.eligible.items():
            if not verdict.ok and actuator is not Actuator.FREE_PAGE_REPORTING:
                yield f"  {domain.incarnation.name}: no {actuator.value}: {verdict.reason}"
        for way, verdict in domain.guest_help.items():
            if not verdict.ok:
                yield f"  {domain.incarnation.name}: no {way.value} in the guest: {verdict.reason}"


def gives_nothing(domains: Sequence[DomainPlan]) -> Iterator[str]:
    """Why domains give nothing, where no note says it: a line each, or, of many, a line for each reason."""
    untold = [
        domain
        for domain in domains
        if any(reason.cause not in _SAID_IN_NOTES for reason in domain.gives_nothing)
    ]
    if len(untold) <= _MOST_LINES:
        for domain in untold:
            texts = dict.fromkeys(reason.text for reason in domain.gives_nothing)
            yield f"  {domain.incarnation.name} gives nothing: {'; '.join(texts)}"
        return
    alike: dict[tuple[tuple[str, Cause], ...], list[str]] = {}
    for domain in untold:
        key = tuple((reason.actuator.value, reason.cause) for reason in domain.gives_nothing)
        alike.setdefault(key, []).append(domain.incarnation.name)
    for key, names in alike.items():
        why = "; ".join(f"{way}: {IN_GENERAL[cause]}" for way, cause in key)
        who = ", ".join(map(fitted, names[:_MOST_NAMES]))
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        yield f"  {who}{more} {'give' if names[1:] else 'gives'} nothing (explain says why): {why}"


def _action_text(action: Action) -> Iterator[str]:
    mark = "~" if action.blocked is None else "!"
    yield f"  {mark} {subject_of(action)}  {name_of(action)}  {_change_text(action)}"
    if action.blocked is not None:
        yield f"      blocked: {action.blocked}"
    yield f"      because {action.because}"
    yield f"      risk: {action.risk}"


def _change_text(action: Action) -> str:
    before, after = format_size(action.before_bytes), format_size(action.after_bytes)
    amount = action.expected_bytes or action.after_bytes - action.before_bytes
    match action:
        case ReportingAction():
            what, does = "resident", "frees"
        case GuestReclaimAction(min_age_seconds=age):
            return f"what is idle for {format_duration(age)}"
        case VirtioMemAction(device=device):
            what, does = f"device {device}", "gives" if action.relieves else "frees"
        case BalloonAction():
            what, does = "guest memory", "gives" if action.relieves else "frees"
        case DemotionAction(node=node):
            what, does = f"on node {node}", "moves"
        case PageoutAction():
            what, does = "resident", "frees"
        case KsmAction(settings=settings):
            written = ", ".join(f"{name} {value}" for name, value in settings)
            return f"merges equal pages in {format_size(action.mergeable_bytes)}  sets {written}"
    swapped = action.expected_swap_bytes if isinstance(action, BalloonAction) else 0
    if swapped:
        return (
            f"{what} {before} -> {after}  {does} {format_size(action.expected_bytes)} of memory and "
            f"{format_size(swapped)} of swap"
        )
    return f"{what} {before} -> {after}  {does} {format_size(amount)}"


def outcome_text(outcome: Outcome) -> str:
    """One action's end."""
    action = outcome.action
    if isinstance(action, KsmAction):
        took = format_duration(outcome.seconds)
        return (
            f"  {outcome.status.value:<7} {subject_of(action)}  {name_of(action)}: {outcome.detail} ({took})"
        )
    if isinstance(action, VirtioMemAction | BalloonAction) and action.relieves:
        given = (outcome.left_at_bytes or action.before_bytes) - action.before_bytes
        return (
            f"  {outcome.status.value:<7} {action.domain.name}  {name_of(action)}: given back "
            f"{format_size(given)} in {format_duration(outcome.seconds)}; {outcome.detail}"
        )
    if isinstance(action, DemotionAction):
        got = f"node {action.destination} got {format_size(outcome.moved_bytes)}"
    elif isinstance(action, GuestReclaimAction):
        return f"  {outcome.status.value:<7} {action.domain.name}  {name_of(action)}: {outcome.detail}"
    else:
        swapped = outcome.swap_freed_bytes
        got = f"{format_size(swapped)} of swap are free again, " if swapped else ""
        got += f"host got {format_size(outcome.freed_bytes)}"
    return (
        f"  {outcome.status.value:<7} {action.domain.name}  {name_of(action)}: {got} of "
        f"{format_size(action.expected_bytes)} in {format_duration(outcome.seconds)}"
        f"{_PACED_BY[outcome.controller]}, "
        f"{outcome.promoted_pages} page(s) read back; {outcome.detail}"
    )


def report_text(report: Report) -> Iterator[str]:
    """The end of an apply."""
    balance = report.balance
    gained = balance.available_after_bytes - balance.available_before_bytes
    yield ""
    yield (
        f"Freed {format_size(report.freed_bytes)} of guest memory (read from the host). Host available: "
        f"{format_size(balance.available_before_bytes)} -> {format_size(balance.available_after_bytes)} "
        f"({'+' if gained >= 0 else ''}{format_size(gained)})."
    )
    if report.moved_bytes:
        yield f"Moved {format_size(report.moved_bytes)} to another memory node; that is no gain of the host."
    zram = balance.zram_after_bytes - balance.zram_before_bytes
    swap = balance.swap_used_after_bytes - balance.swap_used_before_bytes
    if swap > 0:
        cost = f", of which zram itself takes {format_size(zram)} of memory" if zram > 0 else ""
        yield f"Swap took {format_size(swap)}{cost}."
