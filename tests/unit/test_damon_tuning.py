"""The 4 % rule, as the kernel has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.damon.tuning import access_ratio, tuned
from overcommit.model.heat import AccessRegion


def test_the_ratio_weighs_hits_by_bytes() -> None:
    window = (AccessRegion(0, 300, 0), AccessRegion(300, 400, 20))
    assert access_ratio([window, window], samples=40) == pytest.approx(0.125)
    assert access_ratio([], samples=40) == 0


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.0, 0.2), (0.02, 0.15), (0.04, 0.1), (0.05, 0.1), (0.08, 0.05), (1.0, 0.05)],
)
def test_less_access_than_wanted_lengthens_the_interval_and_more_shortens_it(
    ratio: float, expected: float
) -> None:
    assert tuned(0.1, ratio, shortest=0.01, longest=1.0) == pytest.approx(expected)


@given(sample=st.floats(0.05, 0.2), ratio=st.floats(0, 1), other=st.floats(0, 1))
def test_it_keeps_to_its_bounds_and_more_access_never_lengthens_it(
    sample: float, ratio: float, other: float
) -> None:
    low, high = sorted((ratio, other))
    less, more = (tuned(sample, r, shortest=0.05, longest=0.2) for r in (low, high))
    assert 0.05 <= less <= 0.2
    assert 0.05 <= more <= 0.2
    assert more <= less or less == sample or more == sample
