"""YAML 1.2 core values only, no duplicate keys, and where each value stands.

PyYAML's safe loader speaks YAML 1.1: ``no`` is False, ``010`` is 8, ``1:30`` is 90, a duplicate key wins
silently. None of that belongs into a policy.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

import yaml

Path = tuple[Hashable, ...]
_DEEPEST = 20


class Mark(NamedTuple):
    """1-based position in the file."""

    line: int
    column: int


class Document(NamedTuple):
    """A parsed document. ``keys`` has the position of each mapping key, ``values`` of each value."""

    data: Any
    keys: dict[Path, Mark]
    values: dict[Path, Mark]


class YamlFault(Exception):
    """Something the YAML itself gets wrong."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark


class _CoreLoader(yaml.CSafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML declares it so


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^-?(?:0|[1-9][0-9]{0,17})$", "-0123456789"),
    ("float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$", "-0123456789"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def parse(text: str) -> Document:
    """Parse one document.

    Raises:
        YamlFault: not YAML, more than one document, a duplicate key, an alias or a custom tag.
    """
    loader = _CoreLoader(text)
    try:
        _refuse_tricks(text)
        node = loader.get_single_node()
        document = Document(None, {}, {})
        if node is None:
            return document
        data = _construct(loader, node, (), document)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = Mark(at.line + 1, at.column + 1) if at else Mark(1, 1)
        raise YamlFault(mark, error.problem or "not YAML") from error
    except yaml.YAMLError as error:
        raise YamlFault(Mark(1, 1), str(error).splitlines()[0]) from error
    finally:
        loader.dispose()
    return document._replace(data=data)


def _refuse_tricks(text: str) -> None:
    """Aliases (endless, or a billion times what was written), tags, and nesting no policy has."""
    events: Iterable[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
    depth = 0
    for event in events:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent):
            raise YamlFault(mark, f"an alias (*{event.anchor}) is not allowed: write it out")
        if getattr(event, "tag", None):
            raise YamlFault(mark, f"a tag ({event.tag}) is not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise YamlFault(mark, f"nested more than {_DEEPEST} levels deep")


def _construct(loader: Any, node: yaml.Node, path: Path, document: Document) -> Any:
    mark = Mark(node.start_mark.line + 1, node.start_mark.column + 1)
    document.values[path] = mark
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            at = Mark(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlFault(at, "a key must be a plain word")
            key = key_node.value
            if key in mapping:
                first = document.keys[(*path, key)]
                raise YamlFault(at, f"duplicate key {key!r} (first at line {first.line})")
            document.keys[(*path, key)] = at
            mapping[key] = _construct(loader, value_node, (*path, key), document)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, index), document) for index, item in enumerate(node.value)]
    return loader.construct_object(node)
