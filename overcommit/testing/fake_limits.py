"""Limits of cgroups on a `FakeHost`, as the kernel keeps to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overcommit.units import MIB

if TYPE_CHECKING:
    from overcommit.testing.fake_host import FakeGuest, FakeHost


def swap_room(host: FakeHost, guest: FakeGuest) -> int:
    """What of a guest may still go to swap: there must be room below each limit (memory.swap.max)."""
    limits = (
        (0 if host.swapoff else host.swap_total_bytes, host.swap_used_bytes),
        (host.slice_swap_limit_bytes, host.swap_used_bytes - host.swap_of_others_bytes),
        (guest.swap_limit_bytes, len(guest.swapped) * MIB),
    )
    return min(limit - used for limit, used in limits if limit is not None)
