"""What wakes the loop: libvirt, pressure, signals, a changed policy, or the time."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Protocol

from overcommit.errors import HostError
from overcommit.host.triggers import HOST_MEMORY, PRESSED, STALLED, StallLevel, Trigger, Triggers
from overcommit.model.wake import Wake, WakeKind

MOST_PENDING = 1024
"""The most wakes that are kept: all domains of a large host at once. More would add nothing."""

_SIGNALS: dict[int, WakeKind] = {
    signal.SIGHUP: WakeKind.RELOAD,
    signal.SIGTERM: WakeKind.STOP,
    signal.SIGINT: WakeKind.STOP,
}
_OF_THE_HOST: Sequence[tuple[StallLevel, WakeKind]] = (
    (STALLED, WakeKind.EMERGENCY),
    (PRESSED, WakeKind.PRESSURE),
)


class Wakes(Protocol):
    """Where the loop waits, and others wake it."""

    def wait(self, seconds: float) -> tuple[Wake, ...]:
        """The reasons of the wake; none: the time is over. Equal reasons come once.

        With 0 it returns what is there.
        """
        ...

    def put(self, wake: Wake) -> None:
        """Wake the loop; from any thread, without waiting."""
        ...

    def poke(self) -> None:
        """Tell the loop from another thread that a queue has work for it."""
        ...


class Pending:
    """A bounded number of wakes. Of equal kind and domain only the last is kept."""

    def __init__(self, most: int = MOST_PENDING) -> None:
        self._most = most
        self._wakes: dict[tuple[WakeKind, str | None], Wake] = {}

    def add(self, wake: Wake) -> None:
        """Keep a wake, unless there are too many; then the loop wakes and reads everything anyway."""
        key = wake.kind, wake.uuid
        if key in self._wakes or len(self._wakes) < self._most:
            self._wakes[key] = wake

    def take(self) -> tuple[Wake, ...]:
        """All wakes, in the order in which they first came."""
        taken, self._wakes = tuple(self._wakes.values()), {}
        return taken


class LocalWakes:
    """`Wakes` of this process. It must be made in the main thread, which alone gets signals."""

    def __init__(
        self,
        triggers: Triggers,
        *,
        policy_state: Callable[[], object],
        say: Callable[[str], None],
        worker: int | None = None,
    ) -> None:
        """Start to listen.

        ``policy_state`` changes when the policy's files do. ``say`` gets what cannot wake the loop.
        ``worker`` is a child process whose end wakes the loop.
        """
        self._policy_state = policy_state
        self._policy_seen = policy_state()
        self._say = say
        self._lock = threading.Lock()
        self._pending = Pending()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._event, select.POLLIN)
        self._triggers: dict[int, tuple[Trigger, Wake]] = {}
        for level, kind in _OF_THE_HOST:
            self._begin(triggers, level, kind)
        self._worker = None if worker is None else os.pidfd_open(worker)
        if self._worker is not None:
            self._poll.register(self._worker, select.POLLIN)
        self._signals, self._signals_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._signals, select.POLLIN)
        # A signal without a handler in Python ends the process; the byte in the pipe is what tells the loop.
        self._handlers_before = {number: signal.signal(number, _told_by_pipe) for number in _SIGNALS}
        self._pipe_before = signal.set_wakeup_fd(self._signals_in, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # they may have been held back until now

    def wait(self, seconds: float) -> tuple[Wake, ...]:
        """See `Wakes.wait`. A policy that changed is noticed when it wakes."""
        ready = self._poll.poll(math.ceil(max(0.0, seconds) * 1000))
        return (
            *self._signalled(),
            *self._ended(ready),
            *self._pressed(ready),
            *self._taken(),
            *self._changed_policy(),
        )

    def put(self, wake: Wake) -> None:
        """See `Wakes.put`. After the end it does nothing."""
        with self._lock:
            self._pending.add(wake)
            if self._event >= 0:
                os.eventfd_write(self._event, 1)

    def poke(self) -> None:
        """See `Wakes.poke`."""
        self.put(Wake(kind=WakeKind.POKE))

    def close(self) -> None:
        """Stop to listen. Signals have their former effect again."""
        signal.set_wakeup_fd(self._pipe_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        for descriptor in list(self._triggers):
            self._end(descriptor)
        with self._lock:
            os.close(self._event)
            self._event = -1
        if self._worker is not None:
            os.close(self._worker)
        os.close(self._signals)
        os.close(self._signals_in)

    def _begin(self, triggers: Triggers, level: StallLevel, kind: WakeKind) -> None:
        try:
            trigger = triggers.open(HOST_MEMORY, level)
        except HostError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._say(f"{error}{hint}: memory pressure is noticed one tick later")
            return
        self._triggers[trigger.fileno()] = trigger, Wake(kind=kind, detail=f"memory pressure: {level.share}")
        self._poll.register(trigger.fileno(), select.POLLPRI)

    def _end(self, descriptor: int) -> None:
        trigger, _ = self._triggers.pop(descriptor)
        self._poll.unregister(descriptor)
        trigger.close()

    def _signalled(self) -> tuple[Wake, ...]:
        try:
            numbers = dict.fromkeys(os.read(self._signals, 4096))
        except BlockingIOError:
            return ()
        return tuple(
            Wake(kind=_SIGNALS[number], detail=signal.Signals(number).name)
            for number in numbers
            if number in _SIGNALS
        )

    def _ended(self, ready: Iterable[tuple[int, int]]) -> tuple[Wake, ...]:
        if any(descriptor == self._worker for descriptor, _ in ready):
            return (Wake(kind=WakeKind.WORKER_ENDED),)
        return ()

    def _pressed(self, ready: Iterable[tuple[int, int]]) -> tuple[Wake, ...]:
        wakes = []
        for descriptor, events in ready:
            if descriptor not in self._triggers:
                continue
            if events & select.POLLPRI:
                wakes.append(self._triggers[descriptor][1])
            if events & (select.POLLERR | select.POLLNVAL):
                self._say("a memory pressure trigger ended: memory pressure is noticed one tick later")
                self._end(descriptor)
        return tuple(wakes)

    def _taken(self) -> tuple[Wake, ...]:
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)
            return self._pending.take()

    def _changed_policy(self) -> tuple[Wake, ...]:
        seen, self._policy_seen = self._policy_seen, self._policy_state()
        if seen == self._policy_seen:
            return ()
        return (Wake(kind=WakeKind.RELOAD, detail="the files of the policy changed"),)


def _told_by_pipe(_number: int, _frame: FrameType | None) -> None:
    """A handler is needed for the signal to reach the pipe."""
