"""All mechanisms in order for one domain, before the host's budgets.

The cheaper mechanism comes first, and the next one counts only on what is left, so that no page is taken
twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from overcommit.model.action import (
    BalloonAction,
    DemotionAction,
    DomainAction,
    GuestReclaimAction,
    ReportingAction,
    VirtioMemAction,
)
from overcommit.model.facts import BalloonStats
from overcommit.model.heat import ColdPiece, Heat
from overcommit.model.policy import Actuator, GuestHelp, ReclaimMode
from overcommit.plan.cache import CacheRule
from overcommit.plan.case import Case, cache_for, spare_bytes, worthwhile
from overcommit.plan.cooldown import least_worth
from overcommit.plan.rungs.balloon import inflate
from overcommit.plan.rungs.demotion import demote, recall
from overcommit.plan.rungs.pageout import accessed_within, coldest, page_out, pieces_in
from overcommit.plan.rungs.reporting import compact, reclaim_inside
from overcommit.plan.rungs.virtio_mem import unplug


def propose(case: Case, *, rooms: Mapping[int, int]) -> Iterator[DomainAction]:
    """The actions that are possible on this domain, in the order of the ladder. Ids are set later.

    ``rooms`` are the bytes that each memory node can still take.
    """
    domain, heat, bounds = case.domain, case.heat, case.bounds
    if domain.residency is None:
        return
    resident = domain.residency.resident_bytes
    given = reported = 0
    for inside in _inside(case, resident):
        reported += inside.expected_bytes
        yield inside
    if domain.balloon is not None:
        for action in _given(case, domain.balloon, domain.held_bytes - reported, reported):
            given += action.before_bytes - action.after_bytes
            yield action
    if heat is None or heat.cold_bytes is None:
        return
    pieces = tuple(pieces_in(heat.cold_pieces, domain.pageable))
    staying = _resident_in(heat.cold_pieces) - _resident_in(pieces)
    cold = cold_bytes_to_move(case, heat.cold_bytes, reported + given) - staying
    if case.may(Actuator.DEMOTION) and case.policy.reclaim is ReclaimMode.PROACTIVE:
        # Not on pressure: moving memory between nodes frees nothing on a short host.
        for move in _between_nodes(case, heat, cold, rooms):
            yield move
            if move.recall_to is None:
                pieces = tuple(sorted(set(pieces) - set(move.pieces)))
                cold -= move.expected_bytes
        cold -= on_cold_node(case)
    if case.may(Actuator.PAGEOUT):
        left = resident - reported - given
        # Shared memory stays in memory while others use it. Which pieces are shared is not known.
        cold -= (domain.merged_bytes or 0) + domain.residency.cached_bytes
        cold -= accessed_within(heat)
        chosen = coldest(_told_from_cache(case, pieces), min(cold, left - bounds.floor_bytes))
        least = least_worth(case.cooldown, worthwhile(bounds.ceiling_bytes))
        if sum(piece.resident_bytes for piece in chosen) >= least:
            yield page_out(case, heat, left, chosen)


def cold_bytes_to_move(case: Case, cold_bytes: int, given: int) -> int:
    """The cold bytes that may be moved, after the guest has ``given`` bytes itself.

    The guest chooses what it gives: all of that may be cold and resident, and so may its free memory. And at
    least `spare_bytes` of the resident memory are not needed by the guest; to swap those out is useless. They
    are mostly cache. Memory that was idle long enough for cache to be dropped is moved, whatever it holds.
    """
    stats, heat = case.domain.balloon, case.heat
    if stats is None or heat is None or not (case.may(Actuator.VIRTIO_MEM) or case.may(Actuator.BALLOON)):
        return cold_bytes - given
    spare, cache = spare_bytes(case.domain), cache_for(case, stats)
    cold = cold_bytes - max(given, spare)
    least = max(heat.cold_after_seconds, case.domain_class.cache_after_seconds)
    if cache is None or heat.unused_bytes is None or heat.unused_after_seconds < least:
        return cold
    return max(cold, heat.unused_bytes - max(given, spare - cache.kept_bytes))


def _told_from_cache(case: Case, pieces: Sequence[ColdPiece]) -> Sequence[ColdPiece]:
    """The cold pieces that are certainly not cache that the guest keeps: idle for ``cache_after``.

    Other pieces may be such cache. Idle memory beside used cache seems distinct, but a watch sometimes misses
    a part of a short read of files, which then looks as idle. On a short host cache is not kept.
    """
    stats = case.domain.balloon
    if stats is None or case.cache is not CacheRule.KEPT:
        return pieces
    cache = cache_for(case, stats)
    if cache is None or cache.kept_bytes < worthwhile(case.bounds.ceiling_bytes):
        return pieces
    after = case.domain_class.cache_after_seconds
    return [piece for piece in pieces if piece.idle_seconds >= after]


def _resident_in(pieces: Iterable[ColdPiece]) -> int:
    return sum(piece.resident_bytes for piece in pieces)


def _inside(case: Case, resident: int) -> Iterator[ReportingAction | GuestReclaimAction]:
    """The actions inside of the guest."""
    if case.may_help(GuestHelp.COMPACTION) and case.domain.balloon is not None:
        action = compact(case, case.domain.balloon, resident)
        if action is not None:
            yield action
    if case.may_help(GuestHelp.DAMON_RECLAIM) and case.policy.reclaim is ReclaimMode.PROACTIVE:
        # Not on pressure: the amount that it frees, and when, is not known.
        yield from reclaim_inside(case, resident)


def _given(
    case: Case, stats: BalloonStats, resident: int, reported: int
) -> Iterator[VirtioMemAction | BalloonAction]:
    """The actions by which the guest gives memory: whole blocks first, the rest by its balloon."""
    unplugged = 0
    if case.may(Actuator.VIRTIO_MEM):
        for action in unplug(case, stats, resident, reported=reported):
            unplugged += action.before_bytes - action.after_bytes
            resident -= action.expected_bytes
            yield action
    if case.may(Actuator.BALLOON):
        reduced = inflate(case, stats, resident, unplugged=unplugged)
        if reduced is not None:
            yield reduced


def on_cold_node(case: Case) -> int:
    """The domain's bytes on the policy's ``cold_node``."""
    placement, node = case.domain.placement, case.policy.cold_node
    return placement.get(node, 0) if placement and node is not None else 0


def _between_nodes(case: Case, heat: Heat, cold: int, rooms: Mapping[int, int]) -> Iterator[DemotionAction]:
    """A demotion, or a recall."""
    node = case.policy.cold_node
    if node is None or not case.domain.placement or heat.cold_bytes is None:
        return
    # The amount that lies there already is known, but not which pieces. Presumably they are cold.
    there, least = on_cold_node(case), worthwhile(case.bounds.ceiling_bytes)
    pieces = coldest(heat.cold_pieces, there + max(0, min(cold - there, rooms.get(node, 0))), whole=True)
    moving = sum(piece.resident_bytes for piece in pieces) - there
    if moving >= least:
        yield demote(case, heat, node, there, moving, pieces)
        cold -= moving
    room, near = max(((room, nid) for nid, room in rooms.items() if nid != node), default=(0, 0))
    # Memory that is not hot may stay there: cold memory between hot pages counts as warm, and is not moved.
    recalled = min(there - heat.cold_bytes - heat.warm_bytes, room)
    if recalled >= least:
        # More lies there than is cold, so nothing was demoted.
        yield recall(case, heat, node, near, there, recalled)
