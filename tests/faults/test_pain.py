"""Guests that feel their page-out: it slows down, rests, goes on, or ends; and who sees to that is told."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
from pathlib import Path

import pytest

from overcommit.damon.sysfs import ROOT
from overcommit.model.action import subject_of
from overcommit.model.outcome import Controller, Outcome, Status
from overcommit.model.ranges import total_size
from overcommit.testing import FakeHost
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer, install

SPEED = 8 * MIB
CONTROLLED = {
    "by-goal": ("damos-fvaddr", (7, 3), Controller.DAMON_GOAL),
    "by-turns": ("damos-fvaddr", (6, 12), Controller.OWN),
    "by-asking-for-less": ("cold-hint+reclaim", (7, 3), Controller.OWN),
}


def slow_installation(directory: Path, way: str) -> Installation:
    """One whose page-out takes nine seconds at the least."""
    actor, version, _ = CONTROLLED[way]
    installation = install(directory, actor)
    installation.kernel.damon.version = version
    swap = dataclasses.replace(installation.policy.swap, max_write_bytes_per_second=SPEED)
    installation.policy = dataclasses.replace(installation.policy, swap=swap)
    return installation


@pytest.fixture(params=CONTROLLED)
def way(request: pytest.FixtureRequest) -> str:
    """How a page-out is kept to its pace."""
    name: str = request.param
    return name


@pytest.fixture
def installation(tmp_path: Path, way: str) -> Installation:
    """See `slow_installation`."""
    return slow_installation(tmp_path / "state", way)


class Sensitive:
    """Makes a guest stall on ``share`` of the time from ``begin`` to ``end``, counted from its first loss."""

    def __init__(self, host: FakeHost, share: float, *, begin: float = 0.0, end: float = 1e9) -> None:
        self._guest, self._share, self._begin, self._end = host.guests[0], share, begin, end
        self._since_loss = -1.0
        host.workers.append(self)

    def __call__(self, seconds: float) -> None:
        if self._guest.swapped or self._since_loss >= 0:
            self._since_loss += seconds
        if self._begin <= self._since_loss < self._end:
            self._guest.stalled_seconds += self._share * seconds


class Needy:
    """Makes a guest read back so many pages of each mebibyte that it loses."""

    def __init__(self, host: FakeHost, pages: int) -> None:
        self._guest, self._pages, self._lost = host.guests[0], pages, 0
        host.workers.append(self)

    def __call__(self, _seconds: float) -> None:
        lost = len(self._guest.swapped)
        self._guest.promoted_pages += max(0, lost - self._lost) * self._pages
        self._guest.major_faults = self._guest.promoted_pages  # one page each, before Linux 6.13
        self._lost = lost


def page_out(installation: Installation) -> Outcome:
    """Plan and apply; the outcome of the guest that is paged out."""
    plan = installation.plan()
    return next(o for o in installation.apply(plan).outcomes if subject_of(o.action) == "cold")


def test_a_guest_that_feels_nothing_is_paged_out_at_full_speed(installation: Installation, way: str) -> None:
    outcome = page_out(installation)
    assert (outcome.status, outcome.controller) == (Status.DONE, CONTROLLED[way][2])
    assert outcome.seconds < 25


def test_one_that_hurts_for_a_while_is_left_alone_for_a_while(installation: Installation) -> None:
    """Resting does not look like having nothing left, and all of it comes in the end."""
    lost_at: list[float] = []
    host = installation.host
    Sensitive(host, 0.5, begin=1.0, end=5.0)
    swapped = 0

    def watch(_seconds: float) -> None:
        nonlocal swapped
        if len(host.guests[0].swapped) > swapped:
            lost_at.append(host.uptime)
        swapped = len(host.guests[0].swapped)

    host.workers.append(watch)
    outcome = page_out(installation)
    assert (outcome.status, outcome.detail) == (Status.DONE, "complete")
    pauses = [later - earlier for earlier, later in itertools.pairwise(lost_at)]
    assert max(pauses) > 8.0


def test_one_that_goes_on_hurting_ends_its_page_out_in_part(installation: Installation) -> None:
    Sensitive(installation.host, 0.5)
    outcome = page_out(installation)
    assert outcome.status is Status.PARTIAL
    assert "memory pressure of the domain" in outcome.detail
    assert "nothing was taken" in outcome.detail
    assert MIB <= outcome.freed_bytes <= 5 * SPEED
    assert installation.kernel.damon.running == {}


def test_one_that_reads_a_little_back_pays_its_bound_per_minute_and_no_more(
    installation: Installation,
) -> None:
    """Eight of 256 pages: unpaced all 70 MiB would cost 560 in nine seconds, and 64 a minute are allowed.

    It is on average near that: what is taken in the second before it shows is too much already.
    """
    Needy(installation.host, 8)
    outcome = page_out(installation)
    assert 0 < outcome.promoted_pages <= 2 * 64 * (outcome.seconds / 60 + 1)
    assert outcome.seconds > 60 or outcome.status is Status.PARTIAL


def test_one_that_reads_all_back_ends_it_at_once(installation: Installation) -> None:
    Needy(installation.host, 256)
    outcome = page_out(installation)
    assert outcome.status is Status.PARTIAL
    assert "were read back" in outcome.detail
    assert outcome.freed_bytes <= 3 * SPEED


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("way", ["by-goal", "by-turns"])
def test_killed_while_it_changes_the_speed_restore_brings_the_baseline_back(
    tmp_path: Path, way: str, killer: Killer, after: bool
) -> None:
    """Before and after what its goal is fed, and each command to its slot."""

    def begin(name: str) -> Installation:
        installation = slow_installation(tmp_path / name, way)
        Sensitive(installation.host, 0.5, begin=1.0, end=5.0)
        return installation

    written: list[tuple[int, str]] = []
    whole = begin("whole")
    killer.aim(whole.host, 0, after=after)
    count_it = whole.host.on_write

    def note(path: str, value: str) -> None:
        count_it(path, value)
        written.append((killer.count, f"{path} {value}"))

    whole.host.on_write = note
    assert page_out(whole).status is Status.DONE
    # the first to write that only tries whether the kernel knows the word
    actor = [at for at, line in written if line.endswith("/schemes/0/action pageout")][-1]
    first = next(at for at, line in written if at > actor and line == f"{ROOT}/0/state on")
    changes = [
        at
        for at, line in written
        if at > first and line.startswith((f"{ROOT}/0/state ", f"{ROOT}/0/contexts/0/schemes/0/quotas/goals"))
    ]
    assert len(changes) >= 3
    for write in changes:
        installation = begin(f"{write}")
        found = installation.baseline()
        killer.aim(installation.host, write, after=after)
        with pytest.raises(Killed):
            page_out(installation)
        killer.revive()
        installation.restore()
        assert installation.baseline() == found
        assert installation.outstanding == 0


def test_a_kdamond_that_cannot_be_started_again_after_a_rest_is_reported(tmp_path: Path) -> None:
    installation = slow_installation(tmp_path / "state", "by-turns")
    Sensitive(installation.host, 0.5, begin=1.0, end=5.0)
    cold = installation.host.guests[0]

    def refuse(path: str, value: str) -> None:
        if path == f"{ROOT}/0/state" and value == "on" and cold.swapped:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    installation.host.on_write = refuse
    outcome = page_out(installation)
    assert outcome.status is Status.PARTIAL
    assert "refused 'on'" in outcome.detail
    assert outcome.freed_bytes == len(cold.swapped) * MIB


def test_after_a_rest_the_quota_is_spent_on_what_is_still_there(tmp_path: Path) -> None:
    installation = slow_installation(tmp_path / "state", "by-turns")
    Sensitive(installation.host, 0.5, begin=1.0, end=5.0)
    targets: list[int] = []

    def note(path: str, value: str) -> None:
        if path == f"{ROOT}/0/state" and value == "on":
            spans = [region.span for region in installation.kernel.damon.running[0].regions]
            targets.append(total_size(spans) // MIB)

    plan = installation.plan()
    installation.host.after_write = note
    outcomes = installation.apply(plan).outcomes
    assert next(o for o in outcomes if subject_of(o.action) == "cold").status is Status.DONE
    first, second = targets
    assert 0 < second < first - SPEED // MIB
