"""Changes how much memory a guest has: down in steps that are verified on the host, up at once.

The guest's pressure is checked after each step. Its size is set by its balloon or a virtio-mem device.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from overcommit.apply.claims import drop, write_claim
from overcommit.apply.context import ApplyContext, Held
from overcommit.apply.resize_end import (
    TOLERANCE_BYTES,
    Failed,
    GivenBack,
    Growing,
    Observation,
    Reached,
    ResizeEnd,
    ended_early,
)
from overcommit.apply.returning import LONGEST_SECONDS, Nudge
from overcommit.apply.routines import Routine
from overcommit.errors import HostError
from overcommit.hypervisor.guest_figures import read_balloon, read_definition
from overcommit.model.action import RELIEF_REASONS, BalloonAction, VirtioMemAction
from overcommit.model.facts import DomainFacts
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Fault, Outcome, Status
from overcommit.model.part import MemoryPart
from overcommit.plan.case import worthwhile
from overcommit.plan.limits import Place, Room, Rooms, own_place
from overcommit.plan.nodes import nodes_of
from overcommit.records.journal import GuestRecord, resized
from overcommit.units import MIB, format_size

_STUCK_SECONDS = 30.0
_STEP_SECONDS = 300.0
_POLL_SECONDS = 1.0
_STEP_SHARE = 0.125
"""The share of the guest's size per step. The guest gets time to drop cache, and pressure time to show."""
_PHANTOM_SHARE = 0.5
"""If the guest gave its memory and the host got less than this share, the guest gets its memory back (S6)."""

SizeAction = BalloonAction | VirtioMemAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Resizable:
    """A part of a domain's memory that is resized in whole units.

    ``boots``: whether the reported size may be old because the guest is booting; None: it is never old.
    """

    part: MemoryPart
    unit_bytes: int
    size: Callable[[], int]
    move: Callable[[int], None]
    boots: Callable[[], bool] | None = None

    @property
    def name(self) -> str:
        """For people."""
        return self.part.what


def grow(
    context: ApplyContext, action: SizeAction, domain: DomainFacts, resizable: Resizable
) -> Routine[Outcome]:
    """Give the guest memory at once. It is short, or boots. Whether it uses the memory is not checked.

    A journal that accepts no record does not stop this, if restore would give the same memory back.

    Raises:
        HostError: the journal cannot be written, and has no record to restore from; nothing was changed then.
    """
    began = context.clock.monotonic()
    reached = action.before_bytes
    try:
        context.require_willing(domain)
        action, bound = _within_limits(context, action, domain, resizable)
    except HostError as error:
        return _outcome(context, action, Failed(error=error, left_at_bytes=None), began)
    unrecorded = None
    try:
        context.generation.record(_record(resizable, action, action.after_bytes))
    except HostError as error:
        way_back = context.generation.way_back(resizable.part)
        if way_back is None or way_back < action.after_bytes:
            raise
        context.generation.owe(_record(resizable, action, action.after_bytes))
        unrecorded = error
    try:
        _tell_domain(context, resizable, action.after_bytes)
        resizable.move(action.after_bytes)
    except HostError as error:
        _tell_domain(context, resizable, action.before_bytes)
        unrecorded = _note(context, resizable, action, action.before_bytes)
        failed = Failed(error=error, left_at_bytes=action.before_bytes, unrecorded=unrecorded)
        return _outcome(context, action, failed, began)
    target = action.after_bytes
    up_at = began

    def ask(size: int) -> None:
        context.require_willing(domain)  # it may have begun to migrate, or to live anew, since
        resizable.move(size)

    nudge = Nudge(context.clock, ask, action.after_bytes, resizable.boots) if resizable.boots else None
    try:
        while reached < action.after_bytes - TOLERANCE_BYTES:
            yield _POLL_SECONDS
            context.require_alive(domain)
            reached, now = resizable.size(), context.clock.monotonic()
            if nudge is not None and nudge.look(reached):
                up_at = now
            if now - up_at > _STUCK_SECONDS or now - began > LONGEST_SECONDS:
                growing = Growing(size_bytes=reached, left_at_bytes=target, unrecorded=unrecorded)
                return _outcome(context, action, growing, began)
    except HostError as error:
        return _outcome(context, action, Failed(error=error, left_at_bytes=target), began)
    finally:
        if nudge is not None:
            nudge.end()
    end = Reached(
        part=resizable.name, size_bytes=reached, bound=bound, left_at_bytes=target, unrecorded=unrecorded
    )
    return _outcome(context, action, end, began)


def _within_limits(
    context: ApplyContext, action: SizeAction, domain: DomainFacts, resizable: Resizable
) -> tuple[SizeAction, Room | None]:
    """The action, cut to what limits and memory nodes allow now, and the room that cut it; None: nothing did.

    The limits may have been lowered, or others may have taken the room, since the plan was made. Giving a
    guest all that it had originally is not bounded, because it had that under the same limits.

    Raises:
        HostError: they leave it nothing, or cannot be read.
    """
    if action.reason not in RELIEF_REASONS:
        return action, None
    now = context.nodes()
    place = Place(context.limits(domain).memory, nodes_of(domain, now))
    rooms, own = Rooms([place], now.free_bytes), own_place(place.limits)
    if own.limits:
        rooms.take(own, max(0, _guest_bytes(context, domain) - context.resident_bytes(domain)))
    room, size = rooms.room(place), action.after_bytes - action.before_bytes
    if room is None or room.size_bytes >= size:
        return action, None
    size = room.size_bytes // resizable.unit_bytes * resizable.unit_bytes
    if not size:
        raise HostError(f"its limit is reached ({room.why})")
    return dataclasses.replace(action, after_bytes=action.before_bytes + size), room


def shrink(
    context: ApplyContext, action: SizeAction, domain: DomainFacts, resizable: Resizable
) -> Routine[Outcome]:
    """Take the action's memory. What a guest does raises no error.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    began = context.clock.monotonic()
    try:
        context.require_willing(domain)
        before = context.held(domain)
        faults = _major_faults(context, domain)
        guest = _guest_bytes(context, domain)
    except HostError as error:
        return _outcome(context, action, Failed(error=error, left_at_bytes=None), began)
    context.generation.record(_record(resizable, action, action.after_bytes))
    _tell_domain(context, resizable, action.after_bytes)
    given, promoted = Held(0, 0), 0
    end = yield from _shrink_stepwise(context, action, domain, resizable, guest)
    left_at = action.before_bytes if end.left_at_bytes is None else end.left_at_bytes
    fault = end.fault
    try:
        given = before.given_up(context.held(domain))
        if end.accountable and _is_phantom(given, action, before, guest, left_at):
            fault = Fault.PHANTOM
            unrecorded = _leave(context, action, domain, resizable, action.before_bytes, told=left_at)
            end = GivenBack(
                gave_bytes=action.before_bytes - left_at,
                got_bytes=given.resident_bytes,
                left_at_bytes=action.before_bytes,
                unrecorded=unrecorded,
            )
        promoted = _major_faults(context, domain) - faults
    except HostError as error:
        if not isinstance(end, Failed):
            end = Failed(error=error, left_at_bytes=end.left_at_bytes, known_fault=fault)
    return _outcome(context, action, end, began, given=given, promoted=promoted)


def _is_phantom(given: Held, action: SizeAction, before: Held, guest: int, left_at: int) -> bool:
    """Whether the host got too little of what the guest gave: of memory, or of memory and swap together."""
    due = _due(action, before.resident_bytes, guest, left_at)
    if due >= worthwhile(guest) and given.resident_bytes < _PHANTOM_SHARE * due:
        return True
    whole = _due(action, sum(before), guest, left_at)
    return whole >= worthwhile(guest) and sum(given) < _PHANTOM_SHARE * whole


def _guest_bytes(context: ApplyContext, domain: DomainFacts) -> int:
    """The guest's present memory, which an earlier action of the plan may have changed."""
    uuid, most = domain.incarnation.uuid, domain.definition.maximum_bytes
    actual = read_balloon(context.hypervisor, uuid, now=context.clock.now(), most_bytes=most).actual_bytes
    if not domain.definition.virtio_mem:
        return actual
    return actual + read_definition(context.hypervisor, uuid).definition.plugged_bytes


def _due(action: SizeAction, before: int, guest: int, left_at: int) -> int:
    """The least that the host must have got: no more than the guest's new size can be resident.

    For virtio-mem also the plan's expected bytes, less blocks that were not unplugged.
    """
    due = min(before, guest) - (guest - action.before_bytes + left_at)
    if isinstance(action, VirtioMemAction):
        due = max(due, action.expected_bytes - (left_at - action.after_bytes))
    return due


def _shrink_stepwise(
    context: ApplyContext, action: SizeAction, domain: DomainFacts, resizable: Resizable, guest: int
) -> Routine[ResizeEnd]:
    """Shrink step by step.

    If it ends early, the target is set to the reached size. Otherwise the guest would go on to shrink, under
    pressure, without supervision.
    """
    step = max(round(_STEP_SHARE * guest), 32 * MIB)
    step = max(step // resizable.unit_bytes, 1) * resizable.unit_bytes
    reached = told = action.before_bytes
    try:
        while told > action.after_bytes:
            previous, target = reached, max(action.after_bytes, told - step)
            context.require_alive(domain)
            resizable.move(target)
            told = target
            seen = yield from _wait_for_size(context, action, domain, resizable, target)
            reached = min(seen.size, action.before_bytes)  # the guest's word cannot raise it
            context.progress(f"{resizable.name} at {format_size(reached)}")
            early = ended_early(seen, reached, previous, target, domain, resizable.name)
            if early is not None:
                unrecorded = _leave(context, action, domain, resizable, early.left_at_bytes, told=told)
                return dataclasses.replace(early, unrecorded=unrecorded)
    except HostError as error:
        try:
            unrecorded = _leave(context, action, domain, resizable, reached, told=told)
        except HostError:  # libvirt took no more words
            return Failed(error=error, left_at_bytes=told)
        return Failed(error=error, left_at_bytes=reached, unrecorded=unrecorded)
    except BaseException:
        with contextlib.suppress(HostError):
            _leave(context, action, domain, resizable, reached, told=told)
        raise
    return Reached(part=resizable.name, size_bytes=reached, left_at_bytes=action.after_bytes)


def _leave(
    context: ApplyContext,
    action: SizeAction,
    domain: DomainFacts,
    resizable: Resizable,
    size: int,
    *,
    told: int,
) -> HostError | None:
    """Leave the part at a size above its target, and record that for later plans.

    Returns:
        Why the journal accepts no record; None: it has one. The original size is in it already.

    Raises:
        HostError: libvirt does not set the size; the target stays at ``told``.
    """
    context.require_alive(domain)
    unrecorded = _note(context, resizable, action, size)
    try:
        _tell_domain(context, resizable, size)
        resizable.move(size)
    except HostError:
        _tell_domain(context, resizable, told)
        _note(context, resizable, action, told)
        raise
    return unrecorded


def _tell_domain(context: ApplyContext, resizable: Resizable, size: int) -> None:
    """Write the claim while the size is below the original. Where that fails, the domain has no claim."""
    baseline = context.generation.way_back(resizable.part)
    with contextlib.suppress(HostError):
        if baseline is not None and size < baseline:
            write_claim(context.hypervisor, resizable.part, baseline)
        else:
            drop(context.hypervisor, resizable.part)


def _record(resizable: Resizable, action: SizeAction, size: int) -> GuestRecord:
    return resized(resizable.part, before_bytes=action.before_bytes, after_bytes=size)


def _note(context: ApplyContext, resizable: Resizable, action: SizeAction, size: int) -> HostError | None:
    record = _record(resizable, action, size)
    try:
        context.generation.record(record)
    except HostError as error:
        context.generation.owe(record)
        return error
    return None


def _wait_for_size(
    context: ApplyContext, action: SizeAction, domain: DomainFacts, resizable: Resizable, target: int
) -> Routine[Observation]:
    """Wait until the size is reached or no longer changes, then for statistics that are newer than that."""
    best = action.before_bytes
    began = moved_at = context.clock.monotonic()
    settled_at: Monotonic | None = None
    patience = max(_STUCK_SECONDS, 2 * domain.definition.stats_period_seconds + 2)
    while True:
        size = resizable.size()
        if reason := context.stop_because():
            return Observation(size, None, reason)
        stats = read_balloon(
            context.hypervisor,
            action.domain.uuid,
            now=context.clock.now(),
            most_bytes=domain.definition.maximum_bytes,
        )
        if stats.age_seconds is None:
            return Observation(size, None, reboots=True)
        now = context.clock.monotonic()
        if size <= best - MIB:
            best, moved_at = size, now
        there = abs(size - target) <= TOLERANCE_BYTES
        if settled_at is None and (there or now - moved_at > _STUCK_SECONDS or now - began > _STEP_SECONDS):
            settled_at = now
        if settled_at is not None:
            since = now - settled_at
            if stats.age_seconds <= since:
                return Observation(size, stats.usable_bytes)
            if since > patience:
                return Observation(size, None)
        yield _POLL_SECONDS


def _major_faults(context: ApplyContext, domain: DomainFacts) -> int:
    return cgroup.major_faults if (cgroup := context.cgroup(domain)) else 0


def _outcome(
    context: ApplyContext,
    action: SizeAction,
    end: ResizeEnd,
    began: Monotonic,
    *,
    given: Held | None = None,
    promoted: int = 0,
) -> Outcome:
    detail, status = end.sentence, end.status
    if status is Status.FAILED:
        status = Status.of(given.resident_bytes if given else 0, enough=False, failure=detail)
    return Outcome(
        action=action,
        status=status,
        freed_bytes=given.resident_bytes if given else 0,
        swap_freed_bytes=given.swapped_bytes if given else 0,
        promoted_pages=promoted,
        seconds=context.clock.monotonic() - began,
        detail=detail,
        fault=end.fault,
        left_at_bytes=end.left_at_bytes,
    )
