"""What the README shows is what the program prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor
from overcommit.units import GIB, MIB
from tests.cli.conftest import Run
from tests.installed_fakes import Unforked

README = Path(__file__).parents[2] / "README.md"
LEAST_LINES = 6


@pytest.fixture
def host(mocker: MockerFixture) -> FakeHost:
    """Three guests: one works with most of its memory, one with a quarter, and one has finished its work."""
    finished = set(range(100, 400))
    host = FakeHost(
        [
            FakeGuest("db", "uuid-1", 501, 1024 * MIB, resident=set(range(900)), hot=set(range(700))),
            FakeGuest("web", "uuid-2", 502, 512 * MIB, resident=set(range(400)), hot=set(range(96))),
            FakeGuest("batch", "uuid-3", 503, 512 * MIB, set(range(480)), hot=set(range(30)), free=finished),
        ],
        total_bytes=4 * GIB,
    )
    mocker.patch("os.geteuid", return_value=0)
    mocker.patch("overcommit.cli.session.DamonWorker", return_value=Unforked(host))
    mocker.patch("overcommit.cli.session.SystemClock", return_value=FakeClock(host))
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(host))
    return host


@pytest.mark.usefixtures("host")
def test_the_readme_shows_what_plan_prints(run: Run) -> None:
    ended = run("plan")
    assert ended.status == 0, ended.err
    said = [line.strip() for line in ended.out.splitlines()]
    shown = [line.strip() for line in sample() if line.strip() not in {"", "..."}]
    assert len(shown) >= LEAST_LINES
    rest = iter(said)
    missing = [line for line in shown if line not in rest]
    assert not missing, f"{missing} in README.md; take some lines of this, in order:\n{ended.out}"


def sample() -> list[str]:
    """The block that follows the comment which names this file."""
    found = re.search(
        r"<!--[^>]*tests/cli/test_readme\.py[^>]*-->\n\n```\n(.*?)```", README.read_text(), re.DOTALL
    )
    assert found
    return found[1].splitlines()
