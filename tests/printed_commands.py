"""The commands that the program can print, read from its source: each string in it, as it would be shown."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "overcommit").rglob("*.py"))
PLACE = "1"
"""In place of a value that only a run knows: a number, or the name of a domain."""
_PROGRAMS = ("overcommitctl", "virsh")
_NAMES = {"PROGRAM": "overcommitctl", "OVERCOMMITCTL": "overcommitctl", "VIRSH": "virsh"}
_HELP = {"examples", "Option", "option", "argument", "add_argument", "option_parser"}
"""Calls whose strings are help texts; tests/cli/test_help.py reads those."""
_WORD = r"(?:'[^']*'|\"[^\"]*\"|[^\s;,()'\"#&])+"
_COMMAND = re.compile(rf"(?<![\w./-])(?:overcommitctl|virsh)(?: {_WORD})+")
"""A command ends where its sentence does: at ; or , or a bracket, at && or #, or at the end of the text."""


class Printed(NamedTuple):
    """A text with a command in it, and where it is written."""

    place: str
    text: str

    @property
    def commands(self) -> tuple[str, ...]:
        """What an operator would paste."""
        return tuple(match[0] for match in _COMMAND.finditer(self.text))


NO_COMMAND = {"that"}
"""What follows the program's name in a sentence about it."""


def printed_commands() -> Iterator[tuple[str, list[str]]]:
    """Where each command is written, and its words as a shell reads them."""
    for each in printed():
        for words in map(shlex.split, each.commands):
            if words[1] not in NO_COMMAND and not _is_a_mark(each):
                yield each.place, words


def printed() -> Iterator[Printed]:
    """Every text of the program that has a command, but for docstrings and help."""
    for path in MODULES:
        module = str(path.relative_to(ROOT))
        if not module.startswith("overcommit/testing/"):
            for node, text in _texts(ast.parse(path.read_text())):
                if any(f"{program} " in text for program in _PROGRAMS):
                    yield Printed(f"{module}:{node.lineno}", text)


def _is_a_mark(each: Printed) -> bool:
    """What completes commands, and the line by which the unit file is known as ours."""
    return each.place.startswith("overcommit/commands.py") or each.text.startswith("# Written by")


def _texts(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) == "_DESCRIPTION":
            continue  # of a program without verbs, for its --help
        if isinstance(child, ast.Call) and _called(child) in _HELP:
            continue
        if isinstance(child, ast.expr) and (text := _text(child)) is not None:
            yield child, text
        else:
            yield from _texts(child)


def _text(node: ast.expr) -> str | None:
    """The string that an expression makes; None: that is not to be told from here."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_shown(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            texts = _text(left), _text(right)
            return None if texts == (None, None) else "".join(PLACE if t is None else t for t in texts)
        case ast.Call(args=words) if _called(node) == "command":
            return " ".join(_shown(word) for word in words if not _may_be_nothing(word))
        case _:
            return None


def _shown(node: ast.expr) -> str:
    if isinstance(node, ast.FormattedValue):
        node = node.value
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    text = _text(node)
    return PLACE if text is None else text


def _may_be_nothing(word: ast.expr) -> bool:
    """Words of which there may be none; `as_argument` makes one, at least."""
    return isinstance(word, ast.Starred) and not ast.unparse(word.value).startswith("as_argument(")


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
