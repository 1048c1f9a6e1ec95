"""A journal that a disk, a hand or a newer version changed: named, never obeyed in silence (S4, S13)."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overcommit.errors import Conflict, JournalFailed, Refused
from overcommit.records.journal import BalloonMoved, Journal, KsmStarted, Record
from overcommit.records.lines import append
from tests.unit.test_journal import RECORDS, STARTED, begin, file_of, moved

FILE = "generation-000001.jsonl"


def said(directory: Path) -> list[str]:
    """All that cannot be read."""
    return [str(fault) for fault in Journal(directory).faults()]


def written(directory: Path, *records: Record) -> list[bytes]:
    """The lines of a new journal."""
    generation = begin(Journal(directory))
    for record in records:
        generation.record(record)
    return file_of(directory).read_bytes().splitlines(keepends=True)


def forged(line: dict[str, Any]) -> Callable[[Path], None]:
    """Another line, with the checksum that belongs to it."""
    return lambda path: append(path, line)


def raw(text: bytes) -> Callable[[Path], None]:
    def add(path: Path) -> None:
        path.write_bytes(path.read_bytes() + text)

    return add


def record(**values: Any) -> dict[str, Any]:
    return {"number": 7, "boot_id": "boot-1", "record": values}


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"]
)
def test_what_is_no_file_is_named_and_nobody_waits_for_it(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / FILE)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, before[1]))
    try:
        (fault,) = said(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert "it is no regular file" in fault


@pytest.mark.timeout(30)
def test_a_lock_that_is_a_pipe_makes_nobody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    assert Journal(tmp_path).holder() is None
    holding = Journal(tmp_path)
    holding.lock()
    assert Journal(tmp_path).holder() == "unknown"
    with pytest.raises(Conflict, match="another controller is running: unknown"):
        Journal(tmp_path).lock()
    holding.unlock()


TRACE = "/sys/kernel/tracing/instances/overcommit"
KSM_OUT = {"kind": "KsmStarted", "before": {"../x": "1"}, "after": {"../x": "0"}}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (raw(b"{broken}\n"), "Expecting property name"),
        (raw(b"[1]\n"), "it is no object"),
        (raw(b'{"number": 7, "record": {"kind": "x"}}\n'), "it has no checksum"),
        (raw(b'{"settled": 0, "crc32": "00000000"}\n'), "its checksum does not match"),
        (raw(b'{"settled": NaN}\n'), "NaN is no JSON"),
        (raw(b"[" * 50 + b"\n"), "nested more than"),
        (raw(b'{"number": 7, "rec'), "it was cut short"),
        (forged({"command": 1}), "it is of an unknown kind"),
        (forged({"settled": "0"}), "it is of an unknown kind"),
        (forged({"number": True, "record": {}}), "it is of an unknown kind"),
        (forged({**record(kind="TraceOpened", path=TRACE), "number": 0}), "that of an earlier line"),
        (forged(record(kind="Nobody")), "a record of an unknown kind"),
        (forged(record(kind=["x"])), "a record of an unknown kind"),
        (forged(record(kind="TraceOpened")), "its TraceOpened has missing or unknown fields"),
        (forged(record(kind="TraceOpened", path=TRACE, x=1)), "has missing or unknown fields"),
        (forged(record(kind="TraceOpened", path=f"{TRACE}/../x")), "an impossible path"),
        (forged(record(kind="ModuleTakenOver", module="../kvm", before="Y")), "an impossible module"),
        (forged(record(kind="PoolClaimed", size=-1, before={})), "an impossible size"),
        (forged(record(kind="PoolClaimed", size=1, before={"../../x": "1"})), "an impossible before"),
        (forged(record(kind="PoolClaimed", size=1, before={"/etc/x": "1"})), "an impossible before"),
        (forged(record(**KSM_OUT)), "an impossible before"),
        (
            forged(record(kind="BalloonMoved", domain=None, before_bytes=1, after_bytes=1)),
            "an impossible domain",
        ),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_obeyed_is_named_and_the_others_are_read(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    written(tmp_path, STARTED)
    spoil(file_of(tmp_path))
    (fault,) = said(tmp_path)
    assert fault.startswith(f"{FILE} line 3 cannot be read: ")
    assert why in fault
    assert [entry.record for entry in Journal(tmp_path).outstanding()] == [STARTED]
    assert [g.outstanding for g in Journal(tmp_path).generations()] == [1]


@pytest.mark.parametrize("lost", range(len(RECORDS) + 1))
def test_whichever_line_is_lost_the_others_are_put_back_in_their_order(tmp_path: Path, lost: int) -> None:
    """Also the first, which says of which boot they are: each says so itself."""
    lines = written(tmp_path, *RECORDS)
    lines[lost] = lines[lost].replace(b'"', b"'", 1)
    file_of(tmp_path).write_bytes(b"".join(lines))
    assert [fault.damage.line for fault in Journal(tmp_path).faults("boot-1")] == [lost + 1]
    rest = [record for number, record in enumerate(RECORDS, start=1) if number != lost]
    outstanding = Journal(tmp_path).outstanding()
    assert [entry.record for entry in outstanding] == list(reversed(rest))
    assert {entry.boot_id for entry in outstanding} == {"boot-1"}


def test_two_lines_that_became_one_are_named_once(tmp_path: Path) -> None:
    lines = written(tmp_path, STARTED, moved(1), moved(2))
    file_of(tmp_path).write_bytes(b"".join((lines[0], lines[1], lines[2].rstrip(), b" ", lines[3])))
    assert len(said(tmp_path)) == 1
    assert [entry.record for entry in Journal(tmp_path).outstanding()] == [STARTED]


def test_room_that_was_never_written_to_is_no_damage(tmp_path: Path) -> None:
    """What a file system leaves of a write that did not come to its end; zeros over a line are damage."""
    written(tmp_path, STARTED)
    raw(b"\0" * 4096)(file_of(tmp_path))
    journal = Journal(tmp_path)
    journal.settle(journal.outstanding()[0])
    assert (said(tmp_path), Journal(tmp_path).outstanding()) == ([], ())
    (tmp_path / "other").mkdir()
    lines = written(tmp_path / "other", STARTED, moved(1))
    lines[1] = lines[1][:40] + b"\0" * len(lines[1][40:])
    file_of(tmp_path / "other").write_bytes(b"".join(lines))
    assert len(said(tmp_path / "other")) == 1


def test_damage_of_another_boot_is_nobodys_loss(tmp_path: Path) -> None:
    written(tmp_path, STARTED)
    raw(b"{broken}\n")(file_of(tmp_path))
    assert Journal(tmp_path).faults("boot-1")
    assert Journal(tmp_path).faults("boot-2") == ()


def test_what_a_newer_version_wrote_is_left_alone_and_nothing_is_begun(tmp_path: Path) -> None:
    append(file_of(tmp_path), {"format": 3, "command": "apply", "boot_id": "boot-1", "started_at": 1.0})
    append(file_of(tmp_path), {"whatever": "it says"})
    journal = Journal(tmp_path)
    assert journal.outstanding() == ()
    with pytest.raises(Refused, match=f"{FILE}: it is of format 3, which a newer overcommit wrote") as caught:
        journal.lock()
    assert "or a newer one" in (caught.value.hint or "")
    assert journal.holder() is None


def test_a_file_without_checksums_is_read_and_settled_with_them(tmp_path: Path) -> None:
    head = {"command": "apply", "boot_id": "boot-1", "started_at": 1.0}
    data = {
        "number": 0,
        "record": {"kind": "KdamondStarted", "slot": 0, "what": "x", "fingerprint": "0123456789abcdef"},
    }
    file_of(tmp_path).write_text(json.dumps(head) + "\n" + json.dumps(data) + "\n")
    journal = Journal(tmp_path)
    (entry,) = journal.outstanding()
    assert said(tmp_path) == []
    journal.settle(entry)
    assert Journal(tmp_path).outstanding() == ()
    assert said(tmp_path) == []


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    generation = begin(Journal(tmp_path))
    with pytest.raises(JournalFailed, match="undo journal: its KsmStarted has an impossible before"):
        generation.record(KsmStarted(before={"../run": "0"}, after={"../run": "1"}))
    assert len(file_of(tmp_path).read_bytes().splitlines()) == 1


def test_a_line_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generation = begin(Journal(tmp_path))
    before = file_of(tmp_path).read_bytes()
    really = __import__("os").write
    with monkeypatch.context() as patched:
        patched.setattr("overcommit.records.lines.os.write", lambda fd, data: really(fd, data[:9]))
        with pytest.raises(JournalFailed):
            generation.record(STARTED)
    assert file_of(tmp_path).read_bytes() == before
    entry = generation.record(STARTED)
    assert Journal(tmp_path).outstanding() == (entry,)


def test_a_damaged_file_is_set_aside_under_a_name_of_its_own(tmp_path: Path) -> None:
    for number in (1, 2):
        written(tmp_path)
        raw(b"{broken}\n")(file_of(tmp_path))
        assert Journal(tmp_path).set_aside(FILE) == f"{FILE}.damaged-{number}"
        assert said(tmp_path) == []


def test_no_bit_that_flips_alters_a_record_in_silence(tmp_path: Path) -> None:
    """Each bit of a journal with every kind of record, one after the other in steps."""
    lines = b"".join(written(tmp_path, *RECORDS))
    whole = Journal(tmp_path).outstanding()
    for bit in range(0, len(lines) * 8, 13):
        flipped = bytearray(lines)
        flipped[bit // 8] ^= 1 << bit % 8
        file_of(tmp_path).write_bytes(flipped)
        journal = Journal(tmp_path)
        assert journal.outstanding() == whole or journal.faults(), f"bit {bit}"


def test_a_balloon_moves_within_what_can_be(tmp_path: Path) -> None:
    generation = begin(Journal(tmp_path))
    with pytest.raises(JournalFailed, match="an impossible before_bytes"):
        generation.record(BalloonMoved(domain=moved(1).domain, before_bytes=1 << 63, after_bytes=1))
