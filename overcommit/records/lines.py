"""A file of the undo journal: lines of JSON, each on disk before the next step.

Each line has a checksum, so that a line that the disk or somebody changed is not used. Files of format 1 have
none, and are read as they are. A line that cannot be read is named, and the other lines are read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overcommit import bounded_json
from overcommit.errors import JournalFailed

FORMAT = 2
"""Format 1 had no checksums."""
_HEAD_OF_1 = {"command", "boot_id", "started_at"}
_SUM = "crc32"
_MOST_LINE_BYTES = 16 << 20
"""The longest line has the configuration of all DAMON slots that another tool left."""
_MOST_FILE_BYTES = 64 << 20
_MOST_DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A line that cannot be used, and why.

    ``torn``: it is the last one, and was cut short. What it describes was not done, because the whole line is
    on disk before. ``newer``: the whole file is of a later version.
    """

    line: int
    why: str
    torn: bool = False
    newer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The lines of a file, in order, each with its number."""

    found: tuple[tuple[int, dict[str, Any]], ...]
    damages: tuple[Damage, ...]


def append(path: Path, data: Mapping[str, Any]) -> None:
    """Write a line to disk. Of a line that does not fit, nothing stays.

    Raises:
        JournalFailed: the disk refuses.
    """
    text = _canonical(data)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            line = b"\n" * torn + json.dumps({**data, _SUM: _checksum(text)}).encode() + b"\n"
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise JournalFailed(
            f"cannot write the undo journal {path.name}: {error.strerror}",
            hint="free some disk space; nothing is changed without the journal",
        ) from error


def read(path: Path) -> Lines:
    """The lines of a file, and those that cannot be read. An empty file was never started.

    Raises:
        OSError: the file as a whole cannot be read.
    """
    # A pipe would wait for its other end, and a device has no end.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if about.st_size > _MOST_FILE_BYTES:
            return Lines(found=(), damages=(Damage(line=1, why="the file is too long"),))
        content = file.read(_MOST_FILE_BYTES)
    texts = content.split(b"\n")
    found: list[tuple[int, dict[str, Any], bool]] = []
    damages: list[Damage] = []
    for number, text in enumerate(texts, start=1):
        if not text.strip(b"\0 \t\r"):  # a file that was made longer, and nothing was written there
            continue
        try:
            line, summed = _understood(text)
        except ValueError as error:
            torn = number == len(texts)  # whole lines end with a line feed
            damages.append(Damage(line=number, why="it was cut short" if torn else str(error), torn=torn))
            continue
        if line.get("format", 0) > FORMAT:
            why = f"it is of format {line['format']}, which a newer overcommit wrote; this one reads {FORMAT}"
            return Lines(found=(), damages=(Damage(line=number, why=why, newer=True),))
        found.append((number, line, summed))
    if found and not _is_of_format_1(found):
        damages += [Damage(line=n, why="it has no checksum") for n, _, summed in found if not summed]
        found = [one for one in found if one[2]]
    damages.sort(key=lambda damage: damage.line)
    return Lines(found=tuple((number, line) for number, line, _ in found), damages=tuple(damages))


def _understood(text: bytes) -> tuple[dict[str, Any], bool]:
    """The content of a line, and whether it had a checksum, which was right.

    Raises:
        ValueError: why it cannot be used.
    """
    line = bounded_json.loads(text, most_bytes=_MOST_LINE_BYTES, most_depth=_MOST_DEPTH)
    if not isinstance(line, dict):
        message = "it is no object"
        raise ValueError(message)
    if _SUM not in line:
        return line, False
    if line.pop(_SUM) != _checksum(_canonical(line)):
        message = "its checksum does not match"
        raise ValueError(message)
    version = line.get("format", FORMAT)
    if isinstance(version, bool) or not isinstance(version, int):
        message = "its format is no number"
        raise ValueError(message)
    return line, True


def _is_of_format_1(found: list[tuple[int, dict[str, Any], bool]]) -> bool:
    """Whether lines may lack a checksum. Lines that were added to such a file later have one."""
    return bool(found) and found[0][1].keys() == _HEAD_OF_1 and not found[0][2]


def _canonical(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def _checksum(text: str) -> str:
    """CRC-32 (ISO-HDLC, as zlib has it). It finds every error within 32 bits in a row."""
    return f"{zlib.crc32(text.encode()):08x}"
