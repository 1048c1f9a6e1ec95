"""Waits until a guest has taken back its memory, while it makes progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from overcommit.apply.routines import Routine
from overcommit.clock import Clock
from overcommit.errors import HostError
from overcommit.units import MIB, format_size

NUDGE_SECONDS = 10.0
"""A guest without progress for this long is asked again."""
STILL_SECONDS = 60.0
"""A guest without progress for this long has failed."""
LONGEST_SECONDS = 240.0
"""Less than systemd's timeout for the end of overcommitd (TimeoutStopSec)."""
_POLL_SECONDS = 0.5


class Nudge:
    """Makes a growing balloon report its size when it seems to stop.

    A driver that starts anew after a reset, and is asked for the size that it has, reports nothing, and QEMU
    keeps the size from before (`update_balloon_size_func` of Linux 6.12 and 7.3; QEMU 10.0 resets no size).
    If it is asked for a little less, and then for all again, it reports both.
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
        """Check the size that libvirt reports.

        Returns:
            Whether the size is not reliable yet, because the guest boots.

        Raises:
            HostError: libvirt does not tell, or sets no size.
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
        """Ask for all of it, if it was asked for less.

        A failure is ignored, because the difference is small.
        """
        if self._asked_less:
            self._asked_less = False
            with contextlib.suppress(HostError):
                self._move(self._wanted)


class Returned(NamedTuple):
    """How it ended, as a sentence.

    ``under_way``: the guest was still taking memory at the end of the wait.
    """

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
    """Wait for a requested size, less the ``tolerance``. A guest that boots is given more time.

    Raises:
        HostError: the guest makes no progress; and what ``size`` and ``nudge`` raise.
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
