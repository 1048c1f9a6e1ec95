"""A journal that is kept short while guests are moved up and down, and a death at any write of that (S10)."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit.control.one_controller import Control
from overcommit.model.facts import DomainFacts
from overcommit.observe.facts import observe
from overcommit.records.journal import BalloonMoved, Generation
from overcommit.testing import FakeHypervisor
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer, install

SIZES = (96, 64, 80, 64, 112, 96)


def move(installation: Installation, generation: Generation, *sizes: int) -> None:
    """The first guest's balloon from size to size (MiB), as executors do."""
    guest = installation.host.guests[0]
    before = guest.balloon_target_bytes
    hypervisor = FakeHypervisor(installation.host)
    domain = next(d for d in snapshot_of(installation) if d.incarnation.uuid == guest.uuid)
    for size in sizes:
        after = size * MIB
        record = BalloonMoved(domain=domain.incarnation, before_bytes=before, after_bytes=after)
        generation.record(record)
        hypervisor.set_balloon(guest.uuid, after)
        before = after
    for _ in range(30):
        installation.host.advance(1.0)


def snapshot_of(installation: Installation) -> tuple[DomainFacts, ...]:
    session = installation.session()
    return observe(installation.kernel, FakeHypervisor(installation.host), session.clock).domains


def tidy(control: Control, installation: Installation, generation: Generation) -> bool:
    return control.tidy(generation, snapshot_of(installation), at_rest=True)


@pytest.mark.parametrize("sizes", [SIZES, (*SIZES, 128)])
@pytest.mark.parametrize("after", [False, True])
def test_a_death_at_any_write_of_tidying_leaves_the_way_back(
    tmp_path: Path, killer: Killer, sizes: tuple[int, ...], after: bool
) -> None:
    for fatal in itertools.count(1):
        installation = install(tmp_path / str(fatal), "damos-fvaddr")
        found = installation.baseline()
        session = installation.session()
        died = False
        try:
            with session.generation("daemon") as generation:
                move(installation, generation, *sizes)
                killer.aim(installation.host, fatal, after=after)
                tidy(session, installation, generation)
        except Killed:
            died = True
        killer.revive()
        assert installation.left_at("cold") in {None, sizes[-1] * MIB}
        assert installation.restore().left == ()
        assert installation.baseline() == found
        if not died:
            assert fatal > 3, "there was nothing to tidy"
            return


def test_moves_for_months_leave_three_entries_and_short_files(installation: Installation) -> None:
    session = installation.session()
    with session.generation("daemon") as generation:
        for _ in range(60):
            move(installation, generation, *SIZES)
            tidy(session, installation, generation)
        assert installation.outstanding <= 3
        move(installation, generation, 128)
        assert tidy(session, installation, generation)
        assert not tidy(session, installation, generation)
        assert installation.outstanding == 0
    assert list(installation.directory.glob("generation-*")) == []


def test_a_life_that_is_over_leaves_nothing(installation: Installation) -> None:
    session = installation.session()
    with session.generation("daemon") as generation:
        move(installation, generation, 64)
        assert not tidy(session, installation, generation)
        installation.host.guests.pop(0)
        assert tidy(session, installation, generation)
        assert installation.outstanding == 0


def test_a_life_of_which_nobody_knows_whether_it_is_over_keeps_its_way_back(
    installation: Installation,
) -> None:
    """Found by a schedule: the daemon died of a process file that could not be read."""
    session = installation.session()
    with session.generation("daemon") as generation:
        move(installation, generation, 64)
        guest = installation.host.guests.pop(0)
        installation.host.on_read = refuse(f"/proc/{guest.pid}/stat")
        assert not tidy(session, installation, generation)
        assert installation.outstanding == 1
        installation.host.on_read = lambda _path: None
        assert tidy(session, installation, generation)
        assert installation.outstanding == 0


def refuse(unreadable: str) -> Callable[[str], None]:
    def on_read(path: str) -> None:
        if path == unreadable:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    return on_read
