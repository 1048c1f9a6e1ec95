"""What each rung of the ladder could take from one domain, before the host's budgets.

The cheaper rung comes first, and the next one counts only on what is left, so that no page is taken twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from overcommit.model.facts import BalloonStats, DomainFacts, HostFacts
from overcommit.model.heat import ColdPiece, Heat
from overcommit.model.plan import Action, BalloonAction, DemotionAction, PageoutAction, Verdict
from overcommit.model.policy import Actuator, DomainClass, Policy, ReclaimMode
from overcommit.plan.eligibility import best_actor
from overcommit.units import MIB, format_duration, format_size


class Bounds(NamedTuple):
    """The bytes a domain is never taken below, and never given more than."""

    floor_bytes: int
    ceiling_bytes: int


def bounds_of(domain: DomainFacts, domain_class: DomainClass) -> Bounds:
    """Floor (rounded up to whole MiB) and ceiling from the class and the domain's own memory size."""
    ceiling = domain.definition.maximum_bytes
    return Bounds(min(_round_up(domain_class.floor * ceiling), ceiling), ceiling)


def guest_reserve(ceiling_bytes: int) -> int:
    """What a balloon leaves the guest above its use: 10 %, but 256 MiB (or a quarter) at least.

    Below that Linux guests start to thrash: Red Hat's tests leave 300 MiB, and libvirt's documentation warns
    of guests that hang when squeezed harder.
    """
    return _round_up(max(ceiling_bytes / 10, min(ceiling_bytes / 4, 256 * MIB)))


def worthwhile(ceiling_bytes: int) -> int:
    """The least gain worth an action: 2 % of the domain, 8 MiB at least."""
    return max(8 * MIB, ceiling_bytes // 50)


def room_on(host: HostFacts, nid: int) -> int:
    """What may still be moved to a memory node: 2 % of it, 64 MiB at least, stay free for others."""
    node = host.node(nid)
    return max(0, node.free_bytes - max(64 * MIB, node.total_bytes // 50)) if node else 0


def propose(
    domain: DomainFacts,
    heat: Heat | None,
    domain_class: DomainClass,
    policy: Policy,
    verdicts: Mapping[Actuator, Verdict],
    *,
    rooms: Mapping[int, int],
) -> Iterator[Action]:
    """The actions that this domain allows, in ladder order. Their ids are given later.

    ``rooms`` is what each memory node can still take.
    """
    bounds = bounds_of(domain, domain_class)
    if domain.residency is None:
        return
    resident = domain.residency.resident_bytes
    ballooned = spare = 0
    if verdicts[Actuator.BALLOON].ok and domain.balloon is not None:
        spare = max(0, resident - used_bytes(domain.balloon))
        action = _balloon(domain, domain.balloon, bounds, resident)
        if action is not None:
            ballooned = action.before_bytes - action.after_bytes
            yield action
    if heat is None or heat.cold_bytes is None:
        return
    # The guest gives its balloon whatever it likes best: all of it may be cold and resident. And at
    # least `spare` of what is resident holds nothing that the guest needs: to swap that out is waste.
    cold, candidates = heat.cold_bytes - max(ballooned, spare), heat.cold_pieces
    node = policy.cold_node
    # Moving memory from node to node brings a host that is short of it nothing.
    demotes = Actuator.DEMOTION in verdicts and verdicts[Actuator.DEMOTION].ok
    if demotes and policy.reclaim is ReclaimMode.PROACTIVE and domain.placement and node is not None:
        # How much lies there already is known, but not which pieces; presumably cold ones.
        there = domain.placement.get(node, 0)
        pieces = coldest(candidates, there + max(0, min(cold - there, rooms.get(node, 0))))
        moving = sum(p.resident_bytes for p in pieces) - there
        if moving >= worthwhile(bounds.ceiling_bytes):
            yield _demotion(domain, heat, domain_class, policy, node, there, moving, pieces)
            candidates = tuple(sorted(set(candidates) - set(pieces)))
            cold -= moving
        room, near = max(((room, nid) for nid, room in rooms.items() if nid != node), default=(0, 0))
        # All that is not hot may lie there: cold memory between hot pages passes for warm, and does not move.
        recalled = min(there - heat.cold_bytes - heat.warm_bytes, room)
        if recalled >= worthwhile(bounds.ceiling_bytes):
            # More lies there than is cold, so that nothing was demoted.
            yield _recall(domain, heat, domain_class, policy, node, near, there, recalled)
        cold -= there
    if verdicts[Actuator.PAGEOUT].ok:
        left = resident - ballooned
        pieces = coldest(candidates, min(cold, left - bounds.floor_bytes))
        if sum(p.resident_bytes for p in pieces) >= worthwhile(bounds.ceiling_bytes):
            yield _pageout(domain, heat, domain_class, policy, bounds, left, pieces)


def coldest(pieces: Iterable[ColdPiece], most_bytes: int) -> tuple[ColdPiece, ...]:
    """The pieces idle longest that together hold at most ``most_bytes``, by address."""
    taken: list[ColdPiece] = []
    left = most_bytes
    for piece in sorted(pieces, key=lambda p: (-p.idle_seconds, p.start)):
        if piece.resident_bytes <= left:
            left -= piece.resident_bytes
            taken.append(piece)
    return tuple(sorted(taken))


def _balloon(domain: DomainFacts, stats: BalloonStats, bounds: Bounds, resident: int) -> BalloonAction | None:
    used = used_bytes(stats)
    usable = stats.actual_bytes - used
    reserve = guest_reserve(bounds.ceiling_bytes)
    target = _round_up(max(bounds.floor_bytes, used + reserve))
    # No more than the new size can be resident afterwards. What is resident above the present size (after a
    # reset of the guest, say) the balloon has already, and does not give again.
    expected = min(resident, stats.actual_bytes) - target
    if target >= stats.actual_bytes or expected < worthwhile(bounds.ceiling_bytes):
        return None
    return BalloonAction(
        id="",
        domain=domain.incarnation,
        before_bytes=stats.actual_bytes,
        after_bytes=target,
        expected_bytes=expected,
        reason="guest_can_spare",
        because=f"the guest uses {format_size(used)} of {format_size(stats.actual_bytes)} and could "
        f"give {format_size(usable)}; the host still holds {format_size(resident)} for it",
        risk=f"the guest keeps {format_size(target - used)} above its use "
        f"(floor {format_size(bounds.floor_bytes)})",
    )


def used_bytes(stats: BalloonStats) -> int:
    """Memory the guest could not give; what it says is bounded by what it can have (rule S8)."""
    return stats.actual_bytes - min(stats.usable_bytes or 0, stats.actual_bytes)


def _demotion(
    domain: DomainFacts,
    heat: Heat,
    domain_class: DomainClass,
    policy: Policy,
    node: int,
    there: int,
    moving: int,
    pieces: tuple[ColdPiece, ...],
) -> DemotionAction:
    return DemotionAction(
        id="",
        domain=domain.incarnation,
        node=node,
        before_bytes=there,
        after_bytes=there + moving,
        expected_bytes=moving,
        cold_after_seconds=heat.cold_after_seconds,
        max_bytes_per_second=policy.swap.max_write_bytes_per_second,
        psi_some_limit=domain_class.objective.psi_some,
        pieces=pieces,
        reason="idle_memory",
        because=_idle_text(heat),
        risk="a page that turns out to be needed is slower to reach, and may stay so; "
        "the floor does not apply, because nothing leaves memory",
    )


def _recall(
    domain: DomainFacts,
    heat: Heat,
    domain_class: DomainClass,
    policy: Policy,
    node: int,
    near: int,
    there: int,
    recalled: int,
) -> DemotionAction:
    return DemotionAction(
        id="",
        domain=domain.incarnation,
        node=node,
        recall_to=near,
        before_bytes=there,
        after_bytes=there - recalled,
        expected_bytes=recalled,
        cold_after_seconds=heat.cold_after_seconds,
        max_bytes_per_second=policy.swap.max_write_bytes_per_second,
        psi_some_limit=domain_class.objective.psi_some,
        pieces=(),
        reason="memory_in_use",
        because=f"{format_size(there)} lie on node {node}, and no more than "
        f"{format_size((heat.cold_bytes or 0) + heat.warm_bytes)} of the domain are not hot",
        risk=f"node {near} gets fuller, also by pages that were needed only once",
    )


def _idle_text(heat: Heat) -> str:
    return (
        f"{format_size(heat.cold_bytes or 0)} resident and idle for at least "
        f"{format_duration(heat.cold_after_seconds)} (watched "
        f"{format_duration(heat.window_seconds)}, each region sampled {heat.samples} times in "
        f"{format_duration(heat.cold_after_seconds)}, confidence {heat.confidence})"
    )


def _pageout(
    domain: DomainFacts,
    heat: Heat,
    domain_class: DomainClass,
    policy: Policy,
    bounds: Bounds,
    resident: int,
    pieces: tuple[ColdPiece, ...],
) -> PageoutAction:
    amount = sum(piece.resident_bytes for piece in pieces)
    actor = policy.pageout_actor or best_actor(domain)
    return PageoutAction(
        id="",
        domain=domain.incarnation,
        before_bytes=resident,
        after_bytes=resident - amount,
        expected_bytes=amount,
        actor=actor,
        cold_after_seconds=heat.cold_after_seconds,
        max_bytes_per_second=policy.swap.max_write_bytes_per_second,
        psi_some_limit=domain_class.objective.psi_some,
        promotions_limit=domain_class.objective.promotions_per_minute,
        working_set_bytes=heat.hot_bytes + heat.warm_bytes,
        pieces=pieces,
        reason="idle_memory",
        because=f"{_idle_text(heat)}; floor {format_size(bounds.floor_bytes)}; by {actor.value}",
        risk="a page that turns out to be needed costs the guest one swap-in",
    )


def _round_up(size: float) -> int:
    return -int(-size // MIB) * MIB
