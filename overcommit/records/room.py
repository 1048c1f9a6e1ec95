"""How much of its disk the undo journal takes: a size that it never passes (rule S13).

What takes memory is refused first, and what gives it back only later: at the end of the room there is always
some left to put everything back. To settle a record takes less than the record itself, and is never refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from overcommit.errors import JournalFailed
from overcommit.units import MIB, format_size

MOST_RECORD_BYTES = MIB
"""The longest is a whole configuration of DAMON that was found."""
MOST_TAKING_BYTES = 96 * MIB
MOST_BYTES = 128 * MIB
"""Of records; with all of them settled it is less than twice as much. A file stays as it is while one of its
records is needed: some hundreds of files can be, on a host with as many domains."""
_AROUND_BYTES = 64
"""Of a line, beside its record: checksum, and the ends of a torn line and its own."""
FEW_RECORDS_BYTES = 4096
"""With less than that there is no room to begin anything."""
KEPT_BYTES = 8 * MIB
"""Of the newest files that are kept when nothing in them is left to undo."""


def require_room(directory: Path, record_bytes: int, *, takes: bool) -> None:
    """Raise `JournalFailed` unless a record of that length may be put there; ``takes``: memory, or DAMON."""
    if record_bytes > MOST_RECORD_BYTES:
        raise JournalFailed(
            f"a record of {format_size(record_bytes)} is too long for the undo journal",
            hint="nothing is changed without it",
        )
    held, most = held_bytes(directory), MOST_TAKING_BYTES if takes else MOST_BYTES
    if held + record_bytes + _AROUND_BYTES > most:
        raise JournalFailed(
            f"the undo journal is full: {format_size(held)} of {format_size(most)}",
            hint="overcommitctl restore puts everything back and empties it",
        )


def superfluous(files: Sequence[tuple[int, Path]], kept: int) -> Sequence[tuple[int, Path]]:
    """Of files, oldest first, those that are older than the newest ``kept``, or than `KEPT_BYTES` of them."""
    size = 0
    for position in range(len(files) - 1, -1, -1):
        size += _size(files[position][1])
        if len(files) - position > kept or size > KEPT_BYTES:
            return files[: position + 1]
    return ()


def held_bytes(directory: Path) -> int:
    """How much of the journal's room its files take now."""
    return sum(_size(path) for path in directory.glob("generation-*.jsonl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone meanwhile
        return 0
