"""The minutes that a whole daemon keeps, on a fake host."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit.daemon.minutes import Minutes
from overcommit.records.series import Kept, Series
from tests.faults.daemon import Daemon, Disk, World


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    del disk
    return World(tmp_path)


def kept_by(daemon: Daemon, directory: Path) -> Series:
    """Have it keep its minutes there, each before it goes on."""
    series = Series(directory, warn=pytest.fail)

    def start(work: Callable[[], None]) -> Callable[[float], bool]:
        work()
        return lambda _seconds: True

    daemon.loop.keep(Minutes(series, daemon.control.clock, pytest.fail, start=start))
    return series


def read(series: Series) -> Kept:
    kept = series.read(since=0.0, until=float(1 << 40))
    assert kept is not None
    return kept


def test_what_it_takes_shows_in_its_minutes(world: World) -> None:
    daemon = world.daemon()
    series = kept_by(daemon, world.directory)
    daemon.run_for(600.0)
    status = daemon.server.status
    daemon.stop()
    spans = read(series).spans
    steps = [after.at - before.at for before, after in itertools.pairwise(spans)]
    assert steps == [60] * (len(spans) - 1)
    assert len(spans) in {9, 10}
    last = {domain.name: domain for domain in spans[-1].domains}
    assert last.keys() == {domain["name"] for domain in status["domains"]}
    for domain in status["domains"]:
        assert last[domain["name"]].memory_bytes == domain["maximum_bytes"]
    assert any(domain.working_set_bytes for domain in last.values())
    assert any(domain.judged_seconds > 50 for domain in last.values())
    for domain in status["domains"]:
        took = last[domain["name"]]
        assert took.balloon_bytes == domain["reclaimed_by"].get("balloon", 0)
        assert took.swapped_bytes == domain["swapped_bytes"]
    assert sum(took.balloon_bytes + (took.swapped_bytes or 0) for took in last.values()) > 0


def test_minutes_are_kept_beside_a_history_and_leave_it_alone(world: World) -> None:
    daemon = world.daemon()
    series = kept_by(daemon, world.directory)
    daemon.run_for(300.0)
    daemon.stop()
    assert daemon.control.ledger.events()
    assert read(series).spans
