"""Elements of an XML text with their positions, so that an edit leaves all other bytes unchanged. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

from overcommit.errors import Unreadable

_ATTRIBUTE = re.compile(rb"\s([\w:.-]+)\s*=\s*(?:'([^']*)'|\"([^\"]*)\")")
_HEAD = re.compile(rb"<(?:[^'\">]|'[^']*'|\"[^\"]*\")*>")


class Edit(NamedTuple):
    """A replacement of bytes ``start`` to ``end`` of a text by ``new``."""

    start: int
    end: int
    new: str


@dataclass(slots=True)
class Element:
    """An element: its path from the root, and the positions of its start tag and of its end, in bytes."""

    path: tuple[str, ...]
    attributes: dict[str, str]
    start: int
    head_end: int
    end: int = 0
    children: list[Element] = field(default_factory=list)

    def child(self, name: str) -> Element | None:
        """Its first child of that name."""
        return next((child for child in self.children if child.path[-1] == name), None)


class XmlText:
    """A text and its elements. Names are compared as written, with their prefix."""

    def __init__(self, text: str) -> None:
        """Find the elements.

        Raises:
            Unreadable: it is not XML, or declares entities.
        """
        self.elements: list[Element] = []
        try:
            self._bytes = text.encode()
            self._parse()
        except (expat.ExpatError, UnicodeEncodeError) as error:
            raise Unreadable(f"not XML: {error}") from error

    def _parse(self) -> None:
        parser, stack = expat.ParserCreate("utf-8"), list[Element]()

        def begin(name: str, attributes: dict[str, str]) -> None:
            start = parser.CurrentByteIndex
            head = _HEAD.match(self._bytes, start)
            if head is None:
                raise Unreadable(f"the start of <{name[:30]}> is not understood")
            path = (*(stack[-1].path if stack else ()), name)
            element = Element(path, attributes, start, head.end())
            if stack:
                stack[-1].children.append(element)
            self.elements.append(element)
            stack.append(element)

        def end(_name: str) -> None:
            element = stack.pop()
            empty = self._bytes[element.head_end - 2 : element.head_end] == b"/>"
            closing = self._bytes.index(b">", parser.CurrentByteIndex) + 1
            element.end = element.head_end if empty else closing

        def refuse(*_declared: object) -> None:
            raise Unreadable("it declares a document type, which no definition of libvirt's does")

        parser.StartElementHandler, parser.EndElementHandler = begin, end
        parser.StartDoctypeDeclHandler = refuse
        parser.Parse(self._bytes, True)

    def find(self, *path: str) -> list[Element]:
        """The elements at a path, in order."""
        return [element for element in self.elements if element.path == path]

    def indent(self, element: Element) -> str:
        """The blanks before an element at the beginning of its line; empty where other text precedes it."""
        line = self._bytes.rfind(b"\n", 0, element.start) + 1
        before = self._bytes[line : element.start]
        return before.decode() if not before.strip(b" \t") else ""

    def with_attributes(self, element: Element, values: dict[str, str]) -> list[Edit]:
        """Set attributes in place.

        New ones go after the last existing one that precedes them in ``values``.
        """
        found = {m[1].decode(): m for m in _ATTRIBUTE.finditer(self._head(element))}
        edits: list[Edit] = []
        at, new = element.start + 1 + len(element.path[-1].encode()), ""
        for name, value in values.items():
            if (match := found.get(name)) is None:
                new += f" {name}='{value}'"
                continue
            if new:
                edits.append(Edit(at, at, new))
            at, new = element.start + match.end(), ""
            if element.attributes[name] != value:
                place = match.span(2) if match[2] is not None else match.span(3)
                edits.append(Edit(element.start + place[0], element.start + place[1], value))
        if new:
            edits.append(Edit(at, at, new))
        return edits

    def with_first_child(self, element: Element, lines: Sequence[str]) -> list[Edit]:
        """Insert an element, given in lines, directly after a start tag."""
        indent = self.indent(element)
        block = "".join(f"\n{indent}  {line}" for line in lines)
        if element.end == element.head_end:
            return [Edit(element.head_end - 2, element.end, f">{block}\n{indent}</{element.path[-1]}>")]
        return [Edit(element.head_end, element.head_end, block)]

    def with_last_child(self, element: Element, lines: Sequence[str]) -> list[Edit]:
        """Insert an element, given in lines, after the last child, or before the end tag if there is none."""
        return (
            self.behind(element.children[-1], lines)
            if element.children
            else self.with_first_child(element, lines)
        )

    def behind(self, element: Element, lines: Sequence[str]) -> list[Edit]:
        """Insert an element, given in lines, after another."""
        indent = self.indent(element)
        return [Edit(element.end, element.end, "".join(f"\n{indent}{line}" for line in lines))]

    def edited(self, edits: Sequence[Edit]) -> str:
        """The text with these edits.

        They must not overlap; those at one position are inserted in this order.
        """
        text, at = bytearray(), 0
        for edit in sorted(edits, key=lambda each: (each.start, each.end)):
            text += self._bytes[at : edit.start] + edit.new.encode()
            at = edit.end
        return (text + self._bytes[at:]).decode()

    def _head(self, element: Element) -> bytes:
        return self._bytes[element.start : element.head_end]
