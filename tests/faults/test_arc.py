"""A host whose cache is ZFS's: what that gives up when asked is no lack of memory, and is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.model.moments import Monotonic
from overcommit.units import MIB
from tests.faults.daemon import Daemon, Disk, World
from tests.faults.test_reserving import ON_PRESSURE, reserve

WANTED = 800 * MIB


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    """All but 40 MiB of what the guests leave is in ZFS's cache, which can shrink to 16 MiB."""
    del disk
    made = World(tmp_path, ON_PRESSURE)
    made.host.arc_bytes = made.host.available_bytes - 40 * MIB
    made.host.arc_minimum_bytes = 16 * MIB
    return made


def plans_in(daemon: Daemon, seconds: float) -> int:
    """How often it plans anew."""
    made = 0
    really = daemon.controller._plan_anew

    def count(now: Monotonic, *, act: bool = True) -> None:
        nonlocal made
        made += 1
        really(now, act=act)

    daemon.controller._plan_anew = count  # type: ignore[method-assign]
    daemon.run_for(seconds)
    return made


def test_memory_in_a_cache_that_shrinks_when_asked_is_no_reason_to_plan_at_every_chance(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(60.0)
    assert plans_in(daemon, 300.0) <= 6


def test_what_zfs_would_give_up_is_promised_to_nobody_before_it_is_free(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(60.0)
    asked = reserve(daemon, WANTED)
    daemon.run_for(15.0)
    assert not any(reply.final for reply in asked.replies)
    daemon.run_for(130.0)
    assert asked.answer is not None
    assert asked.answer["granted"] is False
    assert any("but only when memory is short: echo" in why for why in asked.answer["obstacles"])


def test_it_is_promised_as_soon_as_zfs_has_given_it_up(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(60.0)
    asked = reserve(daemon, WANTED)
    daemon.run_for(15.0)
    world.host.arc_bytes = 16 * MIB
    daemon.run_for(15.0)
    assert asked.answer is not None
    assert asked.answer["granted"] is True
    assert world.host.available_bytes >= WANTED
