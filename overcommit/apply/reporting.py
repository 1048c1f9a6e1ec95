"""Have a guest compact its free memory, and see what its free page reporting gives the host then."""

from __future__ import annotations

from overcommit.apply.worksite import Worksite
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


def compact_inside(site: Worksite, action: ReportingAction, domain: DomainFacts) -> Outcome:
    """Carry out one compaction; never raises for what a guest does.

    It leaves nothing to undo: the guest has its memory as before, and takes it from the host when it needs
    it.
    """
    began = site.clock.monotonic()
    freed, failure, detail = 0, None, "complete"
    try:
        site.require_willing(domain)
        before = site.residency(domain).resident_bytes
    except HostError as error:
        return _outcome(site, action, 0, str(error), str(error), began)
    try:
        agent = GuestAgent(site.hypervisor, action.domain.uuid)
        agent.write_file(COMPACT_MEMORY, "1", seconds=_COMPACT_SECONDS)
    except Gone as error:
        return _outcome(site, action, 0, str(error), str(error), began)
    except HostError as error:
        # It may compact all the same, if it only did not say so in time.
        failure = detail = str(error)
    try:
        freed, settled = _watch(site, action, domain, before)
        if failure is None and not settled:
            failure = detail = f"memory was still becoming free after {_LONGEST_SECONDS:.0f} s"
    except HostError as error:
        failure = detail = str(error)
    return _outcome(site, action, freed, failure, detail, began)


def _watch(site: Worksite, action: ReportingAction, domain: DomainFacts, before: int) -> tuple[int, bool]:
    """Wait until residency settles; returns how far it fell, and whether it had settled."""
    step = worthwhile(domain.definition.maximum_bytes)
    began = moved_at = site.clock.monotonic()
    marked = most = 0
    while True:
        site.clock.wait(_POLL_SECONDS)
        freed = before - site.residency(domain).resident_bytes
        now, most = site.clock.monotonic(), max(most, freed)
        if most >= marked + step:
            marked, moved_at = most, now
            site.progress(f"the guest reported {format_size(most)} of {format_size(action.expected_bytes)}")
        if now - moved_at > _IDLE_SECONDS:
            return max(0, freed), True
        if now - began > _LONGEST_SECONDS:
            return max(0, freed), False


def _outcome(
    site: Worksite, action: ReportingAction, freed: int, failure: str | None, detail: str, began: float
) -> Outcome:
    if failure is None and freed < MIB:
        failure = detail = "the guest compacted, and the host got nothing of it"
    return Outcome(
        action=action,
        status=Status.of(freed, enough=freed >= action.expected_bytes, failure=failure),
        freed_bytes=freed,
        promoted_pages=0,
        seconds=site.clock.monotonic() - began,
        detail=detail if freed >= action.expected_bytes or failure else "the rest stays in pieces",
    )
