"""What the documents say of the program and of each other is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
DOCUMENTS = [
    *sorted(CHECKOUT.glob("*.md")),
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    *sorted(
        path
        for folder in ("integration", "tests", "vagrant")
        for path in (CHECKOUT / folder).rglob("README.md")
    ),
]
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_every_decision_is_listed_in_the_architecture() -> None:
    architecture = (CHECKOUT / "docs/architecture.md").read_text()
    decisions = sorted((CHECKOUT / "docs/adr").glob("*.md"))
    listed = re.findall(r"\[(\d+) [^]]+\]\(adr/([^)]+)\)", architecture)
    assert listed == [(str(int(path.name[:4])), path.name) for path in decisions]


def prose(document: Path) -> str:
    """Its text without what is shown literally, where brackets mean something else."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def headings(document: Path) -> set[str]:
    """What can follow the # of a link, made of the headings as forges make it."""
    found = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}
