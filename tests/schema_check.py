"""As much of JSON Schema as the policy's schema uses, to check documents without another package."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}
_LENGTHS = {"minItems": operator.ge, "minLength": operator.ge, "maxLength": operator.le}
_SAID = {"$schema", "$defs", "title", "description", "default", "examples"}
"""Keywords that assert nothing."""


def complaints(schema: Schema, value: Any) -> list[str]:
    """What a whole schema has against a document."""
    return list(_check(schema, schema, value, "$"))


def _check(root: Schema, schema: Schema, value: Any, at: str) -> Iterator[str]:
    for keyword, wanted in schema.items():
        if keyword == "$ref":
            yield from _check(root, root["$defs"][wanted.rpartition("/")[2]], value, at)
        elif keyword == "anyOf":
            if all(any(_check(root, choice, value, at)) for choice in wanted):
                yield f"{at}: none of {len(wanted)} choices"
        elif keyword in _INSIDE:
            yield from _INSIDE[keyword](root, schema, value, at)
        elif keyword not in _SAID and not _holds(keyword, wanted, value):
            yield f"{at}: {keyword} {wanted}"


def _holds(keyword: str, wanted: Any, value: Any) -> bool:
    """Keywords that are about the value alone."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match keyword:
        case "type":
            return isinstance(value, _TYPES[wanted]) and (not isinstance(value, bool) or wanted == "boolean")
        case "const":
            return value == wanted and type(value) is type(wanted)
        case "enum":
            return value in wanted
        case "pattern":
            return not isinstance(value, str) or re.search(wanted, value) is not None
        case _:
            if keyword in _LENGTHS:
                return not isinstance(value, str | list) or _LENGTHS[keyword](len(value), wanted)
            within = _BOUNDS[keyword]  # an unknown keyword must not pass
            return not number or within(value, wanted)


def _items(root: Schema, schema: Schema, value: Any, at: str) -> Iterator[str]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from _check(root, schema["items"], item, f"{at}[{index}]")


def _required(_root: Schema, schema: Schema, value: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{at}: {key} is missing" for key in schema["required"] if key not in value)


def _properties(root: Schema, schema: Schema, value: Any, at: str) -> Iterator[str]:
    """Known keys, keys by pattern, and all others, whichever of the three keywords led here."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        by_pattern = [s for p, s in schema.get("patternProperties", {}).items() if re.search(p, key)]
        by_name = [schema["properties"][key]] if key in schema.get("properties", {}) else []
        others = schema.get("additionalProperties", {})
        if others is False and not by_pattern + by_name:
            yield f"{at}: {key} is not known"
        for section in by_pattern + by_name or [others or {}]:
            yield from _check(root, section, inner, f"{at}.{key}")


def _names(root: Schema, schema: Schema, value: Any, at: str) -> Iterator[str]:
    for key in value if isinstance(value, dict) else ():
        yield from _check(root, schema["propertyNames"], key, f"the name of {at}.{key}")


_INSIDE: dict[str, Callable[[Schema, Schema, Any, str], Iterator[str]]] = {
    "items": _items,
    "required": _required,
    "propertyNames": _names,
    "properties": _properties,
    "patternProperties": _properties,
    "additionalProperties": _properties,
}
