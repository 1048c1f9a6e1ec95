"""A disk that takes no more: what could not be undone is not done, and undoing needs no disk (S3, S9)."""

from __future__ import annotations

import errno
import itertools
import os
import resource
from pathlib import Path

import pytest

from overcommit.damon.pool import DamonPool
from overcommit.errors import OvercommitError
from overcommit.model.action import name_of
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Wall
from overcommit.model.outcome import Status
from overcommit.model.plan import Plan
from overcommit.records.journal import BalloonMoved, Journal
from overcommit.units import MIB
from tests.faults import test_guest_help, test_ksm
from tests.faults.conftest import Installation, install
from tests.faults.test_virtio_mem import plugged


class Disk:
    """The journal's disk: full from its k-th write on, which is cut short first where ``torn``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._writes_left: float = float("inf")
        self._torn = False
        really_write, really_pwrite = os.write, os.pwrite

        def write(descriptor: int, data: bytes) -> int:
            return really_write(descriptor, data[: self._room(len(data))])

        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            return really_pwrite(descriptor, data[: self._room(len(data))], offset)

        monkeypatch.setattr("overcommit.records.journal.os.write", write)
        monkeypatch.setattr("overcommit.records.journal.os.pwrite", pwrite)

    def take(self, writes: float, *, torn: bool = False) -> None:
        """Take that many writes more."""
        self._writes_left, self._torn = writes, torn

    @property
    def full(self) -> bool:
        """Whether it has refused something."""
        return self._writes_left < 0

    def _room(self, size: int) -> int:
        self._writes_left -= 1
        if self._writes_left >= 0:
            return size
        if self._torn and self._writes_left == -1:
            return size // 2
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """With room for all, at first."""
    return Disk(monkeypatch)


def moved_without_a_record(installation: Installation) -> set[str]:
    """Guests whose balloon is not where it was, with no way back in the journal."""
    entries = Journal(installation.directory).outstanding()
    recorded = {e.record.domain.name for e in entries if isinstance(e.record, BalloonMoved)}
    moved = {g.name for g in installation.host.guests if g.balloon_target_bytes != g.memory_bytes}
    return moved - recorded


@pytest.mark.parametrize("torn", [False, True])
def test_a_disk_that_fills_up_at_any_write_of_apply_leaves_nothing_that_cannot_be_undone(
    tmp_path: Path, actor: str, disk: Disk, torn: bool
) -> None:
    """For each k: the k-th write to the journal and all later ones fail, until restore has its space back."""
    for writes in itertools.count(0):
        installation = install(tmp_path / str(writes), actor)
        found = installation.baseline()
        without_guests = installation.baseline(guests=False)
        plan = installation.plan()
        disk.take(writes, torn=torn)
        said = ""
        try:
            installation.apply(plan)
        except OvercommitError as error:
            said = str(error)
        assert installation.baseline(guests=False) == without_guests, f"DAMON was kept, {writes} writes"
        assert moved_without_a_record(installation) == set(), f"{writes} writes"
        refused = disk.full
        disk.take(float("inf"))
        assert installation.restore().left == ()
        assert installation.baseline() == found
        assert installation.outstanding == 0
        said += " ".join(installation.warnings)
        assert ("No space left" in said) is refused, f"the failure was not told, {writes} writes"
        if not refused:
            least = 7 if actor == "damos-fvaddr" else 3
            assert writes >= least, "apply notes less than it did"
            return


def test_an_apply_does_all_when_only_the_history_finds_no_room(installation: Installation) -> None:
    """Files may grow to 8 KiB: that is enough for the journal, on which safety stands."""
    plan = installation.plan()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        report = installation.apply(plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert report.complete
    assert report.freed_bytes > 110 * MIB
    (sentence,) = installation.warnings
    assert "cannot keep the history" in sentence
    assert installation.session().ledger.events() == ()
    assert installation.restore().left == ()


def test_restore_gives_everything_back_on_a_full_disk_and_says_what_it_could_not_note(
    installation: Installation, disk: Disk
) -> None:
    found = installation.baseline()
    installation.apply(installation.plan())
    assert installation.baseline() != found
    disk.take(0)
    restored = installation.restore()
    assert installation.baseline() == found
    assert any("No space left" in sentence for sentence in restored.left)
    disk.take(float("inf"))
    assert installation.restore().left == ()
    assert installation.outstanding == 0


def test_what_an_earlier_boot_left_does_not_keep_damon_from_being_given_back_on_a_full_disk(
    installation: Installation, disk: Disk
) -> None:
    """What is settled without touching anything comes last, and the disk refuses each of it."""
    found, session = installation.baseline(), installation.session()
    old = Incarnation(uuid="u", name="gone", pid=9, start_time=1)
    session.journal.lock()
    earlier = session.journal.begin("apply", boot_id="the last one", started_at=Wall(0.0))
    for size in (64 * MIB, 32 * MIB):
        earlier.record(BalloonMoved(domain=old, before_bytes=128 * MIB, after_bytes=size))
    generation = session.journal.begin("apply", boot_id=installation.boot_id, started_at=Wall(1.0))
    DamonPool(installation.kernel, session.journal, generation).acquire(1, take_over=True)
    session.journal.unlock()
    assert installation.baseline() != found
    disk.take(0)
    restored = installation.restore()
    assert installation.baseline() == found
    assert len([sentence for sentence in restored.left if "generation-000001" in sentence]) == 1
    disk.take(float("inf"))
    assert installation.restore().left == ()
    assert installation.outstanding == 0


@pytest.mark.parametrize("what", ["KSM", "DAMON_RECLAIM"])
def test_restore_tells_all_that_it_did_where_the_disk_takes_no_note_of_settings(
    tmp_path: Path, disk: Disk, what: str
) -> None:
    if what == "KSM":
        installation = test_ksm.two_guests(tmp_path / "state")
    else:
        installation = test_guest_help.install(tmp_path / "state", test_guest_help.RECLAIM)
    found = installation.baseline()
    installation.apply(installation.plan())
    disk.take(0)
    restored = installation.restore()
    assert any(what in sentence for sentence in restored.done)
    assert any("No space left" in sentence for sentence in restored.left)
    assert installation.baseline() == found
    disk.take(float("inf"))
    assert installation.restore().left == ()
    assert installation.outstanding == 0


def test_a_full_disk_does_not_keep_restore_from_being_the_only_controller(
    installation: Installation, disk: Disk
) -> None:
    disk.take(0)
    journal = Journal(installation.directory)
    journal.lock()
    with pytest.raises(OvercommitError, match="another controller"):
        Journal(installation.directory).lock()
    journal.unlock()


def in_need(installation: Installation) -> Plan:
    """A guest needs what was taken from it; the plan that gives it back."""
    installation.apply(installation.plan())
    guest = installation.host.guests[-1]
    guest.resident |= set(range(guest.size_bytes // MIB))
    guest.free.clear()
    installation.host.advance(5)
    return installation.plan()


def test_a_guest_gets_its_memory_back_on_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    """Its balloon's and its device's: the way back is in the journal, only where they are left is not."""
    installation = plugged(tmp_path)
    found = installation.baseline()
    plan = in_need(installation)
    assert [name_of(action) for action in plan.runnable] == ["relief", "plug"]
    (guest,) = installation.host.guests
    before = guest.size_bytes
    disk.take(2)  # who holds the lock, and that a generation began
    report = installation.apply(plan)
    assert [outcome.status for outcome in report.outcomes] == [Status.DONE, Status.DONE]
    assert all("No space left" in outcome.detail for outcome in report.outcomes)
    assert guest.size_bytes - before == plan.given_bytes > 0
    disk.take(float("inf"))
    assert installation.restore().left == ()
    assert installation.baseline() == found


@pytest.mark.parametrize("way_back", ["none", "too short", "of another boot"])
def test_nothing_is_given_on_a_full_disk_that_restore_would_not_give(
    tmp_path: Path, disk: Disk, way_back: str
) -> None:
    installation = install(tmp_path / "state", "cold-hint+reclaim")
    plan = in_need(installation)
    assert [name_of(action) for action in plan.runnable][:1] == ["relief"]
    guest = installation.host.guests[-1]
    reduced = guest.balloon_target_bytes
    for path in installation.directory.glob("generation-*"):
        if way_back == "none":
            path.unlink()
        else:
            given = reduced + plan.given_bytes - MIB
            old, new = {
                "too short": (f'"before_bytes": {guest.memory_bytes}', f'"before_bytes": {given}'),
                "of another boot": (installation.boot_id, "another"),
            }[way_back]
            path.write_text(path.read_text().replace(old, new))
    disk.take(2)
    with pytest.raises(OvercommitError, match=r"No space left|it would be given .*, it had"):
        installation.apply(plan)
    assert guest.balloon_target_bytes == reduced
