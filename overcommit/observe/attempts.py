"""The boundary around each value that is read of a domain: an error there becomes a gap of that domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from overcommit.errors import UNCONTAINED, Gone, HostError, in_a_line
from overcommit.model.facts import Gap

_T = TypeVar("_T")


def attempt_or_gap(gaps: list[Gap], what: str, call: Callable[[], _T]) -> _T | None:
    """The result of the call, or None with one more gap. Only `Gone` is raised further."""
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
    """The reason of a gap. It has the place in this program only if the error was unexpected."""
    expected = isinstance(error, HostError | OSError | ValueError)
    return str(error) if expected else in_a_line(error)
