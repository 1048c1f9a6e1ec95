"""Killing the program at any write leaves a host that restore fully repairs (rules S3, S4, S10)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from overcommit.model.action import subject_of
from overcommit.model.outcome import Status
from overcommit.model.policy import PageoutActor
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer, install

pytestmark = pytest.mark.timeout(300)
"""Each of the last two tests applies a whole plan once for each of its writes."""


@pytest.mark.parametrize("actor", [actor.value for actor in PageoutActor], indirect=True)
def test_the_whole_job_on_the_fakes(installation: Installation) -> None:
    """What the crash tests interrupt really works when nobody interrupts it."""
    found = installation.baseline()
    plan = installation.plan()
    assert installation.baseline() == found
    report = installation.apply(plan)
    assert {(subject_of(o.action), o.status) for o in report.outcomes} == {
        ("cold", Status.DONE),
        ("free", Status.DONE),
    }
    assert report.freed_bytes >= 110 * MIB
    floors = {domain.incarnation.pid: domain.floor_bytes for domain in plan.domains}
    for guest in installation.host.guests:
        assert len(guest.resident) * MIB >= floors[guest.pid]
        assert guest.hot <= guest.resident
    assert installation.baseline() != found
    installation.restore()
    assert installation.baseline() == found
    assert installation.outstanding == 0


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_restore_brings_the_baseline_back(
    tmp_path: Path, actor: str, killer: Killer, after: bool
) -> None:
    """For each k: die at the k-th write of plan and apply, restore, compare byte for byte, restore again."""
    for write in itertools.count(1):
        installation = install(tmp_path / str(write), actor)
        found = installation.baseline()
        killer.aim(installation.host, write, after=after)
        try:
            installation.apply(installation.plan())
        except Killed:
            survived = False
        else:
            survived = True
        killer.revive()
        result = installation.restore()
        assert result.left == ()
        assert installation.baseline() == found, f"killed {'after' if after else 'before'} write {write}"
        assert installation.restore().done == ()
        assert installation.outstanding == 0
        if survived:
            assert write > 100, "the job has fewer writes than it had"
            return


def test_the_next_command_cleans_up_after_a_killed_one(installation: Installation, killer: Killer) -> None:
    """Without restore: plan stops the dead one's kdamonds, and works."""
    found = installation.baseline()
    killer.aim_at(installation.host, "on")
    with pytest.raises(Killed):
        installation.plan()
    killer.revive()
    assert installation.kernel.damon.running
    assert installation.plan().runnable
    assert installation.baseline() == found


def test_a_staged_configuration_of_another_tool_comes_back_to_the_byte(installation: Installation) -> None:
    """Somebody's two idle slots are moved aside with --take-over and put back."""
    kernel = installation.kernel
    root = "/sys/kernel/mm/damon/admin/kdamonds"
    for path, value in (
        ("nr_kdamonds", "2"),
        ("1/contexts/nr_contexts", "1"),
        ("1/contexts/0/operations", "paddr"),
        ("1/contexts/0/schemes/nr_schemes", "1"),
        ("1/contexts/0/schemes/0/quotas/bytes", "4096"),
    ):
        kernel.write(f"{root}/{path}", value)
    found = installation.baseline()
    installation.plan()
    assert installation.baseline() == found
