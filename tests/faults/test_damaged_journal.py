"""One bad line: nothing more is taken, restore puts back the rest, and says what not (S4, S9, S13)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overcommit.control.status import Mode
from overcommit.errors import Refused
from overcommit.model.outcome import Status
from overcommit.records.journal import ActionBegun, BalloonMoved, Journal
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer, install
from tests.faults.daemon import Disk, World, incarnation


def spoil(directory: Path, kind: str) -> str:
    """Change one character of the first record of that kind; the file's name."""
    for path in sorted(directory.glob("generation-*.jsonl")):
        lines = path.read_bytes().split(b"\n")
        for index, line in enumerate(lines):
            if kind.encode() in line:
                lines[index] = line.replace(b'"after_bytes": ', b'"after_bytes": 1', 1)
                assert lines[index] != line
                path.write_bytes(b"\n".join(lines))
                return path.name
    raise AssertionError(kind)


@pytest.fixture
def applied(tmp_path: Path) -> Installation:
    installation = install(tmp_path / "state", "cold-hint+reclaim")
    installation.apply(installation.plan())
    return installation


def test_restore_goes_by_what_the_domain_carries_where_the_line_is_lost(applied: Installation) -> None:
    """A second apply moved the balloon further: of the two records the older one is lost."""
    guest = applied.host.guests[1]
    with applied.session().generation("apply") as generation:
        now = guest.balloon_bytes
        generation.record(
            BalloonMoved(domain=incarnation(guest), before_bytes=now, after_bytes=now - 8 * MIB)
        )
        guest.balloon_target_bytes = guest.balloon_bytes = now - 8 * MIB
        guest.report()
    file = spoil(applied.directory, "BalloonMoved")
    restored = applied.restore()
    assert guest.balloon_target_bytes == guest.memory_bytes
    (left,) = restored.left
    assert left.startswith(f"{file} line ")
    assert "its content is lost and was not put back; the file is set aside" in left
    assert applied.restore().left == ()
    assert list(applied.directory.glob("*.damaged-1"))


def test_nothing_is_taken_by_a_verb_until_it_was_restored(applied: Installation) -> None:
    spoil(applied.directory, "BalloonMoved")
    with pytest.raises(
        Refused, match="no memory is taken, because the undo journal is damaged: generation-"
    ) as error:
        applied.session().require_whole()
    assert "overcommitctl restore" in (error.value.hint or "")
    applied.restore()
    applied.session().require_whole()


def test_the_daemon_takes_nothing_says_so_and_gives_back(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = World(tmp_path)
    first = world.daemon()
    first.run_for(120)
    guest = world.host.guests[1]
    assert first.taken_from(guest)
    first.stop()
    spoil(world.directory, "BalloonMoved")
    second = world.daemon()
    second.run_for(20)
    assert second.mode() is Mode.SAFE
    assert "the undo journal is damaged: generation-" in second.sentence
    second.stop()


def test_what_was_begun_is_on_record_when_the_program_is_killed(tmp_path: Path, killer: Killer) -> None:
    """Its end is told by the next that looks: what had gone, and what is in swap (rule S15)."""
    installation = install(tmp_path / "state", "cold-hint+reclaim")
    plan = installation.plan()
    killer.aim_at(installation.host, "COLD")
    with pytest.raises(Killed):
        installation.apply(plan)
    killer.revive()
    begun = [entry.record for entry in Journal(installation.directory).begun()]
    session = installation.session()
    told = [event for event in session.ledger.events() if "interrupted" in event.detail]
    assert begun or told
    if begun:
        assert isinstance(begun[-1], ActionBegun)
        assert (begun[-1].what, begun[-1].domain and begun[-1].domain.name) == ("pageout", "cold")
        installation.plan()
        told = [event for event in session.ledger.events() if "interrupted" in event.detail]
    assert [(event.kind, event.about) for event in told][-1] == ("pageout", "cold")
    assert "had gone" in told[-1].detail
    assert Journal(installation.directory).begun() == ()


def test_an_interruption_half_way_is_in_the_history_with_what_had_gone(tmp_path: Path) -> None:
    installation = install(tmp_path / "state", "cold-hint+reclaim")
    plan = installation.plan()
    cold = installation.host.guests[0]

    def interrupt(*_: object) -> None:
        if len(cold.swapped) >= 10:
            raise KeyboardInterrupt

    installation.host.after_write = interrupt
    with pytest.raises(KeyboardInterrupt):
        installation.apply(plan)
    gone = len(cold.swapped)
    event = installation.session().ledger.events()[-1]
    assert (event.kind, event.about, event.status) == ("pageout", "cold", Status.PARTIAL)
    assert event.freed_bytes is not None
    assert event.freed_bytes >= gone * MIB
    assert f"{gone}.0 MiB of the domain in swap now" in event.detail
    assert Journal(installation.directory).begun() == ()


def test_what_ended_is_not_told_as_interrupted(applied: Installation) -> None:
    assert Journal(applied.directory).begun() == ()
    assert all("interrupted" not in event.detail for event in applied.session().ledger.events())
    lines = b"".join(path.read_bytes() for path in applied.directory.glob("generation-*")).split(b"\n")
    kinds = [json.loads(line)["record"]["kind"] for line in lines if b'"record"' in line]
    assert kinds.index("ActionBegun") < kinds.index("BalloonMoved"), "on record before it begins"
