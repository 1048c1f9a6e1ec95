"""JSON from untrusted sources: bounded in bytes, depth and digits before it is parsed.

The parser, and ``repr`` of its result, recurse up to the interpreter's limit, which could be reached in other
code. So depth is counted on the text. Pure.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_MOST_DIGITS = 64
"""No number of this program is longer. A longer one takes time that grows with the square of its length."""
# A string that never ends reaches to the end of the text, so that no place is gone through twice.
_STRING = re.compile(r'"(?:[^"\\]+|\\.)*+"?', re.DOTALL)
_BETWEEN_BRACKETS = re.compile(r"[^\[{\]}]+")


def loads(data: bytes | str, *, most_bytes: int, most_depth: int) -> Any:
    """The value of a JSON text in which lists and objects are nested at most ``most_depth`` deep.

    Raises:
        ValueError: it is too long, too deep, not UTF-8, or not JSON (NaN and Infinity are not); the message
            says which.
    """
    if len(data) > most_bytes:
        message = f"longer than {most_bytes} bytes"
        raise ValueError(message)
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        message = f"not UTF-8 at byte {error.start}"
        raise ValueError(message) from error
    _require_shallow(text, most_depth)
    return json.loads(text, parse_constant=_no_number, parse_int=_whole_number, parse_float=_number)


def _require_shallow(text: str, most_depth: int) -> None:
    depth = 0
    for bracket in _BETWEEN_BRACKETS.sub("", _STRING.sub("", text)):
        if bracket in "[{":
            depth += 1
            if depth > most_depth:
                message = f"nested more than {most_depth} deep"
                raise ValueError(message)
        else:
            depth -= 1


def _no_number(name: str) -> NoReturn:
    message = f"{name} is no JSON"
    raise ValueError(message)


def _whole_number(digits: str) -> int:
    return int(_bounded(digits))


def _number(digits: str) -> float:
    value = float(_bounded(digits))
    if value in {float("inf"), float("-inf")}:
        message = "a number is too large"
        raise ValueError(message)
    return value


def _bounded(digits: str) -> str:
    if len(digits) > _MOST_DIGITS:
        message = f"a number of more than {_MOST_DIGITS} digits"
        raise ValueError(message)
    return digits
