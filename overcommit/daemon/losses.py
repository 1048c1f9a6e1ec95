"""What the controller has lost that decisions stand on, and the orders it was given: keeps its footing."""

from __future__ import annotations

from collections.abc import Callable

from overcommit.control.one_controller import Control
from overcommit.daemon.footing import Footing, Loss
from overcommit.daemon.wall_clock import WallClock
from overcommit.errors import JournalFailed, Refused
from overcommit.records.journal import Generation

_CLOCK_HOLD_SECONDS = 60.0


class Losses:
    """``footing`` is how it stands now. ``stop`` is called, with why, when something is lost."""

    def __init__(
        self, control: Control, generation: Generation, footing: Footing, *, stop: Callable[[str], None]
    ) -> None:
        self._control = control
        self._generation = generation
        self._stop = stop
        self._wall_clock = WallClock(control.clock)
        self.footing = footing

    @property
    def _now(self) -> float:
        return self._control.clock.monotonic()

    @property
    def may_take(self) -> bool:
        """Whether memory may be taken now."""
        return self.footing.may_take(self._now)

    def pause(self, until: float | None) -> None:
        """By order; see `Footing.paused`."""
        self.footing = self.footing.paused(until)
        self._stop("paused by order")

    def resume(self) -> None:
        """By order."""
        self.footing = self.footing.resumed()

    def lose(self, loss: Loss, why: str, *, anew: bool = False) -> None:
        """Something is lost; ``anew``: also where it was lost already, its time begins again."""
        if anew:
            self.footing = self.footing.regained(loss)
        first = loss not in self.footing.lost
        self.footing = self.footing.without(loss, why, self._now)
        if first:
            self._stop(f"lost {loss.value}: {why}")

    def regain(self, loss: Loss) -> None:
        """It is there again."""
        self.footing = self.footing.regained(loss)

    def check_clock(self) -> bool:
        """Stop taking for a while when the wall clock jumped: ages of statistics and leases hang on it.

        Returns:
            Whether it did just now.
        """
        if why := self._wall_clock.jumped():
            self.lose(Loss.CLOCK, why, anew=True)
            return True
        lost = self.footing.lost.get(Loss.CLOCK)
        if lost is not None and self._now - lost.since >= _CLOCK_HOLD_SECONDS:
            self.regain(Loss.CLOCK)
        return False

    def check_disk(self) -> None:
        """Whether the journal can be read, and takes records again; that is asked only when it did not."""
        try:
            self._control.require_whole(self._generation if Loss.DISK in self.footing.lost else None)
        except (JournalFailed, Refused) as error:
            self.lose(Loss.DISK, str(error))
        else:
            self.regain(Loss.DISK)
