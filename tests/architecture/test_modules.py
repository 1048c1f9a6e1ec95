"""The shape of the product's code, as far as a rule can tell."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "overcommit").rglob("*.py"))
LONGEST = 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_fits_into_a_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_named_for_what_it_is_about(path: Path) -> None:
    assert not VAGUE & set(path.stem.split("_"))


def undocumented(node: ast.AST, prefix: str) -> list[str]:
    missing = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
            if not ast.get_docstring(child):
                missing.append(prefix + child.name)
            if isinstance(child, ast.ClassDef):
                missing += undocumented(child, f"{prefix}{child.name}.")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert undocumented(tree, "") == []


def test_import_contracts_hold() -> None:
    """The layers, the pure middle, libvirt in one module: ``[tool.importlinter]`` in pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([program, "--no-cache"], cwd=ROOT, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


_PROGRAMS = "overcommitctl|virsh|systemctl|groupadd|modprobe|swapoff|swapon|mkswap"
A_COMMAND_BEGINS = re.compile(rf"\b(?:{_PROGRAMS}) [^;:.(]*$")
ONE_OF_OURS = {"left.generation", "ours", "generation", "number"}
"""Numbers that we gave ourselves."""


def unquoted(tree: ast.AST) -> list[str]:
    """What is put into a command by hand, and not by `overcommit.display.command`."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = ast.unparse(part.value)
                if A_COMMAND_BEGINS.search(before) and value not in ONE_OF_OURS:
                    found.append(f"line {node.lineno}: {before}{{{value}}}")
                before += "x"
            elif isinstance(part, ast.Constant):
                before += str(part.value)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_command_that_is_shown_is_quoted_for_a_shell(path: Path) -> None:
    assert unquoted(ast.parse(path.read_text())) == []


def test_a_command_put_together_by_hand_is_seen() -> None:
    assert unquoted(ast.parse('f"fix: virsh resume {domain.name}"')) != []
    assert unquoted(ast.parse('f"{what}; overcommitctl release {name} ends that"')) != []
    assert unquoted(ast.parse("f\"try {command('virsh', 'resume', name)}: {why}\"")) == []


MOST_ARGUMENTS = 6
USE_CASES = [path for path in MODULES if path.relative_to(ROOT).parts[1] in {"control", "daemon"}]


def is_verb(node: ast.FunctionDef) -> bool:
    """Its parameters are the options of a command line: click calls it with each of them by name."""
    return any(ast.unparse(decorator).startswith("click.command(") for decorator in node.decorator_list)


def with_many_arguments(tree: ast.AST) -> list[str]:
    """Functions that want a value object."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not is_verb(node):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if len([each for each in given if each.arg not in {"self", "cls"}]) > MOST_ARGUMENTS:
                found.append(node.name)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_function_takes_a_value_object_and_no_long_list(path: Path) -> None:
    assert with_many_arguments(ast.parse(path.read_text())) == []


def test_a_long_list_of_arguments_is_seen() -> None:
    assert with_many_arguments(ast.parse("def f(a, b, c, d, *, e, f, g): ...")) == ["f"]
    assert with_many_arguments(ast.parse("def f(self, a, b, c, *, d, e, f): ...")) == []
    assert with_many_arguments(ast.parse("@click.command()\ndef f(a, b, c, d, e, f, g): ...")) == []
    assert with_many_arguments(ast.parse("@with_session\ndef f(a, b, c, d, e, f, g): ...")) == ["f"]


def test_others_neither_write_to_the_controller_nor_reach_into_it() -> None:
    """What they need is in its `State`, or a method."""
    reaches = re.compile(r"\bcontroller\.(_\w+|\w+ = |(?!state\b|control\b)\w+\.\w+)")
    found = [
        f"{name_of(path)}: {match[0]}"
        for path in USE_CASES
        for match in reaches.finditer(path.read_text())
        if not path.read_text()[: match.start()].splitlines()[-1].lstrip().startswith("from ")
    ]
    assert found == []
