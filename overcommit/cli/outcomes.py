"""The results of an apply as text: a line for each action, and a summary."""

from __future__ import annotations

from collections.abc import Iterator

from overcommit.cli.tables import Line, prose
from overcommit.model.action import (
    BalloonAction,
    DemotionAction,
    GuestReclaimAction,
    KsmAction,
    VirtioMemAction,
    name_of,
    subject_of,
)
from overcommit.model.outcome import Controller, Outcome, Report, Status
from overcommit.units import counted, format_duration, format_size

_PACED_BY = {
    Controller.OWN: ", paced by overcommit",
    Controller.DAMON_GOAL: ", paced by DAMON's goal tuner",
    None: "",
}
_COLOURS = {Status.DONE: "green", Status.FAILED: "red"}


def outcome_text(outcome: Outcome) -> Line:
    """The result of one action."""
    status = outcome.status.value
    head = f"  {status:<7} {subject_of(outcome.action)}  {name_of(outcome.action)}: "
    return Line(
        head + _result_text(outcome),
        _COLOURS.get(outcome.status, "yellow"),
        coloured=2 + len(status),
        prose=True,
    )


def _result_text(outcome: Outcome) -> str:
    action, took = outcome.action, format_duration(outcome.seconds)
    match action:
        case KsmAction():
            return f"{outcome.detail} ({took})"
        case GuestReclaimAction():
            return outcome.detail
        case VirtioMemAction(relieves=True) | BalloonAction(relieves=True):
            given = (outcome.left_at_bytes or action.before_bytes) - action.before_bytes
            return f"gave back {format_size(given)} in {took}; {outcome.detail}"
        case DemotionAction():
            done = f"moved {format_size(outcome.moved_bytes)} to node {action.destination}"
        case _:
            swapped = outcome.swap_freed_bytes
            of_swap = f" of memory and {format_size(swapped)} of swap" if swapped else ""
            done = f"freed {format_size(outcome.freed_bytes)}{of_swap}"
    return (
        f"{done} (planned {format_size(action.expected_bytes)}) in {took}{_PACED_BY[outcome.controller]}; "
        f"{counted(outcome.promoted_pages, 'page')} read back; {outcome.detail}"
    )


def report_text(report: Report) -> Iterator[Line]:
    """The result of an apply."""
    balance = report.balance
    gained = balance.available_after_bytes - balance.available_before_bytes
    yield Line("")
    yield prose(
        f"Freed {format_size(report.freed_bytes)} of guest memory (read from the host). Host available: "
        f"{format_size(balance.available_before_bytes)} -> {format_size(balance.available_after_bytes)} "
        f"({'+' if gained >= 0 else ''}{format_size(gained)})."
    )
    if report.moved_bytes:
        yield prose(f"Moved {format_size(report.moved_bytes)} to another memory node. This frees no memory.")
    zram = balance.zram_after_bytes - balance.zram_before_bytes
    swap = balance.swap_used_after_bytes - balance.swap_used_before_bytes
    if swap > 0:
        cost = f" zram uses {format_size(zram)} of memory for it." if zram > 0 else ""
        yield prose(f"Swap use grew by {format_size(swap)}.{cost}")
