"""A policy that is read in this process, for tests that do not need a separate one."""

from __future__ import annotations

from pathlib import Path

from overcommit.model.policy import Policy
from overcommit.policy import loader


class PolicyAtOnce:
    """As `overcommit.policy.reader_process.Reader`, but ready at once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def ready(self) -> bool:
        """Always true."""
        return True

    def policy(self) -> Policy:
        """Read it now.

        Raises:
            UsageError: a file cannot be read.
            PolicyError: it is not a valid policy.
        """
        return loader.load(self._path)

    def close(self) -> None:
        """Nothing has to be closed."""
