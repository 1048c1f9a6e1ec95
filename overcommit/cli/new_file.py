"""Save what a verb was asked to write to a file."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from overcommit import own_file
from overcommit.errors import UsageError


def save(file: Path, text: str, what: str, *, hint: str) -> None:
    """Write a new file that only its owner may read and write, and put it in place when it is whole.

    So no process has it open. An existing pipe or device is written to. ``what`` names the text in an error.

    Raises:
        UsageError: it cannot be written; with the ``hint``.
    """
    try:
        if file.exists() and not file.is_file():
            _write_into(file, text)
            return
        opened, new = tempfile.mkstemp(prefix=".overcommit-", dir=file.parent)
        try:
            with os.fdopen(opened, "w", encoding="utf-8") as writing:
                writing.write(text)
            Path(new).replace(file)
        except BaseException:
            Path(new).unlink()
            raise
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"cannot save {what} to {file}: {why}", hint=hint) from error


def _write_into(file: Path, text: str) -> None:
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)  # so that protected_fifos counts
    with os.fdopen(opened, "w", encoding="utf-8") as writing:
        about = os.fstat(opened)
        if stat.S_ISFIFO(about.st_mode) and about.st_uid not in own_file.callers():
            raise PermissionError(errno.EPERM, f"it is a pipe of uid {about.st_uid}")
        writing.write(text)
