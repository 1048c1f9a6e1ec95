"""Checks that values read from a file have the declared types and are in range. Pure.

A document from anybody is not valid because it parses: NaN compares false with everything, True passes for 1,
and a name that becomes a part of a path can lead anywhere.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

MOST = (1 << 63) - 1
"""The largest count, size or time, as in the kernel's figures."""
LONGEST = 4096
"""The most characters of a text."""


def flaws(value: Any, declared: Any, at: str) -> Iterator[str]:
    """The faults of a value of the ``declared`` type, each with its place ``at`` in the document.

    Whole numbers are 0 to `MOST`, others finite and not negative, texts at most `LONGEST` characters.
    """
    if isinstance(declared, NewType):
        declared = declared.__supertype__
    origin, inside = get_origin(declared), get_args(declared)
    if origin in {Union, types.UnionType}:
        if all(any(flaws(value, each, at)) for each in inside):
            yield next(flaws(value, next(e for e in inside if e is not types.NoneType), at))
    elif origin is tuple:
        yield from _tuple_flaws(value, inside, at)
    elif origin is not None and issubclass(origin, Mapping):
        for key, each in value.items():
            yield from flaws(key, inside[0], f"a key of {at}")
            yield from flaws(each, inside[1], f"{at}.{key}")
    elif isinstance(declared, type) and (dataclasses.is_dataclass(declared) or hasattr(declared, "_fields")):
        if not isinstance(value, declared):
            yield f"{at} is no {declared.__name__}"
            return
        for name, kind in _declared(declared).items():
            yield from flaws(getattr(value, name), kind, f"{at}.{name}")
    else:
        yield from _plain_flaws(value, declared, at)


def _tuple_flaws(value: Any, inside: tuple[Any, ...], at: str) -> Iterator[str]:
    if not isinstance(value, tuple):
        yield f"{at} is no list"
        return
    kinds = inside[:1] * len(value) if inside[1:] == (...,) else inside
    if len(value) != len(kinds):
        yield f"{at} does not have {len(kinds)} parts"
        return
    for index, (each, kind) in enumerate(zip(value, kinds, strict=True)):
        yield from flaws(each, kind, f"{at}[{index}]")


@functools.cache
def _declared(kind: type) -> Mapping[str, Any]:
    names = getattr(kind, "_fields", None) or [field.name for field in dataclasses.fields(kind)]
    hints = get_type_hints(kind)
    return {name: hints[name] for name in names}


def _plain_flaws(value: Any, declared: Any, at: str) -> Iterator[str]:
    if declared is types.NoneType:
        if value is not None:
            yield f"{at} is not null"
    elif declared is bool or issubclass(declared, enum.Enum):
        if not isinstance(value, declared):
            yield f"{at} is no {declared.__name__}"
    elif declared is str:
        if not isinstance(value, str):
            yield f"{at} is no text"
        elif len(value) > LONGEST:
            yield f"{at} is longer than {LONGEST} characters"
    elif isinstance(value, bool) or not isinstance(value, (int, float) if declared is float else int):
        yield f"{at} is no {'number' if declared is float else 'whole number'}"
    elif not math.isfinite(value) or not 0 <= value <= MOST:
        yield f"{at} is out of range"
