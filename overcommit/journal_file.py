"""A file of the undo journal: lines of JSON, each on disk before the next thing is done.

A torn line (power loss while appending) describes a write that never happened, and is left out.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from overcommit.errors import JournalFailed


def append(path: Path, data: Mapping[str, Any]) -> None:
    """Put a line on disk.

    Raises:
        JournalFailed: the disk refuses.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            line = b"\n" * torn + json.dumps(data).encode() + b"\n"
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise JournalFailed(
            f"cannot write the undo journal {path.name}: {error.strerror}",
            hint="nothing is changed without it; free some disk space",
        ) from error


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """What is there, in order."""
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # torn by a power loss; its write was never made
        if isinstance(line, dict):
            yield line
