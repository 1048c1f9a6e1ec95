"""Starts KSM, and restores it: one switch and its scan rate, for the whole host."""

from __future__ import annotations

import os

from overcommit.apply.context import ApplyContext
from overcommit.apply.routines import Routine
from overcommit.errors import HostError
from overcommit.host.kernel import Kernel
from overcommit.host.ksm import read_ksm, read_setting, write_setting
from overcommit.model.action import KsmAction
from overcommit.model.facts import KsmFacts, KsmRun
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome, Status
from overcommit.plan.rungs.ksm import gain_text
from overcommit.records.journal import Entry, KsmStarted
from overcommit.units import format_size

_WATCHED_SECONDS = 30.0
_POLL_SECONDS = 2.0
_ENOUGH_SCANS = 3
"""A page is merged when two scans found it the same. A third one merges with the results of the second."""
_PAGES_TO_SCAN = "pages_to_scan"
_UNADVISED_PAGES = "100"
"""The kernel's value when its advisor is turned off (DEFAULT_PAGES_TO_SCAN, mm/ksm.c)."""


def start_merging(context: ApplyContext, action: KsmAction) -> Routine[Outcome]:
    """Carry out the action, and watch the effect for a while. Merging goes on when this returns.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    began = context.clock.monotonic()
    try:
        found = _require(context.kernel, KsmRun.STOPPED)
        record = _record(context.kernel, action)
    except (HostError, OSError) as error:
        return _outcome(context, action, Status.FAILED, 0, began, _told(error))
    entry = context.generation.record(record)
    try:
        for name, value in action.settings:
            write_setting(context.kernel, name, value)
        last = _require(context.kernel, KsmRun.RUNNING)
    except (HostError, OSError) as error:
        detail = f"{_told(error)}; {_undone(context, entry, record)}"
        return _outcome(context, action, Status.FAILED, 0, began, detail)
    stopped = ""
    try:
        while (
            context.clock.monotonic() - began < _WATCHED_SECONDS
            and last.full_scans - found.full_scans < _ENOUGH_SCANS
        ):
            yield _POLL_SECONDS
            if reason := context.stop_because():
                stopped = f" unwatched (stopped: {reason})"
                break
            last = _require(context.kernel, KsmRun.RUNNING)
            context.progress(f"saved {format_size(last.sharing_bytes)}")
        status, detail = Status.DONE, f"{gain_text(last)}; KSM keeps running{stopped}"
    except (HostError, OSError) as error:
        status, detail = Status.PARTIAL, _told(error)
    return _outcome(context, action, status, last.gain_bytes, began, detail)


def stop_merging(kernel: Kernel, record: KsmStarted) -> str:
    """Restore each file that still has this program's value. Idempotent.

    Merged pages stay merged until they are written. To unmerge them (``run`` 2) would take all that memory at
    once, which a full host may not have.

    Returns:
        A sentence about what was restored.

    Raises:
        HostError: the kernel refused, and some files are not restored yet.
    """
    changed, kept = [], []
    try:
        for name in reversed(tuple(record.after)):
            now = read_setting(kernel, name)
            if now == record.before[name]:
                continue
            if now != record.after[name]:
                kept.append(f"{name} stays at {now}: somebody else changed it")
                continue
            write_setting(kernel, name, record.before[name])
            changed.append(f"{name} back at {record.before[name]}")
        facts = read_ksm(kernel)
    except (OSError, ValueError) as error:
        raise HostError(f"KSM cannot be put back: {_told(error)}") from error
    if not changed and not kept:
        return "KSM: nothing to put back"
    text = f"KSM: {', '.join([*changed, *kept])}"
    if facts is None or not facts.sharing_bytes:
        return text
    return (
        f"{text}; {format_size(facts.sharing_bytes)} stays saved until guests write to those pages; "
        f"unmerging them now would need that much memory"
    )


def _record(kernel: Kernel, action: KsmAction) -> KsmStarted:
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for name, value in action.settings:
        if name == "advisor_mode":
            # From now on it is the advisor's, and cannot be written; when that is off it is not as it was.
            before[_PAGES_TO_SCAN] = read_setting(kernel, _PAGES_TO_SCAN)
            after[_PAGES_TO_SCAN] = _UNADVISED_PAGES
        before[name], after[name] = read_setting(kernel, name), value
    return KsmStarted(before=before, after=after)


def _require(kernel: Kernel, wanted: KsmRun) -> KsmFacts:
    try:
        facts = read_ksm(kernel)
    except ValueError as error:
        raise HostError(f"KSM cannot be read: {error}") from error
    if facts is None or facts.run is not wanted:
        is_ = "gone" if facts is None else facts.run.name.lower()
        raise HostError(f"KSM is {is_}, not {wanted.name.lower()}: somebody else controls it")
    return facts


def _undone(context: ApplyContext, entry: Entry, record: KsmStarted) -> str:
    """Restore at once what was written before a failure. What cannot be restored stays in the journal."""
    try:
        stop_merging(context.kernel, record)
        context.generation.settle(entry)
    except HostError as error:
        return f"{error}; to try again: overcommitctl restore"
    return "everything was put back"


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'the kernel'}: {os.strerror(error.errno)}"
    return str(error)


def _outcome(
    context: ApplyContext, action: KsmAction, status: Status, merged: int, began: Monotonic, detail: str
) -> Outcome:
    return Outcome(
        action=action,
        status=status,
        freed_bytes=0,
        merged_bytes=merged,
        promoted_pages=0,
        seconds=context.clock.monotonic() - began,
        detail=detail,
    )
