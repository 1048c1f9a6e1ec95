"""What a guest is left to live on, and from when it is short of memory. Pure.

Plans, the daemon between two plans, and a balloon on its way down must mean the same by it: else one takes
what another gives back.
"""

from __future__ import annotations

from overcommit.units import MIB, round_up


def guest_reserve(ceiling_bytes: int) -> int:
    """What is left to the guest above its use: 10 %, but 256 MiB (or a quarter) at least.

    Below that Linux guests start to thrash: Red Hat's tests leave 300 MiB, and libvirt's documentation warns
    of guests that hang when they are left less.

    Args:
        ceiling_bytes: the most that the host can hold for the guest (`DomainFacts.memory_bytes`).

    Returns:
        Bytes, whole MiB.
    """
    return round_up(max(ceiling_bytes / 10, min(ceiling_bytes / 4, 256 * MIB)))


def short_below(reserve_bytes: int, *, near_oom: bool = False) -> int:
    """A guest that has less than this available is short: half of its reserve.

    Between the two lies the hysteresis, so that a guest does not give and get back memory in turn.
    ``near_oom``: what keeps it from an OOM, a quarter; in an emergency of the host only that counts.
    """
    return reserve_bytes // (4 if near_oom else 2)
