"""Wakes on a clock whose time passes when somebody waits."""

from __future__ import annotations

from overcommit.clock import Clock
from overcommit.daemon.wakes import Pending
from overcommit.model.moments import Monotonic
from overcommit.model.wake import Wake, WakeKind


class FakeWakes:
    """`overcommit.daemon.wakes.Wakes` on a `FakeClock`. Arranged wakes end a wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending = Pending()
        self._coming: list[tuple[Monotonic, Wake]] = []

    def wait(self, seconds: float) -> tuple[Wake, ...]:
        """See `Wakes.wait`. A wake by a fake host meanwhile ends it too, within a second."""
        end = self._clock.monotonic() + seconds
        while not (taken := self._due()) and (left := end - self._clock.monotonic()) > 0:
            next_at = min((at for at, _ in self._coming), default=end)
            self._clock.wait(min(left, 1.0, max(0.0, next_at - self._clock.monotonic())))
        return taken

    def put(self, wake: Wake) -> None:
        """See `Wakes.put`."""
        self._pending.add(wake)

    def poke(self) -> None:
        """See `Wakes.poke`."""
        self.put(Wake(kind=WakeKind.POKE))

    def arrange(self, wake: Wake, *, at: Monotonic) -> None:
        """Let a wake come at a time of `Clock.monotonic`."""
        self._coming.append((at, wake))

    def _due(self) -> tuple[Wake, ...]:
        now = self._clock.monotonic()
        for at, wake in sorted(self._coming, key=lambda coming: coming[0]):
            if at <= now:
                self._pending.add(wake)
        self._coming = [(at, wake) for at, wake in self._coming if at > now]
        return self._pending.take()
