"""The undo journal has a size that it never passes; then nothing is taken, and everything can be put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.control.status import Mode
from overcommit.errors import JournalFailed
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Wall
from overcommit.records import room
from overcommit.records.journal import BalloonMoved, Generation, Journal, KdamondStarted, PoolClaimed
from overcommit.testing import FakeGuest
from overcommit.units import MIB
from tests.faults.daemon import Disk, World, policy_text

KIB = 1024
WHO = Incarnation(uuid="u", name="web", pid=1, start_time=1)


def held(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("generation-*"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_TAKING_BYTES", 8 * KIB)
    monkeypatch.setattr(room, "MOST_BYTES", 12 * KIB)
    monkeypatch.setattr(room, "MOST_RECORD_BYTES", 2 * KIB)


@pytest.mark.usefixtures("small")
def test_takers_are_refused_first_then_givers_and_a_settlement_never(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    generation = journal.begin("apply", boot_id="b", started_at=Wall(0.0))
    with pytest.raises(JournalFailed, match=r"the undo journal is full: [78]\.\d KiB of 8\.0 KiB") as refused:
        _fill(generation, BalloonMoved(domain=WHO, before_bytes=MIB, after_bytes=0))
    assert "overcommitctl restore" in (refused.value.hint or "")
    assert held(tmp_path) <= 8 * KIB
    with pytest.raises(JournalFailed):
        generation.record(KdamondStarted(slot=0, what="web", fingerprint="f" * 16))
    with pytest.raises(JournalFailed):
        generation.require_writable()
    with pytest.raises(JournalFailed, match="the undo journal is full"):
        _fill(generation, BalloonMoved(domain=WHO, before_bytes=0, after_bytes=MIB))
    assert held(tmp_path) <= 12 * KIB
    for entry in journal.outstanding():
        journal.settle(entry)
    assert held(tmp_path) < 24 * KIB
    assert Journal(tmp_path).outstanding() == ()


def _fill(generation: Generation, record: BalloonMoved) -> None:
    while True:
        generation.record(record)


@pytest.mark.usefixtures("small")
def test_a_record_is_bounded(tmp_path: Path) -> None:
    generation = Journal(tmp_path).begin("apply", boot_id="b", started_at=Wall(0.0))
    with pytest.raises(JournalFailed, match="too long"):
        generation.record(PoolClaimed(size=1, before={f"{slot}/state": "off" for slot in range(200)}))
    assert held(tmp_path) < KIB


def test_old_files_that_nobody_needs_take_no_more_than_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "KEPT_BYTES", 4 * KIB)
    journal = Journal(tmp_path)
    needed = journal.begin("apply", boot_id="b", started_at=Wall(0.0))
    needed.record(BalloonMoved(domain=WHO, before_bytes=MIB, after_bytes=0))
    for _ in range(12):
        generation = journal.begin("apply", boot_id="b", started_at=Wall(0.0))
        for _ in range(5):
            generation.settle(generation.record(BalloonMoved(domain=WHO, before_bytes=MIB, after_bytes=0)))
    journal.begin("apply", boot_id="b", started_at=Wall(0.0))
    assert needed.path.exists()
    assert held(tmp_path) < 6 * KIB


def test_a_daemon_whose_journal_is_full_takes_nothing_says_so_gives_back_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, policy_text(actor="memcg-reclaim"))
    monkeypatch.setattr(room, "KEPT_BYTES", 64 * KIB)
    with Disk().in_place():
        old = Journal(world.directory)
        world.directory.mkdir()
        generation = old.begin("apply", boot_id="another", started_at=Wall(0.0))
        for _ in range(200):
            generation.settle(generation.record(BalloonMoved(domain=WHO, before_bytes=MIB, after_bytes=0)))
        daemon = world.daemon()
        daemon.run_for(120)
        balloons = [guest.balloon_target_bytes for guest in world.host.guests]
        assert any(each < guest.memory_bytes for each, guest in zip(balloons, world.host.guests, strict=True))
        most = held(world.directory)
        monkeypatch.setattr(room, "MOST_TAKING_BYTES", most - 1)
        monkeypatch.setattr(room, "MOST_BYTES", most + 8 * KIB)
        world.host.guests.append(
            FakeGuest(
                name="new",
                uuid="00000000-0000-0000-0000-000000000077",
                pid=577,
                memory_bytes=128 * MIB,
                resident=set(range(100)),
            )
        )  # to be watched, and that goes on record
        taken = [daemon.taken_from(guest) for guest in world.host.guests]
        seen: set[Mode] = set()

        def look() -> None:
            seen.add(daemon.mode())
            assert held(world.directory) <= most + 16 * KIB
            if daemon.mode() is Mode.SAFE:
                assert "the undo journal is full" in daemon.sentence
                assert all(
                    daemon.taken_from(guest) <= before
                    for guest, before in zip(world.host.guests, taken, strict=True)
                )

        daemon.run_for(600, each=look)
        assert Mode.SAFE in seen
        assert all(daemon.taken_from(guest) == 0 for guest in world.host.guests)
        monkeypatch.setattr(room, "KEPT_BYTES", 1 * KIB)
        daemon.run_for(120)
        assert daemon.mode() is Mode.ACTIVE
        daemon.stop()
        assert world.verbs.restore().left == ()
    assert all(guest.balloon_target_bytes == guest.memory_bytes for guest in world.host.guests)
