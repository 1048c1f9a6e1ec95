"""Has a guest compact its free memory, and measures what free page reporting then frees on the host."""

from __future__ import annotations

from overcommit.apply.context import ApplyContext
from overcommit.apply.routines import Routine, Standstill
from overcommit.errors import Gone, HostError
from overcommit.hypervisor.guest_agent import GuestAgent
from overcommit.model.action import ReportingAction
from overcommit.model.facts import DomainFacts
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome, Status
from overcommit.plan.case import worthwhile
from overcommit.units import MIB, format_size

COMPACT_MEMORY = "/proc/sys/vm/compact_memory"
_COMPACT_SECONDS = 60
"""The deadline of the compaction. The kernel answers when it has gone through all memory."""
_POLL_SECONDS = 1.0
_IDLE_SECONDS = 6.0
"""Free page reporting starts 2 s after memory became free, and goes on while there is more."""
_LONGEST_SECONDS = 300.0


def compact_inside(context: ApplyContext, action: ReportingAction, domain: DomainFacts) -> Routine[Outcome]:
    """Carry out one compaction. What a guest does raises no error.

    There is nothing to undo: the guest has its memory as before, and gets it from the host when it needs it.
    """
    began = context.clock.monotonic()
    freed, failure, stopped_by = 0, None, None
    try:
        context.require_willing(domain)
        before = context.resident_bytes(domain)
    except HostError as error:
        return _outcome(context, action, 0, began, failure=str(error))
    try:
        agent = GuestAgent(context.hypervisor, action.domain.uuid)
        agent.write_file(COMPACT_MEMORY, "1", seconds=_COMPACT_SECONDS)
    except Gone as error:
        return _outcome(context, action, 0, began, failure=str(error))
    except HostError as error:
        # It may compact all the same, if it only did not say so in time.
        failure = str(error)
    try:
        freed, unsettled, stopped_by = yield from _watch(context, action, domain, before)
        failure = failure or unsettled
    except HostError as error:
        failure = str(error)
    return _outcome(context, action, freed, began, failure=failure, stopped_by=stopped_by)


def _watch(
    context: ApplyContext, action: ReportingAction, domain: DomainFacts, before: int
) -> Routine[tuple[int, str | None, str | None]]:
    """Wait until residency no longer falls.

    Returns:
        The bytes by which it fell; a text if it was still falling, otherwise None; and why it was stopped
        early, or None.
    """
    step = worthwhile(domain.definition.maximum_bytes)
    began = context.clock.monotonic()
    still = Standstill(began)
    marked = most = 0
    while True:
        yield _POLL_SECONDS
        freed = before - context.resident_bytes(domain)
        now, most = context.clock.monotonic(), max(most, freed)
        still.look(now, moved=most >= marked + step)
        if most >= marked + step:
            marked = most
            context.progress(
                f"the guest reported {format_size(most)} of {format_size(action.expected_bytes)}"
            )
        if reason := context.stop_because():
            return max(0, freed), None, f"stopped: {reason}"
        if still.seconds > _IDLE_SECONDS:
            return max(0, freed), None, None
        if now - began > _LONGEST_SECONDS:
            return max(0, freed), f"memory was still being freed after {_LONGEST_SECONDS:.0f} s", None


def _outcome(
    context: ApplyContext,
    action: ReportingAction,
    freed: int,
    began: Monotonic,
    *,
    failure: str | None,
    stopped_by: str | None = None,
) -> Outcome:
    enough = freed >= action.expected_bytes
    if failure is None and stopped_by is None and freed < MIB:
        failure = "the guest compacted its memory, but the host got nothing"
    return Outcome(
        action=action,
        status=Status.of(freed, enough=enough, failure=failure),
        freed_bytes=freed,
        promoted_pages=0,
        seconds=context.clock.monotonic() - began,
        detail=failure or ("complete" if enough else stopped_by or "the rest stays in pieces"),
    )
