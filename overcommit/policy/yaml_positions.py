"""Parses YAML with YAML 1.2 core values only, without duplicate keys, and with the position of each value.

PyYAML's safe loader follows YAML 1.1: ``no`` is False, ``010`` is 8, ``1:30`` is 90, and a duplicate key wins
silently. None of that is wanted in a policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from overcommit.errors import Complaint, PolicyError

Path = Sequence[str | int]
_DEEPEST = 20
_UNQUOTED = re.compile(r"[:,\[] *>=? *[0-9]")


class Mark(NamedTuple):
    """A position in a file. Line and column count from 1."""

    source: str
    line: int
    column: int

    def complaint(self, message: str) -> Complaint:
        """A complaint about this position, in one line whatever the file contains."""
        return Complaint(self.source, self.line, self.column, _printable(message))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value with its position: a mapping or a sequence of nodes, or plain.

    ``keys`` has the position of each key of a mapping.
    """

    mark: Mark
    value: Any
    keys: Mapping[str, Mark] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without positions."""
        match self.value:
            case dict():
                return {key: node.plain() for key, node in self.value.items()}
            case list():
                return [node.plain() for node in self.value]
            case scalar:
                return scalar

    def at(self, path: Path) -> Node | None:
        """The node that a path of keys and indices leads to."""
        if not path:
            return self
        inside: Node | None = None
        match self.value, path[0]:
            case dict(), key:
                inside = self.value.get(key)
            case list(), int(index) if 0 <= index < len(self.value):
                inside = self.value[index]
        return inside.at(path[1:]) if inside is not None else None

    def mark_of(self, path: Path) -> Mark:
        """The position of the value, or of the innermost existing value that should contain it."""
        found = self.at(path)
        return found.mark if found else self.mark_of(path[:-1])

    def mark_of_key(self, path: Path) -> Mark:
        """The position of the last key of a path, which must exist."""
        parent = self.at(path[:-1])
        assert parent is not None
        return parent.keys[str(path[-1])]


class _CoreLoader(yaml.CSafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML declares it so


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^-?(?:0|[1-9][0-9]{0,17})$", "-0123456789"),
    ("float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$", "-0123456789"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def parse(text: str, source: str) -> Node:
    """Parse one document; ``source`` names it in marks.

    Raises:
        PolicyError: not YAML, more than one document, a duplicate key, an alias or a custom tag.
    """
    loader = _CoreLoader(text)
    try:
        _refuse_tricks(text, source)
        node = loader.get_single_node()
        if node is None:
            return Node(mark=Mark(source, 1, 1), value=None)
        return _construct(loader, node, source)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = _mark(source, at) if at else Mark(source, 1, 1)
        raise _fault(mark, (error.problem or "not YAML") + _quotes_needed(text, mark)) from error
    except yaml.YAMLError as error:
        raise _fault(Mark(source, 1, 1), str(error).splitlines()[0]) from error
    finally:
        loader.dispose()


def _fault(mark: Mark, message: str) -> PolicyError:
    return PolicyError((mark.complaint(message),))


def _quotes_needed(text: str, mark: Mark) -> str:
    """The message for a comparison without quotes, which YAML takes for something else."""
    lines = text.splitlines()
    there = lines[mark.line - 1] if mark.line <= len(lines) else ""
    return ' (what begins with > needs quotes, like ">=8GiB")' if _UNQUOTED.search(there) else ""


def _mark(source: str, at: yaml.Mark) -> Mark:
    return Mark(source, at.line + 1, at.column + 1)


def _refuse_tricks(text: str, source: str) -> None:
    """Refuse aliases (endless, or a billion times what was written), tags, and deep nesting."""
    events: Iterable[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
    depth = 0
    for event in events:
        trick = None
        if isinstance(event, yaml.AliasEvent):
            trick = f"an alias (*{event.anchor}) is not allowed: write it out"
        elif getattr(event, "tag", None):
            trick = f"a tag ({event.tag}) is not allowed"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            trick = f"nested more than {_DEEPEST} levels deep"
        if trick is not None:
            raise _fault(_mark(source, event.start_mark), trick)


def _construct(loader: Any, node: yaml.Node, source: str) -> Node:
    mark = _mark(source, node.start_mark)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        for key_node, value_node in node.value:
            at = _mark(source, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                raise _fault(at, "a key must be a plain word")
            key = key_node.value
            if key in mapping:
                raise _fault(at, f"duplicate key {key!r} (first at line {keys[key].line})")
            keys[key] = at
            mapping[key] = _construct(loader, value_node, source)
        return Node(mark=mark, value=mapping, keys=keys)
    if isinstance(node, yaml.SequenceNode):
        return Node(mark=mark, value=[_construct(loader, item, source) for item in node.value])
    return Node(mark=mark, value=loader.construct_object(node))
