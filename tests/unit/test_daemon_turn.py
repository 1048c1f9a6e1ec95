"""A daemon that starts while a verb is at work."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from overcommit.control.one_controller import Control
from overcommit.daemon.service import wait_for_turn
from overcommit.records.journal import Journal
from overcommit.records.ledger import Ledger
from overcommit.testing import FakeClock, FakeHost, FakeKernel
from overcommit.testing.sentence_log import SentenceLog


class Busy(FakeClock):
    """Another controller ends after so many seconds."""

    def __init__(self, other: Journal, ends_after: float) -> None:
        super().__init__(FakeHost([]))
        self._other, self._ends_at = other, self.monotonic() + ends_after

    def wait(self, seconds: float) -> None:
        """Time goes by."""
        super().wait(seconds)
        if self.monotonic() >= self._ends_at:
            self._other.unlock()


def waited(directory: Path, ends_after: float, said: list[str]) -> tuple[float, bool]:
    """For how long, and whether the other is still at work then."""
    other, journal = Journal(directory), Journal(directory)
    other.lock()
    clock = Busy(other, ends_after)
    control = Control(
        kernel=FakeKernel(FakeHost([])),
        clock=clock,
        journal=journal,
        ledger=Ledger(directory, warn=said.append),
        log=SentenceLog(said.append),
    )
    began = clock.monotonic()
    wait_for_turn(control)
    busy = journal.holder() is not None
    other.unlock()
    return clock.monotonic() - began, busy


def test_a_verb_that_is_at_work_is_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    assert waited(tmp_path, 3.0, said) == (3.0, False)
    assert [sentence.partition(": ")[0] for sentence in said] == ["waiting for another controller to end"]


def test_not_for_ever(tmp_path: Path) -> None:
    assert waited(tmp_path, 1000.0, []) == (60.0, True)


def test_not_when_it_is_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "sigpending", lambda: {signal.SIGTERM})
    assert waited(tmp_path, 1000.0, []) == (0.0, True)
