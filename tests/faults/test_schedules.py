"""Random fault schedules, a few of them; ``OVERCOMMIT_SCHEDULES`` says how many, from ``..._SEED`` on."""

from __future__ import annotations

import os

import pytest

from tests.faults.schedules.life import play

RUNS = int(os.environ.get("OVERCOMMIT_SCHEDULES", "12"))
SEED = int(os.environ.get("OVERCOMMIT_SCHEDULES_SEED", "1"))


@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_whatever_comes_nobody_is_hurt(seed: int) -> None:
    wrong, schedule = play(seed)
    assert wrong is None, schedule.happened
