"""Going through steps: who waits, what is returned, and what an error or an interruption does."""

from __future__ import annotations

import pytest

from overcommit.apply.routines import Routine, run_all
from overcommit.model.moments import Monotonic, Wall
from overcommit.testing import FakeClock, FakeHost
from tests.routines import run


class Interrupted:
    """A clock that is interrupted at its n-th wait from now; it notes how long each was to be."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.waits: list[float] = []

    def now(self) -> Wall:
        raise AssertionError("nobody asked for the time of day")

    def monotonic(self) -> Monotonic:
        return Monotonic(sum(self.waits))

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) == self._at:
            raise KeyboardInterrupt


def counting(told: list[str]) -> Routine[None]:
    try:
        yield 1.0
        yield 2.5
    except KeyboardInterrupt:
        told.append("interrupted")
        raise
    finally:
        told.append("left whole")
    told.append("through")


def test_it_waits_as_long_as_each_step_wants_and_returns_what_came_of_it() -> None:
    host = FakeHost([])
    began = host.uptime
    told: list[str] = []
    run(counting(told), FakeClock(host))
    assert host.uptime - began == pytest.approx(3.5)
    assert told == ["left whole", "through"]


def test_steps_that_never_wait_are_run_at_once() -> None:
    def at_once() -> Routine[int]:
        yield from ()
        return 7

    clock = Interrupted(at=1)
    assert run(at_once(), clock) == 7
    assert clock.waits == []


@pytest.mark.parametrize("at", [1, 2])
def test_what_is_at_work_ends_by_itself_after_an_interruption_and_at_once(at: int) -> None:
    told = list[str]()

    def listening() -> Routine[None]:
        for _ in range(3):
            yield 8.0
            if told:
                told.append("ended by itself")
                return

    clock = Interrupted(at)
    with pytest.raises(KeyboardInterrupt):
        run_all([listening()], clock, 1, lambda _error: told.append("to end"))
    assert (clock.waits, told) == ([8.0] * at, ["to end", "ended by itself"])


def test_a_second_interruption_is_thrown_into_what_does_not_end() -> None:
    told: list[str] = []

    class Twice(Interrupted):
        def wait(self, seconds: float) -> None:
            self.waits.append(seconds)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([counting(told), counting(told)], Twice(at=0), 2, lambda _error: None)
    assert told == ["interrupted", "left whole"] * 2


def test_as_many_as_may_are_at_work_at_a_time() -> None:
    at_work, most = set[int](), list[int]()

    def lane(number: int) -> Routine[None]:
        at_work.add(number)
        most.append(len(at_work))
        yield 1.0 + number
        at_work.remove(number)

    host = FakeHost([])
    began = host.uptime
    run_all(map(lane, range(5)), FakeClock(host), 2, lambda _error: None)
    assert (max(most), len(most), at_work) == (2, 5, set())
    # 0 and 1 begin, 2 follows at 1 s, 3 at 2 s, 4 at 4 s and ends at 9 s.
    assert host.uptime - began == pytest.approx(9.0)


def test_an_error_of_one_has_the_others_end_by_themselves_and_begins_no_more() -> None:
    told, told_of = list[str](), list[str]()

    def lane(name: str) -> Routine[None]:
        while not told_of:
            yield 1.0
        told.append(name)

    def failing() -> Routine[None]:
        yield 2.0
        raise OSError("broken")

    lanes = [lane("first"), failing(), lane("second"), lane("never begun")]
    with pytest.raises(OSError, match="broken"):
        run_all(lanes, FakeClock(FakeHost([])), 3, lambda error: told_of.append(str(error)))
    assert (sorted(told), told_of) == (["first", "second"], ["broken"])


def test_the_end_of_the_program_reaches_all_that_are_at_work() -> None:
    told: list[str] = []

    def counted() -> Routine[None]:
        try:
            yield 5.0
        finally:
            told.append("left whole")

    def exiting() -> Routine[None]:
        yield 0.0
        raise SystemExit

    with pytest.raises(SystemExit):
        run_all([counted(), exiting(), counted()], Interrupted(at=0), 3, lambda _error: None)
    assert told == ["left whole"] * 2


def test_a_failure_of_a_step_goes_to_whoever_runs_it() -> None:
    def failing() -> Routine[None]:
        yield 1.0
        raise OSError("broken")

    clock = Interrupted(at=0)
    with pytest.raises(OSError, match="broken"):
        run(failing(), clock)
    assert clock.waits == [1.0]
