"""The process of `overcommit.policy.reader_process`: reads a policy, and answers on stdout."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

from overcommit.errors import PolicyError, UsageError
from overcommit.policy import loader


def answer(path: Path | None) -> tuple[Any, ...]:
    """The answer about a policy."""
    try:
        return "policy", loader.load(path)
    except PolicyError as error:
        return "faults", error.faults
    except UsageError as error:
        return "unreadable", str(error), error.hint


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(answer(Path(sys.argv[1]) if sys.argv[1] else None)))
