"""How much free memory a guest keeps, and below which amount it is short. Pure.

Plans, the daemon between two plans, and a balloon that inflates use the same figures. Otherwise one would
take what the other gives back.
"""

from __future__ import annotations

from overcommit.units import MIB, round_up


def guest_reserve(ceiling_bytes: int) -> int:
    """The memory that a guest keeps above its use: 10 %, but at least the lesser of 256 MiB and a quarter.

    With less, Linux guests begin to thrash. Red Hat's tests leave 300 MiB; libvirt's documentation warns that
    a guest with too little memory can hang.

    Args:
        ceiling_bytes: the most that the host can hold for the guest (`DomainFacts.memory_bytes`).

    Returns:
        Bytes, whole MiB.
    """
    return round_up(max(ceiling_bytes / 10, min(ceiling_bytes / 4, 256 * MIB)))


def short_below(reserve_bytes: int, *, near_oom: bool = False) -> int:
    """The available memory in bytes below which a guest is short: half of its reserve.

    The range between half and the whole reserve is hysteresis: in it the guest neither gives nor gets memory.
    ``near_oom``: a quarter instead, which keeps the guest from an OOM; an emergency of the host uses it.
    """
    return reserve_bytes // (4 if near_oom else 2)
