"""Names and sentences as a terminal and a log may have them, and commands as a shell reads them. Pure.

Others give names to domains, files and classes: a name may hold whatever libvirt and the kernel let through,
control characters, those that turn the direction of writing, `$(...)`. What is shown goes through `plain`; a
command that is shown is built by `command`, nowhere else.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple, Protocol

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_NUMBER = re.compile(r"[0-9]+")


class Named(Protocol):
    """What a command can be about: a domain, by either of its names."""

    @property
    def name(self) -> str:
        """What its owner calls it."""
        ...

    @property
    def uuid(self) -> str:
        """What libvirt calls it."""
        ...


class Subject(NamedTuple):
    """Somebody who is known by a document only."""

    name: str
    uuid: str


def plain(text: str) -> str:
    """The text in one line, with whatever is not printable as a backslash and its number."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def command(*words: str) -> str:
    """A command that names exactly these words when it is pasted into a shell."""
    return " ".join(map(_quoted, words))


def display_name(domain: Named) -> str:
    """The word by which a command says which domain is meant: its name, where that is safe to read and paste.

    Else its UUID, which the verbs and virsh take as well: a name may look like an option, a number (virsh
    takes that for an id) or another domain's UUID, or hold what cannot be shown.
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
