"""A guest is short from the same point on for its balloon, for a tick and for the next plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.daemon.tick_reading import TickReading
from overcommit.model.action import BalloonAction
from overcommit.model.facts import BalloonStats
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Fault, Status
from overcommit.testing import FakeGuest
from overcommit.units import GIB, MIB
from tests import scenarios
from tests.faults.conftest import install


def test_what_a_balloon_leaves_is_not_given_back_by_the_next_plan(tmp_path: Path) -> None:
    installation = install(tmp_path / "state", "damos-fvaddr")
    guest = FakeGuest(
        name="small",
        uuid="00000000-0000-0000-0000-000000000003",
        pid=503,
        memory_bytes=1 * GIB,
        resident=set(range(1024)),
        hot=set(range(300)),
        free=set(range(400, 1024)),
    )
    installation.host.guests[:] = [guest]
    installation.host.total_bytes = 4 * GIB
    installation.apply(installation.plan())
    installation.host.advance(5)
    guest.free |= set(range(230, 400))
    guest.hot = set(range(230))
    installation.host.advance(60)
    plan = installation.plan()
    actions = [a for a in plan.runnable if isinstance(a, BalloonAction)]
    assert actions
    assert not actions[0].relieves

    def on_write(path: str, _value: str) -> None:
        if path.startswith("balloon/"):
            guest.says_usable_bytes = 100 * MIB

    installation.host.on_write = on_write
    outcome = next(o for o in installation.apply(plan).outcomes if isinstance(o.action, BalloonAction))
    assert (outcome.status, outcome.fault) == (Status.PARTIAL, Fault.PAIN)


@pytest.mark.parametrize(("backing", "short"), [("anonymous", 78 * MIB), ("file", 0)])
def test_a_tick_means_the_same_by_short_as_a_plan(backing: str, short: int) -> None:
    """No plan gives host memory to a guest whose RAM is a file's page cache: no tick asks for it either."""
    stats = BalloonStats(actual_bytes=GIB, age_seconds=1.0, usable_bytes=50 * MIB, total_bytes=GIB)
    facts = scenarios.domain(size=GIB, balloon=stats, backing=backing)
    reading = TickReading(at=Monotonic(0.0), cgroup=None, balloon=stats)
    assert reading.short_bytes(facts) == short
