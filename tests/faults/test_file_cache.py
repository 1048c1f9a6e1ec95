"""A guest keeps the file cache that it uses: with the daemon at work on a host that is not short."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.testing import FakeGuest
from overcommit.testing.fake_files import FakeFiles
from overcommit.units import GIB, MIB
from tests.faults.daemon import Disk, World

FILES, SIZE, USED = 200, 400, 60
PERIODS = {"every-3": 180.0, "every-30": 1800.0, "once": None}
"""Minutes; `tests/unit/test_droppable_cache.py` has more of them."""
POLICY = """
version: 1
host: {{reserve: 8%}}
classes: {{all: {{floor: 25%, cold_after: 2min, cache_after: {cache_after}}}}}
default_class: all
"""


def guest(number: int, name: str, period: float | None, *, used_last: bool = False) -> FakeGuest:
    """400 MiB: 60 in use, half of them always; all else free, until it reads its 200 MiB of files.

    What is in use lies at the beginning, or at the end.
    """
    used = set(range(SIZE - USED, SIZE) if used_last else range(USED))
    return FakeGuest(
        name=name,
        uuid=f"{number}1111111-2222-3333-4444-555555555555",
        pid=100 + number,
        memory_bytes=SIZE * MIB,
        resident=set(range(SIZE)),
        free=set(range(SIZE)) - used,
        hot=set(sorted(used)[: USED // 2]),
        files=FakeFiles(FILES, period),
    )


def world(
    directory: Path, *, cache_after: str, periods: dict[str, float | None], used_last: bool = False
) -> World:
    """One whose guests have read their files."""
    guests = [
        guest(number, name, period, used_last=used_last)
        for number, (name, period) in enumerate(periods.items())
    ]
    made = World(directory, POLICY.format(cache_after=cache_after), inhabitants=guests)
    made.host.total_bytes, made.host.step_seconds = 8 * GIB, 5.0
    made.host.advance(20)
    assert all(g.cached for g in guests)
    return made


@pytest.fixture(autouse=True)
def disk() -> Iterator[None]:
    with Disk().in_place():
        yield


def hurt(guest: FakeGuest) -> int:
    """Of the passes over its files but the first, how many had to read a disk."""
    assert guest.files is not None
    return sum(1 for read in guest.files.passes[1:] if read)


def balloon(guest: FakeGuest) -> int:
    """Its size in MiB."""
    return guest.balloon_bytes // MIB


@pytest.mark.timeout(300)
def test_no_pass_over_files_is_hurt_and_what_is_never_read_again_goes(tmp_path: Path) -> None:
    here = world(tmp_path, cache_after="40min", periods=PERIODS)
    daemon = here.daemon()
    daemon.run_for(300.0)
    assert {balloon(g) for g in here.host.guests} == {SIZE - 115}, "what is free goes at once, but for 25"
    assert all(len(g.cached) == FILES for g in here.host.guests)
    daemon.run_for(3500.0)
    *busy, once = here.host.guests
    for each in busy:
        assert each.files is not None
        assert len(each.files.passes) >= 2
        assert (hurt(each), each.promoted_pages, balloon(each)) == (0, 0, SIZE - 115), each.name
    assert balloon(once) <= 160, "but for a reserve, and for what was in use and may be cache"
    assert len(once.cached) < FILES
    daemon.stop()


@pytest.mark.timeout(300)
def test_who_reads_its_files_again_gets_all_back_at_once_and_is_left_alone_then(tmp_path: Path) -> None:
    """Its class takes all cache at once: one pass is hurt for that, and no more."""
    here = world(tmp_path, cache_after="0s", periods={"web": 600.0})
    (web,) = here.host.guests
    daemon = here.daemon()
    daemon.run_for(300.0)
    assert balloon(web) <= 160
    assert len(web.cached) < FILES
    daemon.run_for(330.0)
    assert hurt(web) == 1
    daemon.run_for(60.0)
    assert balloon(web) == SIZE
    assert daemon.has_said("from its disks in 10min that it cannot keep in memory")
    held = daemon.controller.state.plan
    assert held is not None
    assert "read its disks again" in str(held.domains[0].eligible)
    daemon.run_for(3600.0)
    assert hurt(web) == 2, "the pass that filled its cache again is the last to read a disk"
    daemon.stop()


@pytest.mark.timeout(300)
def test_what_a_watch_missed_of_a_pass_is_not_taken_for_memory_that_is_no_cache(tmp_path: Path) -> None:
    """A pass of a second is over between two looks at a page: what was missed is as idle as idle memory."""
    here = world(tmp_path, cache_after="4h", periods={"web": 180.0}, used_last=True)
    (web,) = here.host.guests
    assert web.files is not None
    web.files.unseen = 5
    assert min(web.cached) < min(web.hot), "of what is as idle, page-out takes what lies lowest"
    daemon = here.daemon()
    daemon.run_for(1800.0)
    assert len(web.files.passes) >= 8
    assert (hurt(web), web.promoted_pages, len(web.swapped)) == (0, 0, 0)
    daemon.stop()


@pytest.mark.timeout(300)
def test_after_a_restart_cache_is_watched_anew_before_any_of_it_goes(tmp_path: Path) -> None:
    """For how long it was watched before is known to nobody any more."""
    here = world(tmp_path, cache_after="20min", periods={"once": None})
    (once,) = here.host.guests
    daemon = here.daemon()
    daemon.run_for(1100.0)
    assert len(once.cached) == FILES
    daemon.stop()
    again = here.daemon()
    again.run_for(1100.0)
    assert (len(once.cached), len(once.swapped & once.cached)) == (FILES, 0)
    again.run_for(300.0)
    assert len(once.cached) < FILES, "20 minutes after the restart"
    again.stop()


@pytest.mark.timeout(300)
def test_a_restart_knows_that_it_was_hurt(tmp_path: Path) -> None:
    here = world(tmp_path, cache_after="0s", periods={"web": 600.0})
    (web,) = here.host.guests
    daemon = here.daemon()
    daemon.run_for(800.0)
    assert hurt(web) >= 1
    daemon.stop()
    passes = hurt(web)
    again = here.daemon()
    again.run_for(1800.0)
    assert len(web.cached) == FILES, "nothing of it goes, though its class would take all at once"
    assert hurt(web) == passes + 1, "when it filled its cache again"
    again.stop()


def test_a_host_that_becomes_short_takes_cache_in_steps(tmp_path: Path) -> None:
    here = world(tmp_path, cache_after="4h", periods={"web": None})
    (web,) = here.host.guests
    daemon = here.daemon()
    daemon.run_for(200.0)
    assert len(web.cached) == FILES
    here.host.huge_pages_bytes = here.host.available_bytes - round(0.06 * here.host.total_bytes)
    sizes = []
    for _ in range(20):
        daemon.run_for(30.0)
        sizes.append(len(web.cached))
    steps = [before - after for before, after in zip([FILES, *sizes], sizes, strict=False)]
    assert sizes[-1] < FILES
    assert max(steps) <= FILES // 2
    daemon.stop()


def main(hours: int) -> None:
    """Print how more guests fare over hours, as docs/adr/0022 has it."""
    periods = {"1min": 60.0, "3min": 180.0, "10min": 600.0, "30min": 1800.0, "6h": 21600.0, "once": None}
    with tempfile.TemporaryDirectory() as directory, Disk().in_place():
        here = world(Path(directory), cache_after="4h", periods=periods)
        daemon = here.daemon()
        for hour in range(1, hours + 1):
            daemon.run_for(3600.0)
            for each in here.host.guests:
                assert each.files is not None
                passes = len(each.files.passes) - 1
                print(
                    f"{hour:3} h {each.name:>6}: {hurt(each)} of {passes} passes hurt, "
                    f"{SIZE - balloon(each)} MiB taken by its balloon, {len(each.swapped)} in swap, "
                    f"{len(each.cached)} cached"
                )
        daemon.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
