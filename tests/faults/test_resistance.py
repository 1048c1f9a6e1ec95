"""Guests, libvirt and a kernel that do not do as they are told."""

from __future__ import annotations

import itertools

import pytest

from overcommit.damon.sysfs import ROOT
from overcommit.errors import Conflict, OvercommitError
from overcommit.model.outcome import Status
from overcommit.testing import Behaviour, FakeHost
from overcommit.units import MIB
from tests.faults.conftest import Installation


@pytest.mark.parametrize(
    ("behaviour", "status", "says"),
    [
        (Behaviour.STUCK, Status.PARTIAL, "stands still"),
        (Behaviour.PHANTOM, Status.UNDONE, "given back"),
        (Behaviour.HUNG, Status.FAILED, "did not answer"),
    ],
)
def test_a_guest_that_does_not_cooperate_is_named_and_harms_nobody(
    installation: Installation, behaviour: Behaviour, status: Status, says: str
) -> None:
    """The other guest's action is carried out all the same."""
    plan = installation.plan()
    free = installation.host.guests[1]
    balloon = next(a for a in plan.actions if a.domain.name == "free")
    free.behaviour = behaviour
    if behaviour is Behaviour.HUNG:  # it hangs after the plan was found fresh
        free.behaviour = Behaviour.OBEDIENT
        installation.host.on_write = lambda path, _value: (
            setattr(free, "behaviour", behaviour) if path == "balloon/free" else None
        )
    report = installation.apply(plan)
    outcome = next(o for o in report.outcomes if o.action == balloon)
    assert (outcome.status, says in outcome.detail) == (status, True), outcome.detail
    other = next(o for o in report.outcomes if o.action.domain.name == "cold")
    assert other.status is Status.DONE
    if behaviour is Behaviour.PHANTOM:
        assert free.balloon_target_bytes == free.memory_bytes


def test_a_swap_that_fills_up_meanwhile_ends_a_page_out_in_part(installation: Installation) -> None:
    """What found no room is reported as not freed."""
    host = installation.host
    plan = installation.plan()

    def fill(_path: str, value: str) -> None:
        if value == "on":
            host.swap_of_others_bytes = host.swap_total_bytes - 20 * MIB

    host.on_write = fill
    report = installation.apply(plan)
    outcome = next(o for o in report.outcomes if o.action.domain.name == "cold")
    assert outcome.status is Status.PARTIAL
    assert 0 < outcome.freed_bytes <= 20 * MIB


def test_restore_gives_the_others_back_when_one_guest_hangs_and_this_one_later(
    installation: Installation,
) -> None:
    found = installation.baseline()
    installation.apply(installation.plan())
    free = installation.host.guests[1]
    free.behaviour = Behaviour.HUNG
    restored = installation.restore()
    assert len(restored.left) == 1
    assert "free" in restored.left[0]
    assert installation.baseline(guests=False) == install_time(found)
    assert installation.outstanding == 1
    free.behaviour = Behaviour.OBEDIENT
    assert installation.restore().left == ()
    assert installation.baseline() == found
