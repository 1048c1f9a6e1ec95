"""Reads a policy in a separate process: its validator takes more memory than all else that a daemon loads.

The process ends when it has answered. One that fails, or takes too long, has read no policy.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
from pathlib import Path

from overcommit.clock import SystemClock
from overcommit.errors import PolicyError, UsageError
from overcommit.model.policy import Policy

DEADLINE_SECONDS = 120.0
"""A host that is short of CPU needs long for it, and only the start of the daemon waits."""
_READER = "overcommit.policy.reader"
_AT_ONCE = 1 << 16
_monotonic = SystemClock().monotonic


class Reader:
    """One process that reads one policy. Ask until it is ready, or wait for it."""

    def __init__(self, path: Path | None) -> None:
        """Start the process.

        Raises:
            UsageError: the host cannot start a process.
        """
        self._parts: list[bytes] = []
        self._deadline = _monotonic() + DEADLINE_SECONDS
        self._pipe, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                # -P: nothing is loaded from where we are
                (sys.executable, "-P", "-m", _READER, str(path) if path is not None else ""),
                os.environ,
                file_actions=((os.POSIX_SPAWN_DUP2, theirs, 1),),
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
            )
        except OSError as error:
            os.close(self._pipe)
            raise UsageError(f"the policy could not be read: no process for it: {error.strerror}") from error
        finally:
            os.close(theirs)

    def ready(self) -> bool:
        """Whether it has answered, failed, or taken too long. Never waits."""
        return self._read(0.0)

    def policy(self) -> Policy:
        """The policy. Waits until it is read, and then frees the process.

        Raises:
            UsageError: a file cannot be read, or the process gave no answer.
            PolicyError: it is not a valid policy.
        """
        while not self._read(max(0.0, self._deadline - _monotonic())):
            pass
        self.close()
        try:
            kind, *said = pickle.loads(b"".join(self._parts))  # noqa: S301 - our own, over a pipe nobody else has
        except (EOFError, pickle.UnpicklingError, ValueError) as error:
            raise UsageError("the policy reader failed", hint="see the log") from error
        if kind == "faults":
            raise PolicyError(*said)
        if kind == "unreadable":
            message, hint = said
            raise UsageError(message, hint=hint)
        policy: Policy = said[0]
        return policy

    def close(self) -> None:
        """End the process, whatever its state."""
        if self._pid:
            os.close(self._pipe)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _read(self, patience: float) -> bool:
        """Read a part of the answer. Returns whether that was all."""
        while select.select([self._pipe], [], [], patience)[0]:
            part = os.read(self._pipe, _AT_ONCE)
            if not part:
                return True
            self._parts.append(part)
        return _monotonic() >= self._deadline
