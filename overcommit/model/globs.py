"""Matching of names against many case-sensitive globs (the syntax of `fnmatch`)."""

from __future__ import annotations

import fnmatch
import functools
import re

_WILDCARDS = frozenset("*?[")
_MOST_COMPILED = 1 << 15
"""`fnmatch` itself keeps 256 before Python 3.12, and would compile all anew for each name of more globs."""


def is_glob(text: str) -> bool:
    """Whether a name has wildcards."""
    return not _WILDCARDS.isdisjoint(text)


def matches(pattern: str, name: str) -> bool:
    """Whether a name matches the pattern."""
    return pattern == name if not is_glob(pattern) else _compiled(pattern).match(name) is not None


@functools.lru_cache(maxsize=_MOST_COMPILED)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def literals(pattern: str) -> list[str]:
    """The texts that every matching name contains; one empty text where there are none."""
    found, text, at = [], "", 0
    while at < len(pattern):
        after = _wildcard_end(pattern, at)
        if after == at:
            text, at = text + pattern[at], at + 1
        else:
            found.append(text)
            text, at = "", after
    found.append(text)
    return [each for each in found if each] or [""]


def _wildcard_end(pattern: str, at: int) -> int:
    """Where the wildcard that begins there ends; where it began, if there is none."""
    if pattern[at] in "*?":
        return at + 1
    if pattern[at] != "[":
        return at
    first = at + 2 if pattern[at + 1 : at + 2] == "!" else at + 1
    end = pattern.find("]", first + 1)  # one that comes first is one of the characters
    return end + 1 if end >= 0 else at
