"""A bound on the disk space of the undo journal (rule S13).

Records that take memory are refused first, and those that give it back only later, so that there is always
room to restore everything. To settle a record takes less than the record itself, and is never refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from overcommit.errors import JournalFailed
from overcommit.units import MIB, format_size

MOST_RECORD_BYTES = MIB
"""The longest record is a whole configuration of DAMON that was found."""
MOST_TAKING_BYTES = 96 * MIB
MOST_BYTES = 128 * MIB
"""The bound for records. With all of them settled it is less than twice as much. A file stays while one of
its records is needed, so there can be some hundreds of files on a host with as many domains.
"""
_AROUND_BYTES = 64
"""Bytes of a line besides its record: the checksum, and the ends of a torn line and its own."""
FEW_RECORDS_BYTES = 4096
"""With less room than that nothing may start."""
KEPT_BYTES = 8 * MIB
"""The most bytes of the newest files that are kept when they have nothing left to undo."""


def require_room(directory: Path, record_bytes: int, *, takes: bool) -> None:
    """Check that a record of that length may be written. ``takes``: it takes memory, or DAMON.

    Raises:
        JournalFailed: the record is too long, or the journal is full.
    """
    if record_bytes > MOST_RECORD_BYTES:
        raise JournalFailed(
            f"a record of {format_size(record_bytes)} is too long for the undo journal",
            hint="nothing is changed without it",
        )
    held, most = held_bytes(directory), MOST_TAKING_BYTES if takes else MOST_BYTES
    if held + record_bytes + _AROUND_BYTES > most:
        raise JournalFailed(
            f"the undo journal is full: {format_size(held)} of {format_size(most)}",
            hint="to put everything back and empty it: overcommitctl restore",
        )


def superfluous(files: Sequence[tuple[int, Path]], kept: int) -> Sequence[tuple[int, Path]]:
    """The files, oldest first, beyond the newest ``kept``, or beyond the newest `KEPT_BYTES`."""
    size = 0
    for position in range(len(files) - 1, -1, -1):
        size += _size(files[position][1])
        if len(files) - position > kept or size > KEPT_BYTES:
            return files[: position + 1]
    return ()


def held_bytes(directory: Path) -> int:
    """The bytes that the journal's files take."""
    return sum(_size(path) for path in directory.glob("generation-*.jsonl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone meanwhile
        return 0
