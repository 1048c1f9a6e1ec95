"""Guests that give memory themselves while it is, or is about to be, paged out: the floor holds (S1)."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overcommit.model.action import PageoutAction, subject_of
from overcommit.model.outcome import Outcome, Status
from overcommit.model.policy import PageoutActor
from overcommit.testing import FakeHost
from overcommit.units import MIB
from tests.faults.conftest import Installation, install

FLOOR = 26
"""Chunks: 20 % of 128, rounded up."""
SPEED = 8 * MIB
LOOK_SECONDS = 1.5
"""What the guest gave so short a time ago nobody can know of yet."""


@pytest.fixture(params=[actor.value for actor in PageoutActor])
def actor(request: pytest.FixtureRequest) -> str:
    """All of them."""
    name: str = request.param
    return name


class Giving:
    """Has the guest give memory itself: so many chunks at those times after ``begin`` says that it began.

    It knows what is resident that it has no use for, in swap or not, and gives the host the highest of it.
    ``below`` is by how much pages were taken although the guest was at its floor, and that could be known.
    """

    def __init__(self, host: FakeHost, begin: Callable[[], bool], gifts: list[tuple[float, int]]) -> None:
        self._host, self._guest, self._begin = host, host.guests[0], begin
        self._gifts = sorted(gifts)
        self._since: float | None = None
        self._given: list[tuple[float, int]] = []
        self._out = 0
        self.below = 0
        host.workers.append(self)

    def __call__(self, seconds: float) -> None:
        guest = self._guest
        if len(guest.swapped) > self._out:
            last_minute = sum(many for at, many in self._given if self._host.uptime - at <= LOOK_SECONDS)
            self.below = max(self.below, FLOOR - len(guest.resident) - last_minute)
        self._out = len(guest.swapped)
        if self._since is not None:
            self._since += seconds
        elif self._begin():
            self._since = 0.0
        while self._since is not None and self._gifts and self._gifts[0][0] <= self._since:
            given = set(sorted(guest.resident - guest.hot)[-self._gifts.pop(0)[1] :])
            guest.resident -= given
            self._given.append((self._host.uptime, len(given)))


def page_out(installation: Installation, giving: Callable[[], Giving]) -> tuple[Outcome, Giving]:
    """The outcome of the guest that is paged out, who gives memory itself once the plan is there."""
    swap = dataclasses.replace(installation.policy.swap, max_write_bytes_per_second=SPEED)
    installation.policy = dataclasses.replace(installation.policy, swap=swap)
    plan = installation.plan()
    gives = giving()
    outcomes = installation.apply(plan).outcomes
    return next(o for o in outcomes if subject_of(o.action) == "cold"), gives


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host with more domains than memory is taken from at a time: one waits for another."""
    monkeypatch.setattr("overcommit.apply.execute.MOST_AT_ONCE", 1)


def by_another_s_balloon(installation: Installation, chunks: int) -> Callable[[], Giving]:
    """While another domain's balloon moves, which comes first."""
    host = installation.host
    return lambda: Giving(host, lambda: host.guests[1].balloon_bytes < 128 * MIB, [(0.0, chunks)])


@pytest.mark.usefixtures("one_at_a_time")
def test_what_a_guest_gave_during_another_s_action_is_not_taken_once_more(installation: Installation) -> None:
    cold = installation.host.guests[0]
    outcome, gives = page_out(installation, by_another_s_balloon(installation, 40))
    assert isinstance(outcome.action, PageoutAction)
    assert (outcome.action.before_bytes, outcome.action.after_bytes) == (100 * MIB, FLOOR * MIB)
    assert gives.below <= 0
    assert FLOOR <= len(cold.resident) <= FLOOR + 4
    assert outcome.status is Status.DONE
    assert outcome.detail == "complete: 40.0 MiB of it was already free"
    assert outcome.freed_bytes == len(cold.swapped) * MIB


@pytest.mark.usefixtures("one_at_a_time")
def test_a_page_out_whose_guest_gave_it_all_itself_takes_nothing_and_is_done(
    installation: Installation,
) -> None:
    cold = installation.host.guests[0]
    outcome, _ = page_out(installation, by_another_s_balloon(installation, 80))
    assert (outcome.status, outcome.freed_bytes, cold.swapped) == (Status.DONE, 0, set())
    assert outcome.detail == "complete: 74.0 MiB of it was already free"
    assert installation.kernel.damon.running == {}


@pytest.mark.usefixtures("one_at_a_time")
def test_what_comes_back_meanwhile_is_taken_no_further_than_planned(installation: Installation) -> None:
    """More is resident than the plan saw: no more than its bytes are taken for that."""
    host = installation.host
    cold = host.guests[0]

    def grown() -> bool:
        if host.guests[1].balloon_bytes < 128 * MIB and len(cold.resident) == 100:
            cold.resident |= set(range(100, 120))
        return False

    outcome, _ = page_out(installation, lambda: Giving(host, grown, []))
    assert outcome.status is Status.DONE
    assert outcome.detail == "complete"
    assert 46 <= len(cold.resident) <= 50


GIFTS = st.lists(st.tuples(st.integers(0, 40).map(lambda half: half / 2), st.integers(1, 40)), max_size=6)


@pytest.mark.parametrize("by", [actor.value for actor in PageoutActor])
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(gifts=GIFTS, version=st.sampled_from([(6, 12), (7, 3)]))
def test_whenever_a_guest_gives_memory_no_page_is_taken_below_its_floor(
    by: str, gifts: list[tuple[float, int]], version: tuple[int, int]
) -> None:
    """But for what it gave since it was last looked at; the first two seconds are another domain's."""
    with tempfile.TemporaryDirectory() as directory:
        installation = install(Path(directory) / "state", by)
        installation.kernel.damon.version = version
        host = installation.host
        other = host.guests[1]
        _, gives = page_out(
            installation, lambda: Giving(host, lambda: other.balloon_bytes < 128 * MIB, gifts)
        )
        assert gives.below <= 1, "a chunk, of which a kdamond may have as much too much"
        assert installation.kernel.damon.running == {}
