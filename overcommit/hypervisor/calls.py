"""Calls with deadlines that cannot be cancelled.

A QEMU that does not answer blocks its caller for 30 s or for ever, and libvirt cannot cancel a call. After
the deadline the call stays in its thread until it returns. The number of such calls is bounded, because
libvirtd handles only a few requests of one connection at a time (``max_client_requests``), and few in all.
Once those are used up, it serves no client.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar, cast

from overcommit.clock import Clock
from overcommit.errors import HostError
from overcommit.model.moments import Monotonic

_T = TypeVar("_T")
_HINT = "QEMU or libvirtd hangs; to see whether libvirtd answers: virsh list; see also /var/log/libvirt/qemu"


_Answer = tuple[_T | None, BaseException | None]


class _Worker:
    """A thread that waits for tasks; None ends it."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="libvirt call", daemon=True).start()

    def _work(self) -> None:
        while (task := self.tasks.get()) is not None:
            task()
            del task  # and what it holds of libvirt


class Calls:
    """Runs calls in kept threads: one at a time for each subject, and ``most`` at a time in all."""

    def __init__(self, clock: Clock, *, most: int) -> None:
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._begun: dict[str, Monotonic] = {}
        self._idle: list[_Worker] = []
        self._closed = False

    def bounded(self, subject: str, doing: str, call: Callable[[], _T], *, seconds: float) -> _T:
        """The result of ``call``, or its exception.

        Raises:
            HostError: it does not return within ``seconds``. Or it was not started, because a call of the
                same subject, or too many calls, have not returned yet.
        """
        worker = self._begin(subject, doing)
        answers: queue.SimpleQueue[_Answer[_T]] = queue.SimpleQueue()

        def task() -> None:
            try:
                answer: _Answer[_T] = (call(), None)
            except BaseException as error:  # noqa: BLE001 - raised where it was asked for; the thread goes on
                answer = (None, error)
            self._end(subject, worker)
            answers.put(answer)

        worker.tasks.put(task)
        try:
            value, error = answers.get(timeout=seconds)
        except queue.Empty:
            raise HostError(f"libvirt did not {doing} within {seconds:.0f} s", hint=_HINT) from None
        if error is not None:
            raise error
        return cast("_T", value)

    def waiting_seconds(self, subject: str) -> float | None:
        """For how long a call of this subject has not returned; None: there is none."""
        with self._lock:
            begun = self._begun.get(subject)
        return None if begun is None else self._clock.monotonic() - begun

    def is_full(self) -> bool:
        """Whether no call can be started before another returns."""
        return len(self._begun) >= self._most

    def close(self) -> None:
        """End the threads, each as soon as its call returns."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.tasks.put(None)

    def _begin(self, subject: str, doing: str) -> _Worker:
        now = self._clock.monotonic()
        with self._lock:
            earlier = self._begun.get(subject)
            if earlier is not None:
                waited = f"an earlier call has not returned for {now - earlier:.0f} s"
                raise HostError(f"libvirt could not {doing}: {waited}", hint=_HINT)
            if self.is_full():
                raise HostError(
                    f"libvirt could not {doing}: {self._most} other calls have not returned", hint=_HINT
                )
            try:
                worker = self._idle.pop() if self._idle else _Worker()
            except RuntimeError as error:  # e.g. the unit's TasksMax; the subject must not wait for ever
                raise HostError(f"libvirt could not {doing}: no thread for it: {error}") from error
            self._begun[subject] = now
            return worker

    def _end(self, subject: str, worker: _Worker) -> None:
        with self._lock:
            del self._begun[subject]
            if not self._closed:
                self._idle.append(worker)
                return
        worker.tasks.put(None)
