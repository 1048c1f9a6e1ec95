"""Turns DAMON_RECLAIM on in a guest through its agent, and restores its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from overcommit.apply.context import ApplyContext
from overcommit.apply.routines import Routine
from overcommit.errors import Gone, HostError
from overcommit.host.kernel import Kernel
from overcommit.host.process import read_start_time
from overcommit.hypervisor.guest_agent import DAMON_RECLAIM, GuestAgent
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.action import GuestReclaimAction
from overcommit.model.facts import DomainFacts
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome, Status
from overcommit.records.journal import GuestReclaimSet
from overcommit.units import format_duration

_ENABLED = "enabled"
# By default it sleeps while more than half of the guest is free or less than a fifth (per mille of memory).
# Of the guests that we look at the host wants both: memory above what they use, and what they use but little.
_WATERMARKS = {"wmarks_high": "1000", "wmarks_mid": "999", "wmarks_low": "50"}


def reclaim_inside(
    context: ApplyContext, action: GuestReclaimAction, domain: DomainFacts
) -> Routine[Outcome]:
    """Carry out one such action. What a guest does raises no error. It does not wait for the effect.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    began = context.clock.monotonic()
    agent = GuestAgent(context.hypervisor, action.domain.uuid)
    # The kernel takes them all when it is turned on.
    after = {**_WATERMARKS, "min_age": str(round(action.min_age_seconds * 1_000_000)), _ENABLED: "Y"}
    try:
        context.require_willing(domain)
        before = _read(agent, after)
        if before[_ENABLED] == "Y":
            raise HostError("somebody else turned DAMON_RECLAIM on in the guest")
    except HostError as error:
        return _outcome(context, action, Status.FAILED, str(error), began)
    context.generation.record(GuestReclaimSet(domain=action.domain, before=before, after=after))
    try:
        for name, value in after.items():
            yield 0.0  # an agent takes its time for each
            if reason := context.stop_because():
                detail = f"stopped: {reason}; to put it back: overcommitctl restore"
                return _outcome(context, action, Status.PARTIAL, detail, began)
            context.require_alive(domain)
            agent.write_file(f"{DAMON_RECLAIM}/{name}", value)
        found = _read(agent, after)
    except HostError as error:
        detail = f"{error}; to put it back: overcommitctl restore"
        return _outcome(context, action, Status.FAILED, detail, began)
    if found != after:
        names = ", ".join(name for name in after if found[name] != after[name])
        return _outcome(context, action, Status.PARTIAL, f"the guest's kernel refused {names}", began)
    age = format_duration(action.min_age_seconds)
    return _outcome(
        context, action, Status.DONE, f"on, for memory that is idle for {age}, until restore", began
    )


def put_back(kernel: Kernel, connect: Callable[[], Hypervisor], record: GuestReclaimSet) -> str:
    """Restore the guest's parameters, except those that somebody else changed since.

    Raises:
        HostError: its agent fails.
    """
    name = record.domain.name
    try:
        if read_start_time(kernel, record.domain.pid) == record.domain.start_time:
            agent = GuestAgent(connect(), record.domain.uuid)
            found = _read(agent, record.after)
            changed = [
                key for key, value in found.items() if value not in {record.after[key], record.before[key]}
            ]
            for key in reversed(list(record.after)):  # turned off first
                if key not in changed and found[key] != record.before[key]:
                    agent.write_file(f"{DAMON_RECLAIM}/{key}", record.before[key])
            if changed:
                others = ", ".join(changed)
                return f"DAMON_RECLAIM in {name} put back, except {others}: somebody else changed that"
            return f"DAMON_RECLAIM in {name} put back"
    except Gone:
        pass
    return f"domain {name} ended or was restarted: nothing to put back for DAMON_RECLAIM"


def _read(agent: GuestAgent, names: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in names:
        value = agent.read_setting(name)
        if value is None:
            raise HostError(f"the guest's kernel has no {DAMON_RECLAIM}/{name}")
        found[name] = value
    return found


def _outcome(
    context: ApplyContext, action: GuestReclaimAction, status: Status, detail: str, began: Monotonic
) -> Outcome:
    return Outcome(
        action=action,
        status=status,
        freed_bytes=0,
        promoted_pages=0,
        seconds=context.clock.monotonic() - began,
        detail=detail,
    )
