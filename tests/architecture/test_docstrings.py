"""What docstrings and docs must say, and in which words.

That everything public has a docstring is checked by ruff (D1xx, Google convention) and by ``test_modules``.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "overcommit").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in MODULES}
RECORDS = {"adr", "benchmarks", "measurements"}
"""Folders of docs that say what was thought or measured on a day; they stay as they were written."""
PAGES = [
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not RECORDS & set(page.parts)),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- What is raised is documented.


def word_of(node: ast.expr) -> str:
    """The last name of ``a.b.Name`` or ``Name(...)``."""
    if isinstance(node, ast.Call):
        return word_of(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def kinds_of_error() -> frozenset[str]:
    """The names of `OvercommitError` and of all its subclasses."""
    bases = {
        node.name: {word_of(base) for base in node.bases}
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    kinds = {"OvercommitError"}
    while more := {name for name, of in bases.items() if of & kinds} - kinds:
        kinds |= more
    return frozenset(kinds)


KINDS = kinds_of_error()


def raised_in(function: ast.FunctionDef) -> set[str]:
    """The kinds that the function's own body raises; those of functions within it are not its own."""
    found, waiting = set(), list[ast.AST](function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            found.add(word_of(node.exc))
        waiting += ast.iter_child_nodes(node)
    return found & KINDS


def is_command(function: ast.FunctionDef) -> bool:
    """Whether its docstring is the help of a verb, which operators read: a section is of no use there."""
    return any(word_of(each) == "command" for each in function.decorator_list)


def ancestors_documented(docstring: str, documents: dict[str, str]) -> str:
    """The docstring, with those that it refers to by "See `Port.method`"."""
    texts = [docstring]
    for reference in re.findall(r"^See `([\w.]+)`", docstring):
        method = ".".join(reference.split(".")[-2:])
        texts += [documents.get(method, ""), documents.get(method.partition(".")[0], "")]
    return "\n".join(texts)


class Documented(NamedTuple):
    """A class or function with its docstring; functions within functions are left out."""

    name: str
    node: ast.ClassDef | ast.FunctionDef
    docstring: str


def documented(tree: ast.AST, prefix: str = "") -> Iterator[Documented]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield Documented(prefix + node.name, node, ast.get_docstring(node) or "")
            if isinstance(node, ast.ClassDef):
                yield from documented(node, f"{prefix}{node.name}.")


DOCUMENTS = {each.name: each.docstring for tree in TREES.values() for each in documented(tree)}


def undocumented_errors(tree: ast.AST) -> list[str]:
    found = []
    for each in documented(tree):
        private = any(part.startswith("_") for part in each.name.split("."))
        if private or not isinstance(each.node, ast.FunctionDef) or is_command(each.node):
            continue
        said = ancestors_documented(each.docstring, DOCUMENTS)
        sections = re.findall(r"Raises(?: \([^)]*\))?:\n((?:[ ]+.*\n?|\n)*)", said + "\n")
        named = {
            word
            for section in sections
            for line in re.findall(r"^ +([\w, ]+):", section, re.MULTILINE)
            for word in line.split(", ")
        }
        found += [f"{each.name} raises {kind}" for kind in sorted(raised_in(each.node) - named)]
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_a_public_function_raises_itself_is_documented(path: Path) -> None:
    assert undocumented_errors(TREES[path]) == []


def test_an_error_that_is_not_documented_is_seen() -> None:
    body = "raise errors.Gone(1)"
    assert undocumented_errors(ast.parse(f"def f():\n  'Go.'\n  {body}")) == ["f raises Gone"]
    other = "\n  'Go.\\n\\nRaises:\\n    HostError: it is gone.'"
    assert undocumented_errors(ast.parse(f"def f():{other}\n  {body}")) == ["f raises Gone"]
    right = "\n  'Go.\\n\\nRaises:\\n    HostError, Gone: it is gone.'"
    assert undocumented_errors(ast.parse(f"def f():{right}\n  {body}")) == []
    by_port = "\n  'See `Kernel.advise`.'"
    assert undocumented_errors(ast.parse(f"def f():{by_port}\n  {body}")) == []


# --- The field's words.

STANDARD_WORDS = {
    r"feels?|felt|feeling": "the SLO figure, or: is under pressure",
    r"hurts?|hurting": "exceeds its SLO",
    r"pains?|painful": "pressure, or: the SLO figure as a share of its bound",
    r"rungs?": "mechanism (in the order of the ladder)",
    r"grips?|squeeze|squeezes|squeezing": "throttle; inflate (a balloon); free (for a reservation)",
    r"dear|dearer|dearest": "expensive, or: of higher cost",
    r"(?:one|this|that|another|each|same) life|(?:a|the) life of (?:a|the) domain": "incarnation",
    r"remember|remembers|remembered": "stored, recorded",
    r"levers?|ascend|descend": "resizable; grow, shrink",
    r"heat": "access frequency",
    r"pulses?": "sample, or: one bounded action",
    r"worksite|footing|by our hand": "apply context; mode state; done by overcommit",
}
"""Metaphors that this project used, each with the word that an operator or a kernel developer knows.

The docs of DAMON, cgroups, libvirt and Prometheus use the words on the right. An operator who does not read
English every day finds those in a dictionary and in a search engine, the ones on the left only by guessing.
Names in code (`pain` in ``PainBounds``) are not checked: some are on disk or in JSON.
"""
BANNED = {
    re.compile(rf"\b(?:{words})\b", re.IGNORECASE): instead for words, instead in STANDARD_WORDS.items()
}
CODE = re.compile(r"(`+)[^`]+\1|\]\([^)]*\)|^ +\w+:", re.MULTILINE)
"""What is between backticks, a link's target, and the name of an argument at the beginning of a line."""
AN_IDENTIFIER = re.compile(r"[\w./:%{}<>\[\]|*-]*")


def prose_of_code(source: str) -> Iterator[tuple[int, str]]:
    """Comments, docstrings and texts, each with its line; what is between backticks is code."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if not AN_IDENTIFIER.fullmatch(node.value):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def prose_of_page(text: str) -> Iterator[tuple[int, str]]:
    """Lines outside of code blocks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def metaphors(prose: Iterator[tuple[int, str]]) -> list[str]:
    found = []
    for number, text in prose:
        for banned, instead in BANNED.items():
            hits = banned.finditer(CODE.sub("x", text))
            found += [f"line {number}: {hit[0]!r}: say {instead}" for hit in hits]
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_code_is_described_in_the_words_of_the_field(path: Path) -> None:
    assert metaphors(prose_of_code(path.read_text())) == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_docs_use_the_words_of_the_field(path: Path) -> None:
    assert metaphors(prose_of_page(path.read_text())) == []


def test_a_metaphor_is_seen_where_it_is_read_and_not_in_names() -> None:
    assert metaphors(prose_of_code('"""What a domain feels."""')) != []
    assert metaphors(prose_of_code("x = 1  # the next rung")) != []
    assert metaphors(prose_of_code("f'{domain} is in pain'")) != []
    assert metaphors(prose_of_code('x = {"pain": domain.pain}  # see `pain_of`')) == []
    assert metaphors(prose_of_page("It hurts.\n```\nhurts\n```\n[x](hurts.md) `hurts`")) == [
        "line 1: 'hurts': say exceeds its SLO"
    ]
