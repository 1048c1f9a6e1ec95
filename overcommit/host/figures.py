"""Numbers in the kernel's text files. Malformed text raises `Unreadable` and no other exception."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from overcommit.errors import Unreadable
from overcommit.host.kernel import Kernel

_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
"""The kernel's counters have 64 bits, so a number has at most 20 digits."""
_SHOWN = 40


def number(text: str, where: str) -> int:
    """A count or a size, 0 or more.

    Raises:
        Unreadable: the text is not such a number.
    """
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped) is None:
        raise Unreadable(f"{where} has no number: {excerpt(text)}")
    return int(stripped)


def signed_number(text: str, where: str) -> int:
    """A number that may be negative.

    Raises:
        Unreadable: the text is not a number.
    """
    stripped = text.strip()
    if stripped.startswith("-"):
        return -number(stripped[1:], where)
    return number(stripped, where)


def numbers(text: str, where: str, *, at_least: int) -> tuple[int, ...]:
    """The numbers of a row. Later kernels add columns at the right.

    Raises:
        Unreadable: there are fewer than ``at_least``, or one is not a number.
    """
    fields = text.split()
    if len(fields) < at_least:
        raise Unreadable(f"{where} has fewer than {at_least} numbers: {excerpt(text)}")
    return tuple(number(field, where) for field in fields)


def read_number(kernel: Kernel, path: str) -> int:
    """The only number of a file.

    Raises:
        OSError: the file cannot be read.
        Unreadable: the file does not hold one number.
    """
    return number(kernel.read(path), path)


def rows(text: str) -> dict[str, str]:
    """The rows of a text of names and values (``/proc/vmstat``). Other lines are left out."""
    found = {}
    for line in text.split("\n"):
        name, space, value = line.partition(" ")
        if name and space:
            found[name] = value
    return found


def rows_named(text: str, names: Iterable[str]) -> dict[str, str]:
    """As `rows`, but only the rows with these names, which is faster."""
    found = {}
    for name in names:
        begin = 0 if text.startswith(f"{name} ") else text.find(f"\n{name} ") + 1
        if begin > 0 or text.startswith(f"{name} "):
            found[name] = text[begin + len(name) + 1 :].partition("\n")[0]
    return found


def row(table: Mapping[str, str], name: str, where: str) -> int:
    """The number in one row.

    Raises:
        Unreadable: there is no such row, or it does not hold a number.
    """
    if name not in table:
        raise Unreadable(f"{where} has no {name}")
    return number(table[name], f"{name} of {where}")


def excerpt(text: str) -> str:
    """The beginning of a text for a message. Unprintable characters are escaped."""
    shown = text[: _SHOWN + 1].strip("\n")
    return ascii(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...") if shown else "nothing"
