"""The daemon without the process that does its DAMON I/O."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.errors import HostError
from overcommit.model.wake import WakeKind
from tests.faults.daemon import World


def test_it_ends_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """It holds the journal's lock until then, and nothing of the first one's work is lost."""
    world = World(tmp_path)
    first = world.daemon()
    first.run_for(120)
    taken = {guest.name: first.taken_from(guest) for guest in world.host.guests}
    assert any(taken.values())
    first.wake(WakeKind.WORKER_ENDED)
    with pytest.raises(HostError, match="the process that does all DAMON I/O has died"):
        first.loop.go_round()
    first.abandon()
    second = world.daemon()
    second.run_for(5)
    assert {guest.name: second.taken_from(guest) for guest in world.host.guests} == taken
    second.stop()
