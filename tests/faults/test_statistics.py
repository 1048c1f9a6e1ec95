"""A guest whose balloon statistics do not say yet what it has freed: the plan says why it gives nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.cli.render import plan_text
from overcommit.cli.tables import plain_lines
from overcommit.model.action import BalloonAction
from overcommit.model.plan import Cause, Plan
from overcommit.model.policy import Actuator
from overcommit.testing import Behaviour, FakeGuest
from tests.faults.daemon import Disk, World, policy_text


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    del disk
    return World(tmp_path, policy_text().replace("cold_after: 20s", "cold_after: 20s, actuators: [balloon]"))


def guest(world: World) -> FakeGuest:
    """It has freed most of its memory, and the host still holds that."""
    (free,) = (each for each in world.host.guests if each.name == "free")
    return free


def why(plan: Plan) -> str:
    """What a plan without an action for that guest says of its balloon, the same as is printed."""
    assert not [each for each in plan.actions if isinstance(each, BalloonAction)]
    (found,) = (each for each in plan.domains if each.incarnation.name == "free")
    reasons = [each.text for each in found.gives_nothing if each.actuator is Actuator.BALLOON]
    text = (*reasons, found.eligible[Actuator.BALLOON].reason)[0]
    assert text
    assert any(line.strip().startswith("free") and text in line for line in plain_lines(plan_text(plan)))
    return text


def test_one_that_has_not_answered_since_it_began_is_named(world: World) -> None:
    free = guest(world)
    free.booting_seconds, free.report_age_seconds = 1e6, None
    assert why(world.verbs.plan()) == "the guest's balloon driver has never answered"


def test_one_that_is_late_is_named_with_how_late(world: World) -> None:
    guest(world).behaviour = Behaviour.SILENT
    assert why(world.verbs.plan()).startswith("guest statistics are ")


def test_what_it_said_before_it_freed_memory_is_what_the_plan_goes_by(world: World) -> None:
    """libvirt asks each guest every few seconds: the figures are of then, and the next plan has others."""
    free = guest(world)
    free.says_usable_bytes = 0
    free.report()
    plan = world.verbs.plan()
    assert why(plan).startswith("the guest uses 128 MiB")
    (found,) = (each for each in plan.domains if each.incarnation.name == "free")
    assert {each.actuator: each.cause for each in found.gives_nothing}[Actuator.BALLOON] is Cause.IN_USE
    free.says_usable_bytes = None
    free.report()
    now = world.verbs.plan()
    assert [each.domain.name for each in now.actions if isinstance(each, BalloonAction)] == ["free"]
