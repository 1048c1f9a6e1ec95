"""A plan takes nothing from a guest that just reads back what was taken before."""

from __future__ import annotations

import pytest

from overcommit.model.action import PageoutAction
from overcommit.model.plan import Plan
from overcommit.testing import FakeHost
from tests.faults.conftest import Installation


class ReadsBack:
    """Makes the first guest read so many pages a second back from swap."""

    def __init__(self, host: FakeHost, pages_per_second: float) -> None:
        self._guest, self._pages, self._seconds = host.guests[0], pages_per_second, 0.0
        self._began = self._guest.promoted_pages
        host.workers.append(self)

    def __call__(self, seconds: float) -> None:
        self._seconds += seconds
        self._guest.promoted_pages = self._began + int(self._seconds * self._pages)


def paged_out(plan: Plan) -> set[str]:
    """The domains of which a plan pages something out."""
    return {action.domain.name for action in plan.actions if isinstance(action, PageoutAction)}


@pytest.mark.parametrize("actor", ["cold-hint+reclaim"], indirect=True)
@pytest.mark.parametrize(("pages_per_second", "taken"), [(0.0, True), (1.0, True), (20.0, False)])
def test_a_guest_that_reads_back_more_than_its_class_allows_gives_nothing(
    installation: Installation, pages_per_second: float, taken: bool
) -> None:
    installation.host.guests[0].swapped = {120, 121}
    ReadsBack(installation.host, pages_per_second)
    plan = installation.plan()
    assert ("cold" in paged_out(plan)) == taken
    (cold,) = (domain for domain in plan.domains if domain.incarnation.name == "cold")
    why = " ".join(verdict.reason for verdict in cold.eligible.values())
    assert ("pages were read back from swap in" in why) == (not taken)


@pytest.mark.parametrize("actor", ["cold-hint+reclaim"], indirect=True)
def test_what_comes_back_because_swap_is_turned_off_is_held_against_no_guest(
    installation: Installation,
) -> None:
    installation.host.guests[0].swapped = set(range(100, 120))
    installation.host.swapoff = True
    ReadsBack(installation.host, 20.0)
    (cold,) = (d for d in installation.plan().domains if d.incarnation.name == "cold")
    assert not any("read back from swap" in verdict.reason for verdict in cold.eligible.values())
