"""The manual pages that packages have."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import click
import pytest

from overcommit.cli.main import overcommitctl

pytestmark = pytest.mark.filterwarnings(  # click-man's business
    "ignore:'click.utils.make_default_short_help':DeprecationWarning"
)
CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target = tmp_path_factory.mktemp("man")
    runpy.run_path(str(CHECKOUT / "contrib/package/manual_pages.py"))["main"](target)
    return {page.name: page.read_text() for page in target.iterdir()}


@pytest.mark.parametrize("verb", sorted(overcommitctl.commands))
def test_a_verb_has_a_page_with_the_examples_of_its_help(pages: dict[str, str], verb: str) -> None:
    page = pages[f"overcommitctl-{verb}.8"].replace(r"\-", "-")
    epilog = overcommitctl.commands[verb].epilog
    assert epilog is not None
    lines = [line.strip() for line in epilog.splitlines()]
    assert page.partition(".SH EXAMPLES\n.nf\n")[2].splitlines() == [
        *lines[lines.index("Examples:") + 1 :],
        ".fi",
    ]


def test_the_line_that_whatis_shows_is_whole(pages: dict[str, str]) -> None:
    assert len(pages) == len(overcommitctl.commands) + 1
    for name, page in pages.items():
        found = re.search(r"\.SH NAME\n(.*)\n", page)
        assert found, name
        assert not found[1].endswith("..."), found[1]
        assert page.splitlines()[0].split()[-1:] != ['"1"'], name
    context = click.Context(overcommitctl)
    shortest = min(overcommitctl.list_commands(context))
    assert f"overcommitctl\\-{shortest} \\- " in pages[f"overcommitctl-{shortest}.8"]
