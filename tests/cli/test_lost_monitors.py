"""Verbs that watch, when somebody else stops our monitors meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.testing import FakeHost
from tests.cli.conftest import Run
from tests.cli.test_remembering import FAILED, host, policy
from tests.installed_fakes import Unforked

__all__ = ["host", "policy"]

Stop = Callable[[int], None]


@pytest.fixture
def stopping(host: FakeHost, mocker: MockerFixture) -> Stop:
    """Have so many kdamonds stop, the first ones, five seconds after the first of them began."""
    kernel = Unforked(host)
    mocker.patch("overcommit.cli.session.DamonWorker", return_value=kernel)
    left = 5.0

    def begin(count: int) -> None:
        def work(seconds: float) -> None:
            nonlocal left
            if kernel.damon.running:
                left -= seconds
            if left <= 0:
                for slot in range(count):
                    kernel.damon.running.pop(slot, None)

        host.workers.append(work)

    return begin


@pytest.mark.parametrize("verb", [["plan"], ["apply", "--yes"]], ids=["plan", "apply"])
def test_a_watch_that_lost_every_monitor_has_failed_and_says_why(
    run: Run, host: FakeHost, policy: Path, stopping: Stop, verb: list[str]
) -> None:
    """Nothing was seen of any domain: that is no plan without changes."""
    before = [set(guest.resident) for guest in host.guests]
    stopping(3)
    ended = run(*verb, "--policy", policy)
    assert ended.status == FAILED
    said = " ".join(ended.err.split())
    assert "no domain could be watched: kdamond" in said
    assert "to see what each domain lacks: overcommitctl doctor" in said
    assert "No changes" not in ended.out
    assert [set(guest.resident) for guest in host.guests] == before


def test_one_monitor_that_is_lost_is_a_gap_of_its_domain(run: Run, policy: Path, stopping: Stop) -> None:
    stopping(1)
    ended = run("plan", "--policy", policy, "--json")
    assert ended.status == 0
    plan = json.loads(ended.out)
    assert any(note.startswith("left out: accesses of domain cold: ") for note in plan["notes"])
