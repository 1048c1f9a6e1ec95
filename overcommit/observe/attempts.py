"""The boundary around each thing that is read of a domain: what goes wrong there is a gap of that domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from overcommit.errors import UNCONTAINED, Gone, HostError, in_a_line
from overcommit.model.facts import Gap

_T = TypeVar("_T")


def attempt_or_gap(gaps: list[Gap], what: str, call: Callable[[], _T]) -> _T | None:
    """What the call gives, or one more gap; only that the process is gone goes further."""
    try:
        return call()
    except Gone:
        raise
    except UNCONTAINED:
        raise
    except Exception as error:  # noqa: BLE001 - a boundary
        gaps.append(Gap(what=what, why=gap_text(error)))
        return None


def gap_text(error: Exception) -> str:
    """Why something could not be read; where in this program only if nobody expected it."""
    expected = isinstance(error, HostError | OSError | ValueError)
    return str(error) if expected else in_a_line(error)
