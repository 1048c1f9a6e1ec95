"""A policy read in a process of its own: what validates it takes more memory than all else a daemon loads.

The process ends as soon as it has answered. One that fails, or takes too long, has read no policy.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import time
from pathlib import Path

from overcommit.errors import PolicyError, UsageError
from overcommit.model.policy import Policy

DEADLINE_SECONDS = 20.0
_READER = "overcommit.policy.reader"
_AT_ONCE = 1 << 16


def load(path: Path | None) -> Policy:
    """As `overcommit.policy.loader.load`; it may take some seconds on a host that is busy.

    Raises:
        UsageError: a file cannot be read, or nothing could be learnt of it.
        PolicyError: it is not a valid policy.
    """
    answer = _ask(str(path) if path is not None else "")
    try:
        kind, *said = pickle.loads(answer)  # noqa: S301 - from ourselves, over a pipe that nobody else has
    except (EOFError, pickle.UnpicklingError, ValueError) as error:
        raise UsageError("the policy could not be read: its reader failed", hint="see the log") from error
    if kind == "faults":
        raise PolicyError(*said)
    if kind == "unreadable":
        message, hint = said
        raise UsageError(message, hint=hint)
    policy: Policy = said[0]
    return policy


def _ask(path: str) -> bytes:
    """What the reader says; nothing, or a part of it, where it fails."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        reader = os.posix_spawn(
            sys.executable,
            (sys.executable, "-P", "-m", _READER, path),  # -P: nothing is loaded from where we are
            os.environ,
            file_actions=((os.POSIX_SPAWN_DUP2, theirs, 1),),
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
        )
    except OSError as error:
        os.close(ours)
        raise UsageError(f"the policy could not be read: no process for it: {error.strerror}") from error
    finally:
        os.close(theirs)
    try:
        return _all_of(ours, time.monotonic() + DEADLINE_SECONDS)
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.kill(reader, signal.SIGKILL)  # it has answered, or will not
        os.waitpid(reader, 0)


def _all_of(descriptor: int, deadline: float) -> bytes:
    parts = []
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(descriptor, _AT_ONCE)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
