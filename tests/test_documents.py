"""What the documents say of the program and of each other is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
DEBIAN_NAMES = {"pyyaml": "python3-yaml", "libvirt-python": "python3-libvirt"}
"""Packages of Debian that are not called python3- and the name of the distribution."""


def test_the_installation_in_the_readme_names_every_dependency() -> None:
    """Its pip is told --no-deps: what apt does not bring is missing, and the program does not start."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["libvirt"]]
    names = [re.split(r"[^\w.-]", requirement)[0].lower() for requirement in needed]
    readme = (CHECKOUT / "README.md").read_text()
    installed = set(" ".join(re.findall(r"^apt-get install (.*)$", readme, re.MULTILINE)).split())
    assert {DEBIAN_NAMES.get(name, f"python3-{name}") for name in names} <= installed
