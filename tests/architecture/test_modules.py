"""The shape of the product's code, as far as a rule can tell."""

from __future__ import annotations

import ast
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
