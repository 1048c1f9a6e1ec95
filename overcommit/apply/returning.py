"""Wait until a guest has taken back what it may have again: for as long as it goes on taking."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from overcommit.apply.routines import Routine
from overcommit.clock import Clock
from overcommit.errors import HostError
from overcommit.units import MIB, format_size

NUDGE_SECONDS = 10.0
"""One that has taken no more for so long is asked again."""
STILL_SECONDS = 60.0
"""One that has taken no more for so long does not take it."""
LONGEST_SECONDS = 240.0
"""Less than systemd's patience with overcommitd's end (TimeoutStopSec)."""
_POLL_SECONDS = 0.5


class Nudge:
    """Has a balloon on its way up say where it is, when it seems to stand still.

    A driver that starts anew after a reset, and is asked for what it has, tells nothing, and QEMU goes on
    saying what the guest had before (`update_balloon_size_func` of Linux 6.12 and 7.3; QEMU 10.0 resets no
    size). Asked for a little less, and then for all of it again, it tells both.
    """

    def __init__(
        self, clock: Clock, move: Callable[[int], None], wanted: int, boots: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._move = move
        self._wanted = wanted
        self._boots = boots
        self._best = -1
        self._since = clock.monotonic()
        self._asked_less = False

    def look(self, reached: int) -> bool:
        """Take in what libvirt says that it has; whether it cannot tell yet, for the guest boots.

        Raises:
            HostError: libvirt does not say, or sets no size.
        """
        now, boots = self._clock.monotonic(), self._boots()
        moved = reached >= self._best + MIB
        if moved:
            self._best = reached
            self.end()
        if moved or boots:
            self._since = now
        elif now - self._since >= NUDGE_SECONDS:
            self._since, self._asked_less = now, not self._asked_less
            self._move(self._wanted - MIB if self._asked_less else self._wanted)
        return boots

    def end(self) -> None:
        """It may have all of it, if it was asked for less: so little that it is no matter if that fails."""
        if self._asked_less:
            self._asked_less = False
            with contextlib.suppress(HostError):
                self._move(self._wanted)


class Returned(NamedTuple):
    """How it ended, as a sentence; ``under_way``: the guest was still taking when we ceased to wait."""

    sentence: str
    under_way: bool = False


def returned(
    clock: Clock,
    whose: str,
    size: Callable[[], int],
    wanted: int,
    *,
    tolerance: int,
    nudge: Nudge | None = None,
) -> Routine[Returned]:
    """Wait for a size that was asked for; less by the ``tolerance`` will do. One that boots is no laggard.

    Raises:
        HostError: the guest stands still; and what ``size`` and ``nudge`` raise.
    """
    began = moved_at = clock.monotonic()
    best = -1
    try:
        while (reached := size()) < wanted - tolerance:
            now = clock.monotonic()
            boots = nudge is not None and nudge.look(reached)
            if boots or reached >= best + MIB:
                best, moved_at = reached, now
            so_far = f"{format_size(reached)} of {format_size(wanted)}"
            if now - moved_at > STILL_SECONDS:
                raise HostError(
                    f"the guest took {so_far} back and has stopped for {STILL_SECONDS:.0f} s",
                    hint="the target is set; the guest follows when it can",
                )
            if now - began > LONGEST_SECONDS:
                return Returned(f"{whose} is being given back: {so_far} so far", under_way=True)
            yield _POLL_SECONDS
    finally:
        if nudge is not None:
            nudge.end()
    return Returned(f"{whose} back at {format_size(wanted)}")
