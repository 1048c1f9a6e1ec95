"""Going through steps: who waits, what is returned, and what an interruption of the wait does."""

from __future__ import annotations

import pytest

from overcommit.apply.routines import Routine, run
from overcommit.testing import FakeClock, FakeHost


class Interrupted:
    """A clock that is interrupted at its n-th wait from now; it notes how long each was to be."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.waits: list[float] = []

    def now(self) -> float:
        raise AssertionError("nobody asked for the time")

    def monotonic(self) -> float:
        raise AssertionError("nobody asked for the time")

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) == self._at:
            raise KeyboardInterrupt


def counting(told: list[str]) -> Routine[str]:
    try:
        yield 1.0
        yield 2.5
    except KeyboardInterrupt:
        told.append("interrupted")
        raise
    finally:
        told.append("left whole")
    return "through"


def test_it_waits_as_long_as_each_step_wants_and_returns_what_came_of_it() -> None:
    host = FakeHost([])
    began = host.uptime
    told: list[str] = []
    assert run(counting(told), FakeClock(host)) == "through"
    assert host.uptime - began == pytest.approx(3.5)
    assert told == ["left whole"]


def test_steps_that_never_wait_are_run_at_once() -> None:
    def at_once() -> Routine[int]:
        yield from ()
        return 7

    clock = Interrupted(at=1)
    assert run(at_once(), clock) == 7
    assert clock.waits == []


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_wait_is_an_interruption_of_the_step(at: int) -> None:
    clock, told = Interrupted(at), list[str]()
    with pytest.raises(KeyboardInterrupt):
        run(counting(told), clock)
    assert (clock.waits, told) == ([1.0, 2.5][:at], ["interrupted", "left whole"])


def test_a_step_that_waits_on_after_an_interruption_is_waited_for() -> None:
    def patient() -> Routine[str]:
        try:
            yield 1.0
        except KeyboardInterrupt:
            yield 4.0
        return "through all the same"

    clock = Interrupted(at=1)
    assert run(patient(), clock) == "through all the same"
    assert clock.waits == [1.0, 4.0]


def test_a_failure_of_a_step_goes_to_whoever_runs_it() -> None:
    def failing() -> Routine[None]:
        yield 1.0
        raise OSError("broken")

    clock = Interrupted(at=0)
    with pytest.raises(OSError, match="broken"):
        run(failing(), clock)
    assert clock.waits == [1.0]
