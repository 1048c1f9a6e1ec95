"""Which of the things that there are somebody means, by name or UUID, and what is nearest to a slip."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from overcommit.display import plain
from overcommit.errors import UsageError

_ALIKE = 0.5
"""As `difflib` measures it; of several the most alike is named."""
_MOST_NAMED = 10


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What of the known words was probably meant, None where none is near."""
    by_folded = {each.casefold(): each for each in known}
    folded = word.casefold()
    if folded in by_folded:
        return by_folded[folded]
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=_ALIKE)
    holding = [each for each in by_folded if folded and (folded in each or each in folded)]
    found = close or (holding if len(holding) == 1 else [])
    return by_folded[found[0]] if found else None


def names_of(words: Sequence[str], running: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the domains that are meant; ``running`` has those that run, by UUID.

    A word that is the UUID of one means that one, whatever others are called.

    Raises:
        UsageError: the first word that no running domain has.
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
