"""Limits of cgroups on a `FakeHost`, as the kernel enforces them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overcommit.units import MIB

ZSWAP_RATIO = 3
"""The compression ratio of zswap."""

if TYPE_CHECKING:
    from overcommit.testing.fake_host import FakeGuest, FakeHost


def swap_room(host: FakeHost, guest: FakeGuest) -> int:
    """Bytes of a guest that may still go to swap. Each limit must have room (memory.swap.max)."""
    limits = (
        (0 if host.swapoff else host.swap_total_bytes, host.swap_used_bytes),
        (host.slice_swap_limit_bytes, host.swap_used_bytes - host.swap_of_others_bytes),
        (guest.swap_limit_bytes, len(guest.swapped) * MIB),
    )
    room = min(limit - used for limit, used in limits if limit is not None)
    if host.zswap and not host.slice_zswap_writeback and host.slice_zswap_limit_bytes is not None:
        # What zswap does not take stays: with 3:1, and looking at its limit before it takes a page.
        room = min(room, ZSWAP_RATIO * host.slice_zswap_limit_bytes - zswapped(host))
    return room


def zswapped(host: FakeHost) -> int:
    """Bytes of guests in zswap, uncompressed: all that they have in swap, without any writeback."""
    return host.swap_used_bytes - host.swap_of_others_bytes if host.zswap else 0
