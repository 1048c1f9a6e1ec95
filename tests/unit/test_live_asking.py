"""What is known of a daemon that answers, is silent, errs, or shows the same for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from overcommit.cli.live.asking import Latest
from overcommit.cli.live.recent import Fact, Recent
from overcommit.errors import HostError
from overcommit.model.moments import Monotonic, Wall

NOW = Wall(5000.0)


def told(tick: int, taken: int) -> dict[str, Any]:
    domain = {"uuid": "a", "reclaimed_bytes": taken, "pain": 0.0, "resident_bytes": 1}
    return {"pid": 7, "tick": tick, "taken_at": float(NOW), "ticked_at": float(NOW), "domains": [domain]}


class Answers:
    """One after the other; what cannot be given is raised."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.left = list(answers)

    def __call__(self) -> dict[str, Any]:
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def asked(latest: Latest, seconds: float) -> None:
    at = Monotonic(seconds)
    latest.ask(at)
    assert latest.take(at, seconds=20.0)


def test_what_a_tick_showed_is_recorded_once() -> None:
    latest = Latest(Recent(2.0), Answers(told(1, 5), told(1, 9), told(2, 9)))
    for at in (100.0, 110.0, 120.0):
        asked(latest, at)
    assert latest.recent.of("a", Fact.TAKEN, Monotonic(120.0))[-3:] == (5, 5, 9)
    assert latest.trouble(Monotonic(121.0), NOW + 1) is None


def test_a_silent_daemon_is_asked_once_and_is_told_with_the_age_of_what_is_known() -> None:
    silent, woken = threading.Event(), threading.Event()
    calls: list[Callable[[], None]] = []

    def ask() -> dict[str, Any]:
        if calls:
            silent.wait(20.0)
        calls.append(silent.set)
        return told(len(calls), 5)

    latest = Latest(Recent(2.0), ask, woken.set)
    asked(latest, 100.0)
    for at in map(Monotonic, (102.0, 104.0, 106.0)):
        latest.ask(at)
        assert latest.waiting
        assert not latest.take(at)
    assert latest.trouble(Monotonic(104.0), NOW + 4) is None
    assert (
        latest.trouble(Monotonic(106.0), NOW + 6)
        == "overcommitd has not answered for 4s. What is shown is 6s old"
    )
    woken.clear()
    silent.set()
    assert woken.wait(20.0)
    assert latest.take(Monotonic(107.0))
    assert latest.trouble(Monotonic(107.0), NOW + 7) is None
    assert len(calls) == 2


def test_an_error_is_told_until_there_is_an_answer() -> None:
    latest = Latest(Recent(2.0), Answers(HostError("it is away"), told(1, 5), KeyError("x"), told(2, 5)))
    asked(latest, 100.0)
    assert (latest.seen, latest.trouble(Monotonic(100.0), NOW)) == (None, "it is away")
    asked(latest, 102.0)
    assert latest.trouble(Monotonic(102.0), NOW) is None
    asked(latest, 104.0)
    assert latest.seen is not None
    trouble = latest.trouble(Monotonic(104.0), NOW + 2)
    assert trouble == "asking overcommitd failed: KeyError: 'x'. What is shown is 2s old"
    asked(latest, 106.0)
    assert latest.trouble(Monotonic(106.0), NOW) is None


def test_a_silence_after_errors_is_as_long_as_there_was_no_answer() -> None:
    silent = threading.Event()
    answers = Answers(told(1, 5), HostError("it is away"))

    def ask() -> dict[str, Any]:
        if not answers.left:
            silent.wait(20.0)
            return told(2, 5)
        return answers()

    latest = Latest(Recent(2.0), ask)
    asked(latest, 100.0)
    asked(latest, 102.0)
    latest.ask(Monotonic(110.0))
    assert latest.trouble(Monotonic(112.0), NOW) == "it is away. What is shown is 0s old"
    assert (
        latest.trouble(Monotonic(114.0), NOW)
        == "overcommitd has not answered for 12s. What is shown is 0s old"
    )
    silent.set()
    assert latest.take(Monotonic(115.0), seconds=20.0)
