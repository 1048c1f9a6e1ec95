"""A daemon that is killed at any of its writes: the next one goes on, and restore brings everything back."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import pytest

from overcommit.control.status import Mode
from tests.faults.conftest import ACTORS, Killed, Killer
from tests.faults.daemon import Daemon, World, policy_text

EVERY = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "search" else 31
"""Of its writes, each so-manieth is one that it dies at; a prime, so that all kinds of writes are met."""
SECONDS = 150.0

pytestmark = pytest.mark.timeout(3600 if EVERY == 1 else 300)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("actor", ACTORS)
def test_killed_at_a_write_the_next_one_goes_on(
    tmp_path: Path, actor: str, killer: Killer, after: bool
) -> None:
    for write in itertools.count(1, EVERY):
        world = World(tmp_path / str(write), policy_text(actor=actor))
        world.host.step_seconds = 2.0
        found = world.verbs.baseline()
        started: list[Daemon] = []
        killer.aim(world.host, write, after=after)
        survived = False
        with contextlib.suppress(Killed):
            started.append(world.daemon())
            started[0].run_for(SECONDS)
            started[0].stop()
            survived = True
        if survived:
            assert write > 100, "it has fewer writes than it had"
            return
        for daemon in started:
            daemon.abandon()
        killer.revive()
        world.host.on_write = world.host.after_write = lambda _path, _value: None
        second = world.daemon()
        second.run_for(30.0)
        assert second.mode() is Mode.ACTIVE
        assert world.floor_broken() is None
        second.stop()
        assert world.verbs.restore().left == ()
        assert world.verbs.baseline() == found, f"killed {'after' if after else 'before'} write {write}"
        assert world.verbs.outstanding == 0
