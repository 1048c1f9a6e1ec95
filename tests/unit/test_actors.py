"""What an actor asks of the kernel, which takes more than it is asked for."""

from __future__ import annotations

import dataclasses

import pytest
from pytest_mock import MockerFixture

from overcommit.apply import actors
from overcommit.apply.actors import MemcgReclaim
from overcommit.apply.pace import Pace
from overcommit.host.cgroup import NO_LIMITS
from overcommit.model.pain import PainBounds
from overcommit.testing.fake_kernel import FakeKernel
from overcommit.units import MIB

RATE, PLANNED = 4 * MIB, 1024 * MIB


@pytest.mark.parametrize("more", [1.0, 1.15, 1.5, 3.0])
def test_reclaim_that_takes_more_is_asked_for_less(mocker: MockerFixture, more: float) -> None:
    """Over any stretch the rate is kept to within one request, and it is used."""
    kernel = mocker.create_autospec(FakeKernel, instance=True)
    mocker.patch.object(actors, "read_swap_free", return_value=8192 * MIB)
    mocker.patch.object(actors, "read_limits", return_value=NO_LIMITS)
    asked: list[int] = []
    mocker.patch.object(actors, "reclaim", side_effect=lambda _kernel, _group, size: asked.append(size))
    actor = MemcgReclaim(kernel, mocker.Mock(max_bytes_per_second=RATE), "/group", ())
    bounds = PainBounds(psi_some=1.0, promoted_pages_per_minute=1000.0)
    pace = Pace(bounds=bounds, max_bytes_per_second=RATE, bytes_per_second=RATE)
    taken = [0]
    for _ in range(60):
        before = len(asked)
        assert actor.advance(pace, PLANNED - taken[-1])
        taken.append(taken[-1] + (round(more * asked[-1]) if len(asked) > before else 0))
    for begin in range(0, 60, 10):
        for end in range(begin + 10, 61, 10):
            assert taken[end] - taken[begin] <= RATE * (end - begin) + more * RATE
    assert taken[60] >= 0.9 * 60 * RATE


def test_a_rest_does_not_make_good_what_was_taken_too_fast(mocker: MockerFixture) -> None:
    """While the domain is in pain nothing is allowed, so that nothing is paid back either."""
    kernel = mocker.create_autospec(FakeKernel, instance=True)
    mocker.patch.object(actors, "read_swap_free", return_value=8192 * MIB)
    mocker.patch.object(actors, "read_limits", return_value=NO_LIMITS)
    reclaim = mocker.patch.object(actors, "reclaim")
    actor = MemcgReclaim(kernel, mocker.Mock(max_bytes_per_second=RATE), "/group", ())
    bounds = PainBounds(psi_some=1.0, promoted_pages_per_minute=1000.0)
    going = Pace(bounds=bounds, max_bytes_per_second=RATE, bytes_per_second=RATE)
    resting = dataclasses.replace(going, bytes_per_second=0)
    left = PLANNED - 5 * RATE  # reclaim took five seconds' worth at once
    for pace, left_bytes in ((going, PLANNED), (resting, left), (resting, left), (going, left)):
        actor.advance(pace, left_bytes)
    assert reclaim.call_count == 1
    assert actor.ahead
