"""Memory that the guest can spare, by its own word; and its way back."""

from __future__ import annotations

from overcommit.model.action import BalloonAction
from overcommit.model.facts import BalloonStats
from overcommit.model.past import LeftBalloon
from overcommit.model.policy import ReclaimMode
from overcommit.plan.case import Case, guest_reserve, round_up, used_bytes, worthwhile
from overcommit.units import MIB, format_size


def squeeze(case: Case, stats: BalloonStats, resident: int) -> BalloonAction | None:
    """Down to the guest's use and a reserve; None where that brings the host too little.

    What a guest could give includes all that it caches. As long as the host is not short, it keeps besides
    its reserve what was seen in steady use, cache or not: to read that from its disk again would hurt.
    """
    bounds = case.bounds
    used = used_bytes(stats)
    hot = case.heat.hot_bytes if case.heat and case.policy.reclaim is ReclaimMode.PROACTIVE else 0
    target = round_up(max(bounds.floor_bytes, max(used, hot) + guest_reserve(bounds.ceiling_bytes)))
    # No more than the new size can be resident afterwards. What is resident above the present size (after a
    # reset of the guest, say) the balloon has already, and does not give again.
    expected = min(resident, stats.actual_bytes) - target
    if target >= stats.actual_bytes or expected < worthwhile(bounds.ceiling_bytes):
        return None
    return BalloonAction(
        id="",
        domain=case.domain.incarnation,
        before_bytes=stats.actual_bytes,
        after_bytes=target,
        expected_bytes=expected,
        reason="guest_can_spare",
        because=f"the guest uses {format_size(used)} of {format_size(stats.actual_bytes)} and could "
        f"give {format_size(stats.actual_bytes - used)}; the host still holds {format_size(resident)} for it",
        risk=f"the guest keeps {format_size(target - used)} above its use"
        + (f", for {format_size(hot)} are hot" if hot > used else "")
        + f" (floor {format_size(bounds.floor_bytes)})",
    )


def relieve(case: Case, stats: BalloonStats, left: LeftBalloon) -> BalloonAction | None:
    """Give a guest that is short what we took from it, no more.

    It is short when less than half of the reserve is left that `squeeze` leaves it: between the two lies the
    hysteresis, so that a guest is not squeezed and relieved in turn.
    """
    ceiling = case.bounds.ceiling_bytes
    reserve, used = guest_reserve(ceiling), used_bytes(stats)
    usable = stats.actual_bytes - used
    target = min(round_up(used + reserve), left.baseline_bytes, ceiling)
    if usable >= reserve // 2 or target < stats.actual_bytes + MIB:
        return None
    return BalloonAction(
        id="",
        domain=case.domain.incarnation,
        before_bytes=stats.actual_bytes,
        after_bytes=target,
        expected_bytes=0,
        reason="guest_is_short",
        because=f"the guest has only {format_size(usable)} available of {format_size(stats.actual_bytes)}; "
        f"overcommit took its memory in generation {left.generation}",
        risk="the host has to find as much",
    )
