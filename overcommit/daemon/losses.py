"""Tracks what the controller has lost that it needs, and the orders that it got; keeps the mode state."""

from __future__ import annotations

from collections.abc import Callable

from overcommit.control.one_controller import Control
from overcommit.daemon.mode_state import Loss, ModeState
from overcommit.daemon.wall_clock import WallClock
from overcommit.errors import JournalFailed, Refused
from overcommit.model.moments import Monotonic
from overcommit.records.journal import Generation

_CLOCK_HOLD_SECONDS = 60.0


class Losses:
    """``mode_state`` is the present state. ``stop`` is called, with the reason, when something is lost."""

    def __init__(
        self, control: Control, generation: Generation, mode_state: ModeState, *, stop: Callable[[str], None]
    ) -> None:
        self._control = control
        self._generation = generation
        self._stop = stop
        self._wall_clock = WallClock(control.clock)
        self.mode_state = mode_state

    @property
    def _now(self) -> Monotonic:
        return self._control.clock.monotonic()

    @property
    def may_take(self) -> bool:
        """Whether memory may be taken now."""
        return self.mode_state.may_take(self._now)

    def pause(self, until: Monotonic | None) -> None:
        """Pause by order; see `ModeState.paused`."""
        self.mode_state = self.mode_state.paused(until)
        self._stop("paused by order")

    def resume(self) -> None:
        """Resume by order."""
        self.mode_state = self.mode_state.resumed()

    def lose(self, loss: Loss, why: str, *, anew: bool = False) -> None:
        """Record a loss. ``anew``: restart its time, also if it was lost before."""
        if anew:
            self.mode_state = self.mode_state.regained(loss)
        first = loss not in self.mode_state.lost
        self.mode_state = self.mode_state.without(loss, why, self._now)
        if first:
            self._stop(f"lost {loss.value}: {why}")

    def regain(self, loss: Loss) -> None:
        """Record that it is available again."""
        self.mode_state = self.mode_state.regained(loss)

    def check_clock(self) -> bool:
        """Stop taking for a while when the wall clock jumped: ages of statistics and leases depend on it.

        Returns:
            Whether it jumped just now.
        """
        if why := self._wall_clock.jumped():
            self.lose(Loss.CLOCK, why, anew=True)
            return True
        lost = self.mode_state.lost.get(Loss.CLOCK)
        if lost is not None and self._now - lost.since >= _CLOCK_HOLD_SECONDS:
            self.regain(Loss.CLOCK)
        return False

    def check_disk(self) -> None:
        """Check that the journal can be read, and accepts records again if it did not."""
        try:
            self._control.require_whole(self._generation if Loss.DISK in self.mode_state.lost else None)
        except (JournalFailed, Refused) as error:
            self.lose(Loss.DISK, str(error))
        else:
            self.regain(Loss.DISK)
