"""Values of a policy file that are text: quantities with a unit, an identity or a bound.

With JSON Schemas.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from overcommit import units
from overcommit.model.policy import LEAST_WRITE_RATE, SizeRange

_SHARE = r"(?:0{0,15}100(?:\.0{1,18})?|0{0,16}[0-9]{1,2}(?:\.[0-9]{1,18})?) *%"
_BELOW_ALL = r"0{0,16}[0-9]{1,2}(?:\.[0-9]{1,18})? *%"
_NOT_ZERO = r"(?![0.]+ *[a-z%])"
_BOUND = rf"(?:>=|<=|>|<) *{units.SIZE}"
_UUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A value written as text: its parser, and the pattern that the parser accepts, for JSON Schema."""

    parse: Callable[[str], Any]
    pattern: str
    examples: tuple[str, ...]

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^ *{self.pattern} *$", "examples": list(self.examples)}

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._convert)

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.schema

    def _convert(self, value: Any) -> Any:
        if not isinstance(value, str):
            message = f"needs a unit, like {self.examples[0]}"
            raise ValueError(message)
        return self.parse(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uuid(_Text):
    def _convert(self, value: Any) -> Any:
        if not isinstance(value, str) or re.fullmatch(_UUID, value.strip(" ")) is None:
            message = f"not a UUID: {value!r} (write it like {self.examples[0]})"
            raise ValueError(message)
        return self.parse(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds(_Text):
    """One bound or a list of them."""

    @property
    def schema(self) -> dict[str, Any]:
        one = {"type": "string", "pattern": f"^ *{self.pattern} *$"}
        several = {"type": "array", "items": one, "minItems": 1}
        return {"anyOf": [one, several], "examples": [self.examples[0], list(self.examples)]}

    def _convert(self, value: Any) -> Any:
        bounds = value if isinstance(value, list) and value else [value]
        ranges = [self.parse(bound) for bound in bounds]
        least = max(one.least_bytes for one in ranges)
        most = min((one.most_bytes for one in ranges if one.most_bytes is not None), default=None)
        if most is not None and most < least:
            message = f"no size is {' and '.join(bounds)}"
            raise ValueError(message)
        return SizeRange(least, most)


def _idle_tax(text: str) -> float:
    ratio = units.parse_share(text)
    if ratio >= 1:
        message = f"must be less than 100%, not {text}"
        raise ValueError(message)
    return ratio


def _write_rate(text: str) -> int:
    rate = units.parse_size_per_second(text)
    if rate < LEAST_WRITE_RATE:
        message = f"must be at least 1MiB/s, not {text}; to forbid page-out, remove it from the actuators"
        raise ValueError(message)
    return rate


def _bound(text: Any) -> SizeRange:
    # Most rules have the same few, above all the default.
    return _bound_of(text) if isinstance(text, str) else _no_bound(text)


def _no_bound(text: Any) -> SizeRange:
    message = f'needs a comparison and a size, like ">=8GiB", not {text!r}'
    raise ValueError(message)


@functools.lru_cache
def _bound_of(text: str) -> SizeRange:
    match = re.fullmatch(r" *(>=|<=|>|<)(.*)", text)
    if match is None:
        return _no_bound(text)
    size = units.parse_size(match[2])
    match match[1]:
        case ">=":
            return SizeRange(size)
        case ">":
            return SizeRange(size + 1)
        case "<=":
            return SizeRange(0, size)
        case _:
            return SizeRange(0, size - 1)


Share = Annotated[float, _Text(parse=units.parse_share, pattern=_SHARE, examples=("8%", "0.5%"))]
ShareAboveZero = Annotated[
    float,
    _Text(parse=units.above_zero(units.parse_share), pattern=_NOT_ZERO + _SHARE, examples=("25%",)),
]
IdleTax = Annotated[float, _Text(parse=_idle_tax, pattern=_BELOW_ALL, examples=("75%",))]
Duration = Annotated[
    float,
    _Text(
        parse=units.above_zero(units.parse_duration),
        pattern=_NOT_ZERO + units.DURATION,
        examples=("5min", "90s"),
    ),
]
Age = Annotated[
    float,
    _Text(
        parse=units.parse_age,
        pattern=f"(?:{units.NEVER}|{units.DURATION})",
        examples=("4h", units.NEVER),
    ),
]
WriteRate = Annotated[int, _Text(parse=_write_rate, pattern=f"{units.SIZE} */s", examples=("50MiB/s",))]
SizeAboveZero = Annotated[
    int, _Text(parse=units.above_zero(units.parse_size), pattern=units.SIZE, examples=("100GiB",))
]
PromotionRate = Annotated[
    float, _Text(parse=units.parse_share_per_minute, pattern=f"{_SHARE} */min", examples=("0.2%/min",))
]
Uuid = Annotated[
    str,
    _Uuid(
        parse=lambda text: text.strip(" ").lower(),
        pattern=_UUID,
        examples=("5ba6b4e4-2b5e-4f0e-9d0e-0c1d2e3f4a5b",),
    ),
]
MemoryBounds = Annotated[SizeRange, _Bounds(parse=_bound, pattern=_BOUND, examples=(">=8GiB", "<32GiB"))]
