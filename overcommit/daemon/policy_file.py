"""The policy in force: the last valid one that was read from its files."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from overcommit.display import command
from overcommit.errors import PolicyError, UsageError
from overcommit.model.policy import Policy
from overcommit.policy.files import files_of

_MOST_TEXT = 500


class Reading(Protocol):
    """A policy that is being read (`overcommit.policy.reader_process.Reader`)."""

    def ready(self) -> bool:
        """Whether there is an answer; never waits."""
        ...

    def policy(self) -> Policy:
        """The answer; waits for it."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class PolicyFile:
    """``policy`` is the one in force. ``refused`` is why the newest is invalid; None: it is valid."""

    def __init__(self, path: Path | None, begin: Callable[[Path | None], Reading]) -> None:
        """Read the policy, now and later. ``begin`` starts to read it.

        Raises:
            PolicyError: it does not validate.
            UsageError: it cannot be read.
        """
        self._path = path
        self._begin = begin
        self._reading: Reading | None = None
        self.policy = begin(path).policy()
        self.refused: str | None = None

    def state(self) -> tuple[tuple[str, int, int, int], ...]:
        """A value that changes when the files change, without reading them; never raises."""
        try:
            files = files_of(self._path)
        except UsageError:
            return ()
        found = []
        for file in files:
            with contextlib.suppress(OSError):
                about = file.stat()
                found.append((str(file), about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(found)

    def begin(self) -> None:
        """Start to read it again. A read in progress is abandoned."""
        self.close()
        try:
            self._reading = self._begin(self._path)
        except UsageError as error:
            self.refused = str(error)[:_MOST_TEXT]

    def ready(self) -> bool:
        """Whether no read is in progress, or it is complete."""
        return self._reading is None or self._reading.ready()

    def read_again(self) -> bool:
        """Whether another policy is in force now. An invalid one leaves the old one in force.

        It waits for the read that `begin` has started.
        """
        if self._reading is None:
            return False
        reading, self._reading = self._reading, None
        try:
            new = reading.policy()
        except (PolicyError, UsageError) as error:
            self.refused = _told(error, self._path)[:_MOST_TEXT]
            return False
        self.refused = None
        before, self.policy = self.policy, new
        return new.digest != before.digest

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None


def _told(error: UsageError, path: Path | None) -> str:
    """The public text of the error. Of a file that not all users may read, it has only the place."""
    if not isinstance(error, PolicyError):
        return str(error)
    look = command("overcommitctl", "validate", *([str(path)] if path else []))
    return "\n".join(
        str(fault) if _is_public(fault.file) else f"{fault.place}: not valid; to see why: {look}"
        for fault in error.faults
    )


def _is_public(file: str) -> bool:
    try:
        return bool(Path(file).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
