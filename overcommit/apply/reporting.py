"""Have a guest compact its free memory, and see what its free page reporting gives the host then."""

from __future__ import annotations

from overcommit.apply.context import ApplyContext
from overcommit.apply.routines import Routine, Standstill
from overcommit.errors import Gone, HostError
from overcommit.hypervisor.guest_agent import GuestAgent
from overcommit.model.action import ReportingAction
from overcommit.model.facts import DomainFacts
from overcommit.model.outcome import Outcome, Status
from overcommit.plan.case import worthwhile
from overcommit.units import MIB, format_size

COMPACT_MEMORY = "/proc/sys/vm/compact_memory"
_COMPACT_SECONDS = 60
"""The kernel answers when it is through all memory."""
_POLL_SECONDS = 1.0
_IDLE_SECONDS = 6.0
"""Free page reporting begins 2 s after something became free, and goes on while there is more."""
_LONGEST_SECONDS = 300.0


def compact_inside(context: ApplyContext, action: ReportingAction, domain: DomainFacts) -> Routine[Outcome]:
    """Carry out one compaction; never raises for what a guest does.

    It leaves nothing to undo: the guest has its memory as before, and takes it from the host when it needs
    it.
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
    """Wait until residency settles.

    Returns:
        How far it fell; that it had not settled yet, None if it had; and why it was stopped before that.
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
    began: float,
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
