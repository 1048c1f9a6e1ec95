"""Makes names safe for a terminal and a log, and commands safe for a shell. Pure.

Names of domains, files and classes come from others. A name may hold what libvirt and the kernel allow:
control characters, characters that change the writing direction, `$(...)`. Text is shown through `plain`, and
a command that is shown is built by `command` only.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple, Protocol

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_NUMBER = re.compile(r"[0-9]+")


class Named(Protocol):
    """The subject of a command: a domain, by its name or its UUID."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def uuid(self) -> str:
        """Its UUID."""
        ...


class Subject(NamedTuple):
    """A domain that is known from a document only."""

    name: str
    uuid: str


def plain(text: str) -> str:
    """The text in one line. Unprintable characters become a backslash and their number."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def command(*words: str) -> str:
    """A command that passes exactly these words when it is pasted into a shell."""
    return " ".join(map(_quoted, words))


def display_name(domain: Named) -> str:
    """The word that names a domain in a command: its name where that is safe, otherwise its UUID.

    The verbs and virsh accept both. A name is not safe if it looks like an option, a number (virsh takes that
    for an id) or a UUID, or cannot be printed.
    """
    name = domain.name
    odd = not name.isprintable() or name != name.strip() or name.startswith("-")
    if not name or odd or _NUMBER.fullmatch(name) or _UUID.fullmatch(name):
        return domain.uuid
    return name


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # What no shell but bash, zsh and ksh knows; the rest could only be shown as it is.
    escaped = "".join(
        c.replace("\\", "\\\\").replace("'", "\\'")
        if c.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in _as_argument(c))
        for c in word
    )
    return f"$'{escaped}'"


def _as_argument(character: str) -> bytes:
    """Its bytes, also where it stands for one that is no text (PEP 383)."""
    stands_for_one = "\udc80" <= character <= "\udcff"
    return character.encode("utf-8", "surrogateescape" if stands_for_one else "surrogatepass")
