"""The undo journal on a real disk: what it remembers after any death (rules S3, S4, S10, S11)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from overcommit.errors import Conflict, HostError, Unsupported
from overcommit.model.moments import Wall
from overcommit.records.journal import (
    BalloonMoved,
    Generation,
    Journal,
    KdamondStarted,
    KsmStarted,
    MemoryDeviceResized,
    ModuleTakenOver,
    PoolClaimed,
    Record,
)
from overcommit.records.lines import Lines
from overcommit.records.lines import read as read_lines
from tests.scenarios import incarnation

STARTED = KdamondStarted(slot=0, what="process 42", fingerprint="0123456789abcdef")
RECORDS: tuple[Record, ...] = (
    ModuleTakenOver(module="damon_stat", before="Y"),
    PoolClaimed(size=2, before={"nr_kdamonds": "0\n", "0/contexts/nr_contexts": "1\n"}),
    STARTED,
    BalloonMoved(domain=incarnation("a b\n'ü'"), before_bytes=2 << 30, after_bytes=1 << 30),
    MemoryDeviceResized(domain=incarnation(), device="virtiomem0", before_bytes=2 << 30, after_bytes=0),
    KsmStarted(before={"pages_to_scan": "100", "run": "0"}, after={"pages_to_scan": "640", "run": "1"}),
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def begin(journal: Journal, command: str = "apply") -> Generation:
    return journal.begin(command, boot_id="boot-1", started_at=Wall(12.5))


def file_of(directory: Path, number: int = 1) -> Path:
    return directory / f"generation-{number:06d}.jsonl"


def test_a_host_we_never_touched() -> None:
    nowhere = Journal(Path("/nonexistent/overcommit"))
    assert nowhere.outstanding() == ()
    assert nowhere.generations() == ()


def test_every_kind_of_record_comes_back_as_it_was(journal: Journal, tmp_path: Path) -> None:
    generation = begin(journal)
    written = [generation.record(record) for record in RECORDS]
    read = Journal(tmp_path).outstanding()
    assert read == tuple(reversed(written))
    assert [entry.record for entry in read] == list(reversed(RECORDS))
    assert {entry.boot_id for entry in read} == {"boot-1"}


def test_undo_order_is_newest_first_over_all_generations(journal: Journal) -> None:
    first, second = begin(journal), begin(journal)
    second.record(STARTED)
    first.record(STARTED)
    first.record(STARTED)
    assert [(e.generation, e.number) for e in journal.outstanding()] == [(2, 0), (1, 1), (1, 0)]


def test_settled_entries_are_not_outstanding(journal: Journal) -> None:
    generation = begin(journal)
    one, two = generation.record(STARTED), generation.record(STARTED)
    journal.settle(one)
    assert journal.outstanding() == (two,)
    journal.settle(one)  # undoing twice is harmless
    journal.settle(two)
    assert journal.outstanding() == ()
    assert [g.outstanding for g in journal.generations()] == [0]


def test_a_record_is_on_disk_before_the_write_it_describes(journal: Journal, tmp_path: Path) -> None:
    begin(journal).record(STARTED)
    assert b'"KdamondStarted"' in file_of(tmp_path).read_bytes()


def test_generations_are_numbered_on_and_described(journal: Journal) -> None:
    begin(journal, "plan")
    begin(journal).record(STARTED)
    assert [(g.number, g.command, g.started_at, g.boot_id, g.outstanding) for g in journal.generations()] == [
        (1, "plan", Wall(12.5), "boot-1", 0),
        (2, "apply", Wall(12.5), "boot-1", 1),
    ]


def test_a_generation_can_settle_what_it_undid_itself(journal: Journal) -> None:
    generation = begin(journal)
    one, two = generation.record(STARTED), generation.record(STARTED)
    generation.settle(one)
    assert journal.outstanding() == (two,)


def test_discarded_generation_is_forgotten(journal: Journal) -> None:
    journal.discard(begin(journal))
    assert journal.generations() == ()


def test_old_generations_are_forgotten_when_nothing_in_them_is_left_to_undo(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overcommit.records.journal._KEPT_GENERATIONS", 3)
    needed = begin(journal).record(STARTED)
    for _ in range(6):
        journal.settle(begin(journal).record(STARTED))
    assert [g.number for g in journal.generations()] == [1, 5, 6, 7]
    assert journal.outstanding() == (needed,)
    journal.settle(needed)
    assert begin(journal).number == 8
    assert [g.number for g in journal.generations()] == [6, 7, 8]


@pytest.mark.parametrize("keep", range(1, 60, 7))
def test_torn_line_is_a_write_that_never_happened(journal: Journal, tmp_path: Path, keep: int) -> None:
    kept = begin(journal).record(STARTED)
    path = file_of(tmp_path)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole + last.replace(b'"number": 0', b'"number": 1')[:keep])
    assert journal.outstanding() == (kept,)


@pytest.mark.parametrize("rubbish", [b'{"num', b"\0\0\0\0", b"\xff\xfe", b"[1]", b"7", b'"x"'])
def test_after_a_torn_line_writing_goes_on_in_a_new_one(
    journal: Journal, tmp_path: Path, rubbish: bytes
) -> None:
    kept = begin(journal).record(STARTED)
    with file_of(tmp_path).open("ab") as file:
        file.write(rubbish)
    journal.settle(kept)
    assert journal.outstanding() == ()


def test_generation_whose_first_line_is_torn_counts_but_holds_nothing(
    journal: Journal, tmp_path: Path
) -> None:
    begin(journal)
    file_of(tmp_path).write_bytes(b'{"command": "app')
    assert journal.outstanding() == ()
    assert journal.generations() == ()
    assert begin(journal).number == 2


def test_files_are_private(journal: Journal, tmp_path: Path) -> None:
    journal.lock()
    begin(journal)
    journal.unlock()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_full_disk_stops_us_before_the_change(journal: Journal, tmp_path: Path) -> None:
    generation = begin(journal)
    path = file_of(tmp_path)
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(HostError, match="cannot write the undo journal") as caught:
        generation.record(STARTED)
    assert "nothing is changed" in (caught.value.hint or "")


def test_the_lock_makes_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "var" / "lib"
    Journal(directory).lock()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_only_one_controller_works_at_a_time(journal: Journal, tmp_path: Path) -> None:
    journal.lock()
    with pytest.raises(Conflict, match=f"another controller is running: pid {os.getpid()}$"):
        Journal(tmp_path).lock()
    journal.unlock()
    journal.unlock()  # harmless
    Journal(tmp_path).lock()


def test_a_dead_controller_holds_no_lock(journal: Journal, tmp_path: Path) -> None:
    script = "import sys, os, pathlib; from overcommit.records.journal import Journal\n"
    script += "Journal(pathlib.Path(sys.argv[1])).lock(); os.kill(os.getpid(), 9)"
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ended.returncode == -9
    journal.lock()


def test_a_place_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Unsupported, match="cannot keep the undo journal") as caught:
        Journal(file / "below").lock()
    assert caught.value.hint == "run as root"


def moved(after: int) -> BalloonMoved:
    return BalloonMoved(domain=incarnation(), before_bytes=2 << 30, after_bytes=after)


def test_a_long_file_is_followed_by_another_and_what_is_outstanding_stays(
    journal: Journal, tmp_path: Path
) -> None:
    generation = begin(journal, "daemon")
    first = generation.record(moved(1))
    generation.roll(now=Wall(20.0))
    assert generation.number == 1, "it is short yet"
    while file_of(tmp_path).stat().st_size < 256 * 1024:
        journal.settle(generation.record(PoolClaimed(size=2, before={"x": "y" * 10_000})))
    generation.roll(now=Wall(20.0))
    second = generation.record(STARTED)
    assert (first.generation, second.generation, second.number) == (1, 2, 0)
    assert Journal(tmp_path).outstanding() == journal.outstanding() == (second, first)
    assert [(g.number, g.command, g.started_at, g.outstanding) for g in journal.generations()] == [
        (1, "daemon", Wall(12.5), 1),
        (2, "daemon", Wall(20.0), 1),
    ]
    generation.settle(first)
    assert Journal(tmp_path).outstanding() == (second,)


def test_a_long_file_that_left_nothing_is_not_kept(journal: Journal, tmp_path: Path) -> None:
    generation = begin(journal, "daemon")
    for _ in range(5):
        while generation.path.stat().st_size < 256 * 1024:
            generation.settle(generation.record(PoolClaimed(size=2, before={"x": "y" * 10_000})))
        generation.roll(now=Wall(20.0))
    assert [path.name for path in tmp_path.iterdir()] == ["generation-000006.jsonl"]


def test_only_what_changed_is_read_again(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def count(path: Path) -> Lines:
        read.append(path.name)
        return read_lines(path)

    monkeypatch.setattr("overcommit.records.contents.read", count)
    for _ in range(3):
        begin(journal).record(STARTED)
    entries = journal.outstanding()
    read.clear()
    assert journal.outstanding() == entries
    assert [g.outstanding for g in journal.generations()] == [1, 1, 1]
    assert read == []
    Journal(tmp_path).settle(entries[1])  # somebody else
    assert journal.outstanding() == (entries[0], entries[2])
    assert read == ["generation-000002.jsonl"]
    file_of(tmp_path, 3).unlink()
    assert journal.outstanding() == (entries[2],)


def test_what_is_owed_is_known_and_written_as_soon_as_it_can_be(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = begin(journal)
    kept = generation.record(moved(1))

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("overcommit.records.journal.os.write", full)
        generation.owe(moved(3))
        generation.owe(moved(2))
        with pytest.raises(HostError):
            generation.record(STARTED)
        with pytest.raises(HostError):
            generation.require_writable()
    newest, *others = journal.outstanding()
    assert (newest.record, others) == (moved(2), [kept])
    generation.require_writable()
    on_disk = Journal(tmp_path).outstanding()
    assert [entry.record for entry in on_disk] == [moved(2), moved(1)]
    assert journal.outstanding() == on_disk
    generation.owe(moved(5))
    journal.settle(journal.outstanding()[0])
    assert journal.outstanding() == on_disk
