"""The policy in force: what was last read from its files and was a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from overcommit.errors import PolicyError, UsageError
from overcommit.model.policy import Policy
from overcommit.policy.files import files_of

_MOST_TEXT = 500


class PolicyFile:
    """``policy`` is the one in force; ``refused`` says why the newest is not, None when it is."""

    def __init__(self, path: Path | None, load: Callable[[Path | None], Policy]) -> None:
        """Read it, now and later, by ``load``.

        Raises:
            PolicyError: it does not validate.
            UsageError: it cannot be read.
        """
        self._path = path
        self._load = load
        self.policy = load(path)
        self.refused: str | None = None

    def state(self) -> tuple[tuple[str, int, int, int], ...]:
        """What tells one state of the files from another, without reading them; never raises."""
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

    def read_again(self) -> bool:
        """Whether another policy is in force now; what is no policy leaves the old one in force."""
        try:
            new = self._load(self._path)
        except (PolicyError, UsageError) as error:
            self.refused = str(error)[:_MOST_TEXT]
            return False
        self.refused = None
        before, self.policy = self.policy, new
        return new.digest != before.digest
