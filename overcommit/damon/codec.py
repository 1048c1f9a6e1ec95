"""Dataclasses that declare their files in a sysfs tree. One walk renders, parses and compares them.

A field is declared with `file`, `section` (files of a directory) or `children` (numbered directories that a
``nr_*`` file creates). Its default is the value of the file in a new directory, so that only different values
are written to a new directory. Pure.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

_T = TypeVar("_T")
_DECLARATION = "sysfs"
_DECLARED: dict[type, tuple[tuple[str, File | Section | Children], ...]] = {}


class Write(NamedTuple):
    """One value for one file."""

    path: str
    value: str


class Codec(NamedTuple):
    """How a value is written and read."""

    encode: Callable[[Any], str]
    decode: Callable[[str], Any]


class File(NamedTuple):
    """The place of a field with one value."""

    path: str
    codec: Codec


class Section(NamedTuple):
    """The directory of a field with several values."""

    path: str
    kind: type


class Children(NamedTuple):
    """The file that counts, and creates, the numbered directories beside it."""

    counter: str
    kind: type


def _scaled(per_unit: int) -> Codec:
    """A quantity in units of the core that the kernel has as a whole number of smaller units."""
    return Codec(lambda value: str(round(value * per_unit)), lambda text: int(text) / per_unit)


NUMBER = Codec(str, int)
MICROSECONDS = _scaled(1_000_000)
MILLISECONDS = _scaled(1_000)
PERMIL = _scaled(1_000)
BASIS_POINTS = _scaled(10_000)
BOOLEAN = Codec(lambda value: "Y" if value else "N", lambda text: text == "Y")
TEXT = Codec(str, str)


def file(path: str, codec: Codec, default: Any) -> Any:
    """A field in one file. ``default`` is the value of a new file."""
    return dataclasses.field(default=default, metadata={_DECLARATION: File(path, codec)})


def section(path: str, kind: type[_T]) -> _T:
    """A field whose parts are files below a directory. An empty path is the directory itself."""
    return dataclasses.field(default_factory=kind, metadata={_DECLARATION: Section(path, kind)})


def children(counter: str, kind: type[_T]) -> tuple[_T, ...]:
    """A field of numbered directories beside ``counter``. Writing ``counter`` creates them."""
    return dataclasses.field(default=(), metadata={_DECLARATION: Children(counter, kind)})


def render(value: Any, directory: str = "") -> Iterator[Write]:
    """The writes that turn a new directory into ``value``.

    A directory is created before its content is written.
    """
    yield from difference(type(value)(), value, directory)


def difference(present: Any, wanted: Any, directory: str = "") -> Iterator[Write]:
    """The writes that turn ``present`` into ``wanted``.

    Where the number of children changes, all are written, because the kernel creates them anew.
    """
    for name, place in declared(type(wanted)):
        old, new = getattr(present, name), getattr(wanted, name)
        match place:
            case File(path, codec):
                if codec.encode(old) != codec.encode(new):
                    yield Write(_join(directory, path), codec.encode(new))
            case Section(path):
                if old != new:
                    yield from difference(old, new, _join(directory, path))
            case Children(counter, kind):
                if len(old) != len(new):
                    yield Write(_join(directory, counter), str(len(new)))
                    old = tuple(kind() for _ in new)
                for index, (was, shall_be) in enumerate(zip(old, new, strict=True)):
                    if was != shall_be:
                        yield from difference(was, shall_be, _child(directory, counter, index))


def parse(kind: type[_T], files: Mapping[str, str], directory: str = "") -> _T:
    """A value from file contents by path. A file that this kernel does not have leaves the default.

    Raises:
        ValueError: a codec cannot read a content.
    """
    values: dict[str, Any] = {}
    for name, place in declared(kind):
        match place:
            case File(path, codec):
                if (text := files.get(_join(directory, path))) is not None:
                    values[name] = codec.decode(text.removesuffix("\n"))
            case Section(path, part):
                values[name] = parse(part, files, _join(directory, path))
            case Children(counter, part):
                count = int(files.get(_join(directory, counter), "0"))
                values[name] = tuple(
                    parse(part, files, _child(directory, counter, index)) for index in range(count)
                )
    return kind(**values)


def fingerprint(value: Any) -> str:
    """A digest that is equal for equal values only."""
    return hashlib.sha256(repr(list(render(value))).encode()).hexdigest()[:16]


def declared(kind: type) -> tuple[tuple[str, File | Section | Children], ...]:
    """The fields of a dataclass with their places. Cached, because each monitor is rendered with them."""
    if kind not in _DECLARED:
        _DECLARED[kind] = tuple((each.name, each.metadata[_DECLARATION]) for each in dataclasses.fields(kind))
    return _DECLARED[kind]


def _join(directory: str, path: str) -> str:
    return f"{directory}/{path}" if directory and path else directory or path


def _child(directory: str, counter: str, index: int) -> str:
    return _join(directory, f"{counter.rpartition('/')[0]}/{index}".removeprefix("/"))
