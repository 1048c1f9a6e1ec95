"""What the daemon counts of itself."""

from __future__ import annotations

import errno
import os
from typing import Any

from overcommit.daemon.tally import ThreadTimes, TickTally

TICK = os.sysconf("SC_CLK_TCK")


class Threads:
    """Their CPU ticks in user and kernel mode, and when they began."""

    def __init__(self, **times: tuple[int, int, int]) -> None:
        self.times = {name.removeprefix("t"): of for name, of in times.items()}

    def read(self, path: str) -> str:
        thread = path.split("/")[2]
        if thread not in self.times:
            raise FileNotFoundError(errno.ENOENT, "gone", path)
        user, system, began = self.times[thread]
        return f"{thread} (kdamond.0 ) S) S" + " 0" * 10 + f" {user} {system}" + " 0" * 6 + f" {began} 0\n"


def times(kernel: Any) -> ThreadTimes:
    return ThreadTimes(kernel)


def test_the_cpu_of_threads_is_counted_up_whichever_of_them_end() -> None:
    kernel = Threads(t7=(1 * TICK, 2 * TICK, 55), t8=(0, 4 * TICK, 55))
    counted = times(kernel)
    assert times(kernel).seconds is None
    counted.read((7, 8, 9))
    assert counted.seconds == 7.0
    kernel.times["7"] = (1 * TICK, 3 * TICK, 55)
    del kernel.times["8"]
    counted.read((7, 8))
    assert counted.seconds == 8.0, "what the one that ended took is not taken back"


def test_a_thread_with_the_number_of_an_earlier_one_begins_anew() -> None:
    kernel = Threads(t7=(0, 9 * TICK, 55))
    counted = times(kernel)
    counted.read((7,))
    kernel.times["7"] = (0, 2 * TICK, 99)
    counted.read((7,))
    assert counted.seconds == 11.0


def test_ticks_that_planned_are_counted_apart() -> None:
    ticks = TickTally()
    ticks.add(0.25, planned=False)
    ticks.add(0.5, planned=False)
    ticks.add(2.0, planned=True)
    assert ticks.document == {
        "look": {"count": 2, "seconds": 0.75},
        "plan": {"count": 1, "seconds": 2.0},
    }
