"""Finds the domain or word that somebody means, by name or UUID, and the nearest one to a misspelled word."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from overcommit.display import plain
from overcommit.errors import UsageError

_ALIKE = 0.5
"""The least similarity, as `difflib` measures it."""
_MOST_NAMED = 10


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant; None: none is similar."""
    by_folded = {each.casefold(): each for each in known}
    folded = word.casefold()
    if folded in by_folded:
        return by_folded[folded]
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=_ALIKE)
    holding = [each for each in by_folded if folded and (folded in each or each in folded)]
    found = close or (holding if len(holding) == 1 else [])
    return by_folded[found[0]] if found else None


def names_of(words: Sequence[str], running: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the domains that the words mean. ``running`` has the running ones by UUID.

    A word that is the UUID of a domain means that domain, whatever others are called.

    Raises:
        UsageError: no running domain has this name or UUID; the first such word is named.
    """
    names = set(running.values())
    found = []
    for word in words:
        name = running.get(word, word)
        if name not in names:
            raise UsageError(f"no running domain {word!r}", hint=_hint(word, names))
        found.append(name)
    return tuple(found)


def _hint(word: str, names: Collection[str]) -> str:
    near = nearest(word, names)
    if near is not None:
        return f"did you mean {plain(near)}?"
    some = sorted(names)[:_MOST_NAMED]
    more = f" and {len(names) - len(some)} more" if len(names) > len(some) else ""
    return f"running: {', '.join(map(plain, some)) or 'none'}{more}"
