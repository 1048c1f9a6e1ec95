"""Parses a terminal's input to keys. Pure. Unknown input is no key."""

from __future__ import annotations

import enum
import re

_ESCAPE = 0x1B
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]{0,16}[ -/]{0,4}[@-~]|O[@-~])")
"""The sequence of a key without a letter: CSI, or SS3 as in application mode (ECMA-48; ctlseqs of xterm)."""
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]{0,16}[ -/]{0,4}|O)?")


class Key(enum.Enum):
    """A command that a key gives."""

    BY_TAKEN = enum.auto()
    BY_PAIN = enum.auto()
    BY_NAME = enum.auto()
    BY_RESIDENT = enum.auto()
    DETAIL = enum.auto()
    BACK = enum.auto()
    UP = enum.auto()
    DOWN = enum.auto()
    PAGE_UP = enum.auto()
    PAGE_DOWN = enum.auto()
    FIRST = enum.auto()
    LAST = enum.auto()
    HELP = enum.auto()
    REDRAW = enum.auto()
    QUIT = enum.auto()


_LETTERS = {
    **dict.fromkeys(b"tT", Key.BY_TAKEN),
    **dict.fromkeys(b"sSpP", Key.BY_PAIN),
    **dict.fromkeys(b"nN", Key.BY_NAME),
    **dict.fromkeys(b"rR", Key.BY_RESIDENT),
    **dict.fromkeys(b"dD\r\n", Key.DETAIL),
    **dict.fromkeys(b"kK", Key.UP),
    **dict.fromkeys(b"jJ", Key.DOWN),
    **dict.fromkeys(b"?hH", Key.HELP),
    **dict.fromkeys(b"qQ\x04", Key.QUIT),
    **dict.fromkeys(b"\x0c", Key.REDRAW),
}
_SEQUENCES = {
    b"[A": Key.UP,
    b"OA": Key.UP,
    b"[B": Key.DOWN,
    b"OB": Key.DOWN,
    b"[5~": Key.PAGE_UP,
    b"[6~": Key.PAGE_DOWN,
    **dict.fromkeys((b"[H", b"OH", b"[1~", b"[7~"), Key.FIRST),
    **dict.fromkeys((b"[F", b"OF", b"[4~", b"[8~"), Key.LAST),
    b"OM": Key.DETAIL,
}


def keys_of(sent: bytes, *, more: bool) -> tuple[list[Key], bytes]:
    """The keys, and the rest that may be the beginning of one. ``more``: wait for the rest of a sequence.

    Escape alone looks like the beginning of other keys.
    """
    keys: list[Key | None] = []
    at = 0
    while at < len(sent):
        if sent[at] != _ESCAPE:
            keys.append(_LETTERS.get(sent[at]))
            at += 1
        elif whole := _SEQUENCE.match(sent, at):
            keys.append(_SEQUENCES.get(whole[0][1:]))
            at = whole.end()
        elif more and _UNFINISHED.fullmatch(sent, at):
            break
        else:
            begun = _UNFINISHED.match(sent, at)
            length = len(begun[0]) if begun else 1
            keys.append(Key.BACK if length == 1 else None)
            at += length
    return [key for key in keys if key is not None], sent[at:]
