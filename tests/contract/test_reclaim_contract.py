"""What we rely on when the kernel is asked to reclaim, of the fake and of real kernels alike.

On a real kernel: ``make lab-7.3`` and ``make lab-6.12`` run this file in the host VM with ``--real-damon``.
"""

from __future__ import annotations

import pytest

from overcommit.errors import Gone
from overcommit.host.cgroup import ROOT, reclaim, reclaims_anonymous_only
from overcommit.host.kernel import Advice
from overcommit.host.process import read_start_time
from overcommit.units import MIB
from tests.contract.conftest import MEMORY, Rung

SLACK = 4 * MIB


def resident(rung: Rung) -> int:
    return rung.kernel.residency(rung.target.pid, rung.target.ranges).resident_bytes


def charged(rung: Rung) -> int:
    return int(rung.kernel.read(f"{ROOT}{rung.group}/memory.current"))


def test_a_group_gives_what_it_is_asked_for_and_no_more(rung: Rung) -> None:
    before = charged(rung)
    reclaim(rung.kernel, rung.group, 16 * MIB)
    assert 16 * MIB - SLACK <= before - charged(rung) <= 16 * MIB + SLACK
    assert MEMORY - resident(rung) <= 16 * MIB + SLACK


def test_what_is_not_resident_afterwards_is_in_swap(rung: Rung) -> None:
    reclaim(rung.kernel, rung.group, 32 * MIB)
    residency = rung.kernel.residency(rung.target.pid, rung.target.ranges)
    assert 0 < residency.swapped_bytes == MEMORY - residency.resident_bytes


def test_a_hint_costs_nothing_by_itself(rung: Rung) -> None:
    start_time = read_start_time(rung.kernel, rung.target.pid)
    rung.kernel.advise(rung.target.pid, start_time, rung.target.ranges, Advice.COLD)
    assert resident(rung) == MEMORY


def test_asking_for_more_than_there_is_takes_what_there_is_and_is_no_error(rung: Rung) -> None:
    reclaim(rung.kernel, rung.group, 10 * MEMORY)
    assert resident(rung) <= SLACK


def test_advice_reaches_only_the_life_it_is_meant_for(rung: Rung) -> None:
    start_time = read_start_time(rung.kernel, rung.target.pid)
    with pytest.raises(Gone):
        rung.kernel.advise(rung.target.pid, start_time + 1, rung.target.ranges, Advice.PAGEOUT)
    assert resident(rung) == MEMORY
    rung.kernel.advise(rung.target.pid, start_time, rung.target.ranges, Advice.PAGEOUT)
    assert resident(rung) <= SLACK
    rung.end_process()
    with pytest.raises(Gone):
        rung.kernel.advise(rung.target.pid, start_time, rung.target.ranges, Advice.PAGEOUT)


def test_to_ask_how_it_reclaims_takes_nothing(rung: Rung) -> None:
    assert reclaims_anonymous_only(rung.kernel, rung.group) in {True, False}
    assert resident(rung) == MEMORY


def test_a_group_that_is_gone_is_enoent(rung: Rung) -> None:
    with pytest.raises(FileNotFoundError):
        reclaim(rung.kernel, rung.group + "-of-another-life", MIB)
