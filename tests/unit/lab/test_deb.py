"""What the Debian package says of itself agrees with the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from integration.lab import deb, package_root, paths
from integration.lab.image.build import remove_leftovers
from integration.lab.image.packages import BUILD_PACKAGES

CHECKOUT = Path(__file__).parents[3]
CONTROL = (CHECKOUT / "debian/control").read_text()


def field(name: str) -> list[str]:
    """The packages that a field of debian/control names, without versions."""
    found = re.search(rf"^{name}:((?:.*\n)(?: .*\n)*)", CONTROL, re.MULTILINE)
    assert found
    return [re.split(r"[ (]", entry.strip())[0] for entry in found[1].split(",")]


def test_the_root_that_builds_has_what_the_package_is_built_with() -> None:
    assert {name for name in field("Build-Depends") if name != "debhelper-compat"} <= set(BUILD_PACKAGES)


def test_the_program_can_describe_itself_where_it_is_built() -> None:
    """Manual pages and completions come from the program, so its dependencies are built with."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^\w.-]", needed)[0].lower() for needed in project["dependencies"]}
    assert {f"python3-{'yaml' if name == 'pyyaml' else name}" for name in names} <= set(
        field("Build-Depends")
    )


def test_the_versions_of_package_and_project_are_one() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert (CHECKOUT / "debian/changelog").read_text().startswith(f"overcommit ({version}) ")


def test_the_unit_is_that_of_the_verb_with_every_place_filled() -> None:
    """contrib/package/build.sh edits these lines of it."""
    unit = (CHECKOUT / "overcommit/daemon/overcommitd.service").read_text()
    rules = (CHECKOUT / "contrib/package/build.sh").read_text()
    places = set(re.findall(r"@\w+@", unit))
    assert places
    assert all(f"s,{place}," in rules for place in places)
    assert re.search(r"^Description=", unit, re.MULTILINE)
    assert re.search(r"^\[Service\]$", unit, re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> Path:
    """A checkout of a few files, from which nothing is built but a file with the version for its contents."""

    def build(_needed: object, _sources: object, _script: str, target: Path, **_: object) -> None:
        remove_leftovers(paths.cache())  # as another process does that builds an image meanwhile
        (target / "overcommit_1_all.deb").write_text("package")

    copy = tmp_path / "checkout"
    for name in ("debian/changelog", "overcommit/cli/main.py", "overcommit/__pycache__/x.pyc", "docs/a.md"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("overcommit (1.2) unstable\n")
    monkeypatch.setattr(paths, "CHECKOUT", copy)
    monkeypatch.setenv("OVERCOMMIT_LAB_CACHE", str(tmp_path / "cache"))
    mocker.patch.object(package_root, "build_in", side_effect=build)
    return copy


def built(scratch: Path, *, by_contents: bool = False) -> list[str]:
    """The steps that were reported."""
    said: list[str] = []
    deb.build(scratch, said.append, by_contents=by_contents)
    return said


def test_the_same_files_are_built_once(checkout: Path, tmp_path: Path) -> None:
    assert "cached" not in " ".join(built(tmp_path / "a"))
    assert built(tmp_path / "b") == ["Debian package 1.2: cached"]
    (checkout / "overcommit/__pycache__/x.pyc").write_text("of no interest")
    assert built(tmp_path / "b") == ["Debian package 1.2: cached"]
    (checkout / "overcommit/cli/main.py").chmod(0o755)
    assert built(tmp_path / "b")[0] == "Debian package 1.2 ..."


def test_a_change_is_another_version_that_dpkg_takes(checkout: Path, tmp_path: Path) -> None:
    before = built(tmp_path / "a", by_contents=True)[0].split()[2]
    (checkout / "docs/a.md").write_text("changed")
    after = built(tmp_path / "a", by_contents=True)[0].split()[2]
    assert before != after
    for version in (before, after):
        assert re.fullmatch(r"1\.2\+lab\.[0-9a-f]{8}", version)


def test_what_a_checkout_has_is_found_with_and_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vagrant's user works on a copy that has no .git."""
    patterns = ("LICENSE", "debian/overcommit.*", "docs/*.md", "policies")
    with_git = package_root.files(patterns)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != ".git" and exists(path))
    assert package_root.files(patterns) == with_git
    assert CHECKOUT / "docs/install.md" in with_git
    assert not [path for path in with_git if path.is_relative_to(CHECKOUT / "docs/adr")]


@pytest.mark.parametrize(
    ("has", "installed"),
    [("installed 1.2+lab.ab", False), ("installed 1.2", True), ("config-files 1.2+lab.ab", True), ("", True)],
)
def test_only_another_version_is_installed(
    mocker: MockerFixture, tmp_path: Path, has: str, installed: bool
) -> None:
    vm = mocker.Mock()
    vm.run.return_value.stdout = has
    assert deb.install(vm, tmp_path / "overcommit_1.2+lab.ab_all.deb") is installed
    assert vm.copy.called is installed
    assert vm.run.call_count == 1 + installed
