"""Why permitted actuators take nothing from a domain without actions in the plan. Pure.

Each reason calls the functions that the mechanism called, and says which of them ended it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from overcommit.model.action import BalloonAction, ReportingAction, VirtioMemAction, kind_of
from overcommit.model.facts import HostFacts
from overcommit.model.guest_reserve import guest_reserve
from overcommit.model.heat import Heat
from overcommit.model.moments import Wall
from overcommit.model.plan import Cause, Reason
from overcommit.model.policy import Actuator, ReclaimMode
from overcommit.plan.arbiter import Candidate, within_step
from overcommit.plan.cache import CacheRule
from overcommit.plan.case import (
    Case,
    cache_for,
    guest_bytes,
    hot_bytes,
    kept_bytes,
    room_on,
    spare_bytes,
    used_bytes,
    worthwhile,
)
from overcommit.plan.cooldown import least_worth
from overcommit.plan.rungs.balloon import measure
from overcommit.plan.rungs.ladder import cold_bytes_to_move, on_cold_node
from overcommit.plan.rungs.pageout import pieces_in
from overcommit.plan.rungs.virtio_mem import unplug
from overcommit.units import format_duration, format_size

IN_GENERAL: Mapping[Cause, str] = {
    Cause.RECLAIM_OFF: "the policy says reclaim: off",
    Cause.NOT_SHORT: "the host is not short",
    Cause.OTHERS_GIVE: "other domains give enough",
    Cause.IN_PAIN: "under memory pressure",
    Cause.STEP: "more at a time than the step of the class",
    Cause.LITTLE: "too little to be worth a change",
    Cause.FLOOR: "at the floor",
    Cause.IN_USE: "the guests need what they have",
    Cause.CACHE: "file cache is kept",
    Cause.NOT_TOLD: "the guests do not report file cache and free memory apart",
    Cause.NOT_READ: "cannot be read",
    Cause.NOT_WATCHED: "not watched",
    Cause.WATCHED_TOO_SHORT: "not watched for long enough",
    Cause.NOTHING_COLD: "nothing was idle for long enough",
    Cause.COOLDOWN: "the last page-out was too recently",
    Cause.GUEST_CAN_GIVE: "what is idle may be memory that the guest can give",
    Cause.NOT_PAGEABLE: "what is idle cannot be paged out",
    Cause.SHARED: "what is idle is shared",
    Cause.NO_GAIN: "frees nothing",
    Cause.NODE_FULL: "the node is full",
}
"""The same for several domains, without figures."""

_Why = tuple[Cause, str]
_TAKING = (Actuator.VIRTIO_MEM, Actuator.BALLOON, Actuator.DEMOTION, Actuator.PAGEOUT)


class Sharing(NamedTuple):
    """How a plan shared out what it takes: the mode, and how much the host is short."""

    host: HostFacts
    taken_at: Wall
    reclaim: ReclaimMode
    short_bytes: int
    emergency: bool


def reasons(candidate: Candidate, sharing: Sharing) -> Iterator[Reason]:
    """Why nothing is taken, for each permitted actuator. For the others a verdict says it."""
    case = candidate.case
    of_all = _of_all(case, sharing)
    for actuator in (actuator for actuator in _TAKING if case.may(actuator)):
        yield Reason(actuator, *(of_all or _of_one(candidate, actuator, sharing)))


def _of_all(case: Case, sharing: Sharing) -> _Why | None:
    if sharing.reclaim is ReclaimMode.OFF:
        return Cause.RECLAIM_OFF, "the policy says reclaim: off"
    if case.pain is not None and not sharing.emergency:
        return Cause.IN_PAIN, f"it is over its SLO: {case.pain}"
    if sharing.reclaim is ReclaimMode.ON_PRESSURE and not sharing.short_bytes:
        return Cause.NOT_SHORT, "the host is not short (reclaim: on_pressure)"
    if case.domain.residency is None:
        return Cause.NOT_READ, "its resident memory cannot be read"
    return None


def _of_one(candidate: Candidate, actuator: Actuator, sharing: Sharing) -> _Why:
    for offer in candidate.offers:
        if kind_of(offer) is actuator:
            if within_step(candidate, offer, stepwise=not sharing.emergency):
                return Cause.OTHERS_GIVE, f"{actuator.value} is not needed: other domains give enough"
            step = format_size(int(candidate.case.domain_class.step * candidate.case.bounds.ceiling_bytes))
            return (
                Cause.STEP,
                f"its class allows {step} per plan, and {actuator.value} would take more at once",
            )
    return _NOT_OFFERED[actuator](candidate, sharing)


def _balloon(candidate: Candidate, _sharing: Sharing) -> _Why:
    case, least = candidate.case, _least(candidate.case)
    stats, held = case.domain.balloon, case.domain.held_bytes
    if stats is None:
        return Cause.NOT_READ, "its balloon cannot be read"
    without = measure(case._replace(cache=CacheRule.TAKEN), stats, held)
    if without.target_bytes < stats.actual_bytes and without.gain_bytes >= least:
        return _cache(case)
    found = measure(case, stats, held)
    if found.target_bytes >= stats.actual_bytes or found.gain_bytes <= 0:
        return _needed(case) if found.target_bytes >= stats.actual_bytes else _held(case)
    return _little(f"its balloon would free {format_size(found.gain_bytes)}", case)


def _virtio_mem(candidate: Candidate, _sharing: Sharing) -> _Why:
    case = candidate.case
    stats, devices = case.domain.balloon, case.domain.definition.virtio_mem
    if stats is None:
        return Cause.NOT_READ, "what it uses cannot be read"
    if not case.domain.definition.plugged_bytes:
        return Cause.LITTLE, "its memory device has no blocks"
    if next(unplug(case._replace(cache=CacheRule.TAKEN), stats, case.domain.held_bytes), None) is not None:
        return _cache(case)
    spare = guest_bytes(case.domain.definition, stats) - kept_bytes(case, stats)
    block = min(device.block_bytes for device in devices)
    if spare <= 0:
        return _needed(case)
    if spare < block:
        text = f"it can spare {format_size(spare)}; a block is {format_size(block)}"
        return Cause.LITTLE, text
    return _little("blocks of its memory device would free little", case)


def _demotion(candidate: Candidate, sharing: Sharing) -> _Why:
    case, node = candidate.case, candidate.case.policy.cold_node
    if case.policy.reclaim is not ReclaimMode.PROACTIVE:
        return Cause.NO_GAIN, "moving memory to another node does not help a host that is short"
    heat = case.heat
    if heat is None or heat.cold_bytes is None or heat.cold_bytes < _least(case):
        return _idle_too_little(case, heat)
    if node is not None and room_on(sharing.host, node) < _least(case):
        return Cause.NODE_FULL, f"node {node} has no room for it"
    there = format_size(on_cold_node(case))
    return _little(f"{there} is on node {node} already, and little more would go there", case)


def _pageout(candidate: Candidate, sharing: Sharing) -> _Why:
    case, heat = candidate.case, candidate.case.heat
    domain, residency, least = case.domain, case.domain.residency, _least(candidate.case)
    if residency is None or heat is None or heat.cold_bytes is None or heat.cold_bytes < least:
        return _idle_too_little(case, heat)
    idle = f"{format_size(heat.cold_bytes)} of it was idle for {format_duration(heat.cold_after_seconds)}"
    given = _given(candidate)
    if residency.resident_bytes - given - case.bounds.floor_bytes < least:
        return Cause.FLOOR, (
            f"{format_size(residency.resident_bytes)} is resident; its floor is "
            f"{format_size(case.bounds.floor_bytes)}"
        )
    pieces = tuple(pieces_in(heat.cold_pieces, domain.pageable))
    staying = sum(piece.resident_bytes for piece in heat.cold_pieces)
    staying -= sum(piece.resident_bytes for piece in pieces)
    if heat.cold_bytes - staying < least:
        return Cause.NOT_PAGEABLE, f"{idle}, but cannot be paged out"
    cold = cold_bytes_to_move(case, heat.cold_bytes, given) - staying
    if cold < least:
        can_give = format_size(max(given, spare_bytes(domain)))
        return Cause.GUEST_CAN_GIVE, (
            f"{idle}, but may be in the {can_give} that the guest does not use"
            + (", its file cache included" if _keeps_cache(case) else "")
        )
    if cold - on_cold_node(case) - (domain.merged_bytes or 0) - residency.cached_bytes < least:
        return Cause.SHARED, f"{idle}, but may be shared with other processes"
    if case.cooldown is not None and cold < least_worth(case.cooldown, least):
        ago = format_duration(sharing.taken_at - case.cooldown.ended_at)
        paged = format_size(case.cooldown.freed_bytes)
        return Cause.COOLDOWN, f"{paged} of it was paged out {ago} ago, and little more is idle yet"
    if case.cache is CacheRule.KEPT and _keeps_cache(case):  # as `overcommit.plan.rungs.ladder` does
        return Cause.CACHE, f"{idle}, but may be file cache that the guest keeps"
    return _little(f"{idle}, but in pieces that are too small", case)


_NOT_OFFERED: Mapping[Actuator, Callable[[Candidate, Sharing], _Why]] = {
    Actuator.VIRTIO_MEM: _virtio_mem,
    Actuator.BALLOON: _balloon,
    Actuator.DEMOTION: _demotion,
    Actuator.PAGEOUT: _pageout,
}


def _least(case: Case) -> int:
    return worthwhile(case.bounds.ceiling_bytes)


def _little(what: str, case: Case) -> _Why:
    return Cause.LITTLE, f"{what}; a change must be worth at least {format_size(_least(case))}"


def _held(case: Case) -> _Why:
    return Cause.LITTLE, (
        f"its balloon would free nothing: the host holds only {format_size(case.domain.held_bytes)} of it"
    )


def _needed(case: Case) -> _Why:
    """Why the guest keeps all of its memory: its use, or its floor."""
    stats, definition = case.domain.balloon, case.domain.definition
    assert stats is not None
    if kept_bytes(case, stats) <= case.bounds.floor_bytes:
        return Cause.FLOOR, f"it is at its floor of {format_size(case.bounds.floor_bytes)}"
    size, used, hot = guest_bytes(definition, stats), used_bytes(definition, stats), hot_bytes(case)
    reserve = guest_reserve(case.bounds.ceiling_bytes)
    if max(used, hot) + reserve < size and cache_for(case, stats) is None:
        text = "the guest does not report its file cache and its free memory apart"
        return Cause.NOT_TOLD, f"{text}, and keeps both"
    what = f"the guest has {format_size(hot)} hot" if hot > used else f"the guest uses {format_size(used)}"
    kept = format_size(reserve)
    return Cause.IN_USE, f"{what} of {format_size(size)}, and {kept} above that is its reserve"


def _keeps_cache(case: Case) -> bool:
    cache = cache_for(case, case.domain.balloon) if case.domain.balloon else None
    return cache is not None and cache.kept_bytes >= _least(case)


def _cache(case: Case) -> _Why:
    cache = cache_for(case, case.domain.balloon) if case.domain.balloon else None
    kept = format_size(cache.kept_bytes) if cache else "all"
    return Cause.CACHE, f"the guest keeps {kept} of file cache"


def _idle_too_little(case: Case, heat: Heat | None) -> _Why:
    if heat is None:
        return Cause.NOT_WATCHED, "its memory was not watched"
    after = format_duration(heat.cold_after_seconds)
    if heat.cold_bytes is None:
        watched = format_duration(heat.window_seconds)
        return Cause.WATCHED_TOO_SHORT, f"it was watched for {watched}; memory is cold after {after}"
    if not heat.cold_bytes:
        return Cause.NOTHING_COLD, f"no memory of it was idle for {after}"
    return _little(f"{format_size(heat.cold_bytes)} of it was idle for {after}", case)


def _given(candidate: Candidate) -> int:
    """Bytes that cheaper mechanisms would have taken before."""
    given = 0
    for offer in candidate.offers:
        if isinstance(offer, VirtioMemAction | BalloonAction):
            given += offer.before_bytes - offer.after_bytes
        elif isinstance(offer, ReportingAction):
            given += offer.expected_bytes
    return given
