"""An index of rules that finds the first matching rule without trying each.

Rules that differ only in their range of sizes form a group. A group is filed under the one criterion that the
fewest other groups have: a UUID, a name, a text within the name, or a label. A matching domain has that
criterion, so only groups filed under a domain's properties can match it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from overcommit.model import globs

_Range = tuple[int, int | None]
_Key = tuple[str, ...]
_ANYTHING: _Key = ("",)


class Asking(Protocol):
    """The criteria of a rule; all must hold. ``memory`` is the least and the greatest size; None: any."""

    @property
    def name(self) -> str | None:
        """A glob."""
        ...

    @property
    def uuid(self) -> str | None:
        """In lower case."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """Labels with their values."""
        ...

    @property
    def memory(self) -> _Range:
        """The sizes, both ends included."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Having:
    """The properties of a domain, or those shared by all domains that a rule matches.

    ``glob``: the name is that rule's glob.
    """

    name: str | None
    glob: bool
    uuid: str | None
    metadata: Mapping[str, str]
    memory: _Range


def applies(rule: Asking, to: Having) -> bool:
    """Whether a rule certainly matches. Two globs are compared as text."""
    return _applies_but_for_size(rule, to) and _includes(rule.memory, to.memory)


def _applies_but_for_size(rule: Asking, to: Having) -> bool:
    return (
        (rule.uuid is None or rule.uuid == to.uuid)
        and (rule.name is None or (to.name is not None and _named(rule.name, to.name, glob=to.glob)))
        and rule.metadata.items() <= to.metadata.items()
    )


def _named(pattern: str, name: str, *, glob: bool) -> bool:
    return pattern == name if glob else globs.matches(pattern, name)


def _includes(outer: _Range, inner: _Range) -> bool:
    return outer[0] <= inner[0] and _most(inner) <= _most(outer)


def _most(sizes: _Range) -> float:
    return math.inf if sizes[1] is None else sizes[1]


class RuleIndex:
    """An index of numbered rules. The lowest matching number wins."""

    def __init__(self, rules: Iterable[tuple[int, Asking]]) -> None:
        groups: dict[tuple[object, ...], _Group] = {}
        for number, rule in rules:
            same = (rule.name, rule.uuid, frozenset(rule.metadata.items()))
            groups.setdefault(same, _Group(rule)).sizes.append((number, rule.memory))
        asked = Counter(key for group in groups.values() for key in _asked_for(group.rule))
        self._filed: dict[_Key, list[_Group]] = defaultdict(list)
        for group in groups.values():
            group.close()
            key = min(_asked_for(group.rule), key=lambda key: (asked[key], -len(key[-1])), default=_ANYTHING)
            self._filed[key].append(group)
            if key[0] == "text" and group.rule.name is not None:
                self._filed["name", group.rule.name].append(group)  # for another rule with the same glob
        for filed in self._filed.values():
            filed.sort(key=lambda group: group.first)
        self._lengths = sorted({len(key[1]) for key in self._filed if key[0] == "text"})

    def first(self, to: Having) -> int | None:
        """The number of the first matching rule; None: no rule matches."""
        best: int | None = None
        for key in self._keys_of(to):
            for group in self._filed.get(key, ()):
                if best is not None and group.first >= best:
                    break
                if _applies_but_for_size(group.rule, to):
                    found = group.first_that_includes(to.memory)
                    if found is not None and (best is None or found < best):
                        best = found
        return best

    def _keys_of(self, to: Having) -> Iterator[_Key]:
        """What a rule may be filed under that applies."""
        yield _ANYTHING
        if to.uuid is not None:
            yield "uuid", to.uuid
        for label in to.metadata.items():
            yield "label", *label
        if to.name is not None:
            yield "name", to.name
            if not to.glob:
                for length in self._lengths:
                    for text in {to.name[at : at + length] for at in range(len(to.name) - length + 1)}:
                        yield "text", text


def _asked_for(rule: Asking) -> Iterator[_Key]:
    if rule.uuid is not None:
        yield "uuid", rule.uuid
    for label in rule.metadata.items():
        yield "label", *label
    if rule.name is not None and not globs.is_glob(rule.name):
        yield "name", rule.name
    elif rule.name is not None:
        for text in set(globs.literals(rule.name)):
            yield "text", text


@dataclass(slots=True)
class _Group:
    """Rules that differ only in their sizes, as a tree over their least sizes.

    Node ``n`` of the tree (a Fenwick tree) covers the ``n & -n`` ranges up to the ``n``th. It holds their
    greatest sizes in order, and for each the lowest rule number from there on.
    """

    rule: Asking
    sizes: list[tuple[int, _Range]] = field(default_factory=list)
    first: int = 0
    _leasts: list[int] = field(default_factory=list)
    _nodes: list[tuple[Sequence[float], Sequence[int]]] = field(default_factory=list)

    def close(self) -> None:
        """End the additions, and build the tree."""
        self.first = min(number for number, _ in self.sizes)
        ordered = sorted((sizes[0], _most(sizes), number) for number, sizes in self.sizes)
        self._leasts = [least for least, _, _ in ordered]
        for end in range(1, len(ordered) + 1):
            within = sorted((most, number) for _, most, number in ordered[end - (end & -end) : end])
            firsts = [number for _, number in within]
            for at in range(len(firsts) - 2, -1, -1):
                firsts[at] = min(firsts[at], firsts[at + 1])
            self._nodes.append(([most for most, _ in within], firsts))

    def first_that_includes(self, sizes: _Range) -> int | None:
        """The lowest rule number whose range includes all of these sizes."""
        best: int | None = None
        end = bisect_right(self._leasts, sizes[0])
        while end:
            mosts, firsts = self._nodes[end - 1]
            at = bisect_left(mosts, _most(sizes))
            if at < len(firsts) and (best is None or firsts[at] < best):
                best = firsts[at]
            end &= end - 1
        return best
