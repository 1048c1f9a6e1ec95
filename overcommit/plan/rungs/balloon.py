"""Balloon: memory that the guest can spare by its own figures."""

from __future__ import annotations

from typing import NamedTuple

from overcommit.model.action import BalloonAction
from overcommit.model.facts import BalloonStats
from overcommit.model.guest_reserve import guest_reserve
from overcommit.plan.case import (
    Case,
    cache_text,
    guest_bytes,
    hot_bytes,
    kept_bytes,
    used_bytes,
    worthwhile,
)
from overcommit.units import format_size, round_up


class Inflation(NamedTuple):
    """A possible balloon size ``target_bytes``, the guest's size after it, and the gain.

    No more than the new size can be resident afterwards. ``in_swap_bytes`` is room in swap.
    """

    target_bytes: int
    left_bytes: int
    expected_bytes: int
    in_swap_bytes: int

    @property
    def gain_bytes(self) -> int:
        """The bytes that justify the action."""
        return max(self.expected_bytes, self.in_swap_bytes)


def measure(case: Case, stats: BalloonStats, resident: int, *, unplugged: int = 0) -> Inflation:
    """The inflation to what the guest keeps; see `inflate`."""
    bounds, definition = case.bounds, case.domain.definition
    size = guest_bytes(definition, stats) - unplugged - definition.leaving_bytes
    # The guest's kernel cannot use plugged memory for itself, so the reserve must be in the base memory.
    target = round_up(kept_bytes(case, stats) - (size - stats.actual_bytes))
    target = max(target, guest_reserve(bounds.ceiling_bytes))
    left = size - stats.actual_bytes + target
    # Resident memory above the present size (for example after a reset of the guest) is in the balloon
    # already, and is not freed again.
    expected = min(resident, size) - left
    return Inflation(target, left, expected, _swap_given(case, resident, size, left))


def inflate(case: Case, stats: BalloonStats, resident: int, *, unplugged: int = 0) -> BalloonAction | None:
    """The action that leaves the guest what it keeps; None: the host would gain too little.

    ``unplugged`` bytes are taken by virtio-mem before; ``resident`` is the most that this leaves.
    """
    bounds, definition = case.bounds, case.domain.definition
    has, used, hot = guest_bytes(definition, stats), used_bytes(definition, stats), hot_bytes(case)
    size = has - unplugged - definition.leaving_bytes
    found = measure(case, stats, resident, unplugged=unplugged)
    target, left, expected, in_swap = found
    if target >= stats.actual_bytes or found.gain_bytes < worthwhile(bounds.ceiling_bytes):
        return None
    return BalloonAction(
        id="",
        domain=case.domain.incarnation,
        before_bytes=stats.actual_bytes,
        after_bytes=target,
        expected_bytes=max(0, expected),
        expected_swap_bytes=in_swap,
        reason="guest_can_spare",
        because=f"the guest uses {format_size(used)} of {format_size(has)} and can give "
        f"{format_size(has - used)}{_other(has - size)}{cache_text(case, stats)}; "
        f"the host still holds {format_size(resident)} for it" + _swap_text(case, in_swap),
        risk=f"the guest keeps {format_size(left - used)} above its use"
        + (f"; {format_size(hot)} is hot" if hot > used else "")
        + f" (floor {format_size(bounds.floor_bytes)})"
        + ("; a guest that zeroes newly allocated pages reads them back from swap first" if in_swap else ""),
    )


def _swap_given(case: Case, resident: int, size: int, left: int) -> int:
    """The least bytes that leave swap: the host holds no more than the new size.

    QEMU discards what the balloon takes (MADV_DONTNEED, or a hole in a memfd), and with it its place in swap.
    """
    swapped = case.domain.residency.swapped_bytes if case.domain.residency else 0
    return max(0, min(resident + swapped, size) - left - min(resident, size))


def _swap_text(case: Case, in_swap: int) -> str:
    residency = case.domain.residency
    return f", and has {format_size(residency.swapped_bytes)} of it in swap" if in_swap and residency else ""


def _other(size: int) -> str:
    return f", {format_size(size)} of it in blocks" if size else ""
