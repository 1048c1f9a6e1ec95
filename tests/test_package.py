"""What is shipped with the program, and what the checkout tells its tools."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parent.parent


def build(checkout: Path, kind: str, target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    made = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def contents(wheel: Path) -> dict[str, int]:
    """The files in it, without its version, and their checksums."""
    with zipfile.ZipFile(wheel) as built:
        return {
            re.sub(r"^overcommit-[^/]+\.dist-info", "dist-info", each.filename): each.CRC
            for each in built.infolist()
        }


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return contents(build(CHECKOUT, "wheel", tmp_path_factory.mktemp("wheel")))


def test_the_wheel_has_what_users_of_the_package_need(shipped: dict[str, int]) -> None:
    assert {
        "overcommit/py.typed",
        "overcommit/policies/balanced.yaml",
        "overcommit/daemon/overcommit.catalog",
        "overcommit/daemon/overcommitd.service",
        "overcommit/exporter/overcommit-exporter.service",
        "dist-info/licenses/LICENSE",
    } <= set(shipped)


def test_the_source_distribution_makes_the_same_wheel(tmp_path: Path, shipped: dict[str, int]) -> None:
    subprocess.run(["tar", "-xf", build(CHECKOUT, "sdist", tmp_path), "-C", tmp_path], check=True)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert contents(build(unpacked, "wheel", tmp_path)) == shipped


def test_the_licence_is_the_one_that_the_package_names() -> None:
    text = (CHECKOUT / "LICENSE").read_text()
    assert 'license = "Apache-2.0"' in (CHECKOUT / "pyproject.toml").read_text()
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_hook_before_a_commit_is_local_and_a_target_of_make() -> None:
    hooks = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    (hook,) = hooks["repos"][0]["hooks"]
    made = subprocess.run(
        [*hook["entry"].split(), "--dry-run"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert "mypy" in made.stdout


def test_editors_are_told_what_files_are_like() -> None:
    """Tabs where the files have them, and nowhere else."""
    with_tabs = subprocess.run(
        ["git", "grep", "-lIP", r"^\t"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout.split()
    sections = re.findall(
        r"^\[(.*)\]\nindent_style = tab$", (CHECKOUT / ".editorconfig").read_text(), re.MULTILINE
    )
    patterns = [pattern for section in sections for pattern in section.strip("{}").split(",")]
    assert patterns
    assert [name for name in with_tabs if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in with_tabs)] == []
