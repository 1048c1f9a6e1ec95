"""What the Debian package says of itself agrees with the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

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
