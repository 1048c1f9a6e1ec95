"""The lock that allows one controller at a time (rule S11). It ends with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from overcommit.errors import Conflict, Unsupported


class ControllerLock:
    """A lock file in the undo journal's directory, which names its holder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: int | None = None

    def take(self) -> None:
        """Become the only controller on this host until the process ends.

        Raises:
            Conflict: another controller is running.
            Unsupported: the directory cannot be written (usually: not root).
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unsupported(
                f"cannot keep the undo journal in {self._directory}: {error.strerror}",
                hint="run as root",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _named_in(descriptor)
            os.close(descriptor)
            raise Conflict(
                f"another controller is running: {holder}",
                hint="wait until it ends, or stop it",
            ) from error
        self._held = descriptor
        with contextlib.suppress(OSError):  # for people only; a full disk must not keep restore from running
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)

    def holder(self) -> str | None:
        """The present controller; None: there is none, or this user may not know. Changes nothing."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _named_in(descriptor)
        finally:
            os.close(descriptor)
        return None

    def leave(self) -> None:
        """Release the lock."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @property
    def _path(self) -> Path:
        return self._directory / "lock"


def _named_in(lock: int) -> str:
    try:
        name = os.pread(lock, 200, 0).decode(errors="replace").strip()
    except OSError:  # somebody made it a pipe
        name = ""
    return name or "unknown"
