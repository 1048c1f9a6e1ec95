"""Wait until a guest has taken back what it may have again: for as long as it goes on taking."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from overcommit.apply.steps import Steps
from overcommit.clock import Clock
from overcommit.errors import HostError
from overcommit.units import MIB, format_size

STILL_SECONDS = 60.0
"""One that has taken no more for so long does not take it."""
LONGEST_SECONDS = 240.0
"""Less than systemd's patience with overcommitd's end (TimeoutStopSec)."""
_POLL_SECONDS = 0.5


class Returned(NamedTuple):
    """How it ended, as a sentence; ``under_way``: the guest was still taking when we ceased to wait."""

    sentence: str
    under_way: bool = False


def returned(
    clock: Clock, whose: str, size: Callable[[], int], wanted: int, *, tolerance: int
) -> Steps[Returned]:
    """Wait for a size that was asked for; less by the ``tolerance`` will do.

    Raises:
        HostError: the guest stands still; and what ``size`` raises.
    """
    began = moved_at = clock.monotonic()
    best = -1
    while (reached := size()) < wanted - tolerance:
        now = clock.monotonic()
        if reached >= best + MIB:
            best, moved_at = reached, now
        so_far = f"{format_size(reached)} of {format_size(wanted)}"
        if now - moved_at > STILL_SECONDS:
            raise HostError(
                f"the guest has only taken {so_far} back, and no more for {STILL_SECONDS:.0f} s",
                hint="the size is asked for; the guest follows when it can",
            )
        if now - began > LONGEST_SECONDS:
            return Returned(f"{whose} on its way back: {so_far} so far", under_way=True)
        yield _POLL_SECONDS
    return Returned(f"{whose} back at {format_size(wanted)}")
