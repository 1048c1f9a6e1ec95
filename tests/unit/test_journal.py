"""The undo journal on a real disk: what it remembers after any death (rules S3, S4, S10, S11)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from overcommit.errors import Conflict, HostError, Unsupported
from overcommit.journal import (
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
    return journal.begin(command, boot_id="boot-1", started_at=12.5)


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
        (1, "plan", 12.5, "boot-1", 0),
        (2, "apply", 12.5, "boot-1", 1),
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
    monkeypatch.setattr("overcommit.journal._KEPT_GENERATIONS", 3)
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
    with pytest.raises(Conflict, match=f"another controller is at work: pid {os.getpid()}$"):
        Journal(tmp_path).lock()
    journal.unlock()
    journal.unlock()  # harmless
    Journal(tmp_path).lock()


def test_a_dead_controller_holds_no_lock(journal: Journal, tmp_path: Path) -> None:
    script = "import sys, os, pathlib; from overcommit.journal import Journal\n"
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
