"""A journal that anything happened to: each record as it was, or the damage is named; never an exception."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from overcommit.errors import Refused
from overcommit.model.moments import Wall
from overcommit.records.journal import Entry, Journal
from overcommit.records.lines import append
from tests.unit.test_journal import RECORDS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=12), inside, max_size=4),
    max_leaves=8,
)


def whole() -> tuple[bytes, tuple[Entry, ...]]:
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name))
        generation = journal.begin("apply", boot_id="boot-1", started_at=Wall(12.5))
        for entry in [generation.record(record) for record in RECORDS][::3]:
            generation.settle(entry)
        return generation.path.read_bytes(), journal.outstanding()


WHOLE, OUTSTANDING = whole()


def look(content: bytes) -> Journal:
    """The journal with that file in it; all that is read only is asked."""
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name))
        (Path(name) / "generation-000001.jsonl").write_bytes(content)
        journal.outstanding()
        journal.generations()
        journal.begun()
        journal.faults()
        return journal


def require_right(journal: Journal) -> None:
    """What it holds is what was written; of what was settled more may be there, where that is named."""
    assert all(entry.record in RECORDS for entry in journal_of(journal))
    if not faults_of(journal):
        assert journal_of(journal) == OUTSTANDING


def journal_of(journal: Journal) -> tuple[Entry, ...]:
    return tuple(e for content in journal._read.values() for e in reversed(content.outstanding))


def faults_of(journal: Journal) -> list[str]:
    return [str(fault) for content in journal._read.values() for fault in content.faults]


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), min_size=1, max_size=6))
def test_bytes_that_changed(changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for place, by in changes:
        content[place] ^= by
    require_right(look(bytes(content)))


@given(st.integers(0, len(WHOLE)), st.integers(0, 200), st.binary(max_size=40))
def test_bytes_that_are_missing_or_too_many(at: int, gone: int, more: bytes) -> None:
    journal = look(WHOLE[:at] + more + WHOLE[at + gone :])
    assert all(entry.record in RECORDS for entry in journal_of(journal))


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_read(content: bytes) -> None:
    look(content)
    require_right(look(WHOLE + content + b"\n"))


@given(JSON, st.sampled_from(["record", "settled", "number", "boot_id", "format", "command"]))
def test_any_line_with_the_right_checksum_is_read(value: Any, key: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "generation-000001.jsonl"
        path.write_bytes(WHOLE)
        line = {"number": 50, "boot_id": "boot-1", "record": {}, key: value}
        append(path, line)
        append(path, {key: value})
        journal = Journal(Path(name))
        journal.outstanding()
        try:
            journal.lock()
        except Refused:
            assert any(fault.damage.newer for fault in journal.faults())
        else:
            journal.unlock()
