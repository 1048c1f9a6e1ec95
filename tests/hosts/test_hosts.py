"""Each file in ``cases/`` is a host as the kernel and libvirt show it, and what is right there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts import situation
from tests.plan.situation import write

CASES = sorted(Path(__file__).parent.glob("cases/*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_host(path: Path, request: pytest.FixtureRequest) -> None:
    case = situation.read(path)
    found = situation.outcome(case)
    if request.config.getoption("--update-hosts"):
        write(path, found)
    assert found == situation.read(path).expected, f"{case.right}: if that is so, pass --update-hosts"


def test_titles_are_sentences_and_different() -> None:
    titles = [situation.read(path).title for path in CASES]
    assert len(set(titles)) == len(titles)
    assert all(not title[0].islower() and not title.endswith(".") for title in titles)
