"""A controller killed at any moment hurts nobody, and leaves nothing that the next command does not mend."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host

if TYPE_CHECKING:
    from collections.abc import Iterator


MEMORY, LOG = 256 * MIB, "/var/tmp/kill.log"
POLICY = """\
version: 1
host: {{pageout_actor: {actor}}}
classes: {{lab: {{floor: 20%, cold_after: 8s, slo: {{psi_some: 50%}}}}}}
default_class: lab
"""
WATCH, WORK = 15.0, 30.0
"""Seconds of an apply's life, and of its first action's, within which it is killed."""
AT_WORK = "until grep -q started {log} || ! kill -0 {pid}; do sleep 0.2; done"


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[str]:
    """Something to take from, by balloon and by page-out."""
    settings = {"total": "160M", "base": "24M", "hold": "4", "hz": "0.5"}
    host.lab.guest_add(GuestSpec("victim", "256M", "hog", settings, free_page_reporting=False))
    host.await_workload("victim", "base")
    yield "victim"
    host.lab.guest_remove("victim")


def test_killed_at_random_moments(host: Host, guest: str, kills: int, randomly_seeded: int) -> None:
    """Each time the guest lives on, and restore brings DAMON and the balloon back."""
    found = host.damon()
    chance = random.Random(randomly_seeded)
    at_work = swapped = ballooned = 0
    for turn in range(kills):
        host.needs_all_for_a_while(guest)
        actor = chance.choice(["damos-fvaddr", "damos-paddr", "cold-hint+reclaim"])
        host.lab.run("cat > /var/tmp/kill.yaml", stdin=POLICY.format(actor=actor))
        apply = "overcommitctl apply -q --json --yes --take-over --policy /var/tmp/kill.yaml"
        pid = host.shell(f"rm -f {LOG}; setsid {apply} >{LOG} 2>&1 </dev/null & echo $!")
        watching = turn % 3 == 0
        moment = chance.uniform(2, WATCH) if watching else chance.uniform(0, WORK)
        wait = "true" if watching else AT_WORK.format(log=LOG, pid=pid)
        kill = f"{wait}; sleep {moment:.1f}; kill -9 {pid} 2>/dev/null && echo yes || true"
        at_work += bool(host.lab.run(kill, timeout=600).stdout.strip())
        when = "of its life" if watching else "of its work"
        context = f"turn {turn}, {actor}, after {moment:.1f} s {when}, seed {randomly_seeded}"
        swapped += host.swapped_bytes(guest) > MIB
        ballooned += host.balloon_bytes(guest) < MEMORY - MIB

        restored = host.ctl("restore")

        assert restored.returncode == 0, f"{context}: {restored.stdout}{restored.stderr}"
        assert host.damon() == found, context
        assert host.balloon_bytes(guest) == pytest.approx(MEMORY, abs=2 * MIB), context
        stat = host.lab.guest_send(guest, "stat")
        assert (stat["phase"], stat["errors"], stat["restarts"]) == ("base", 0, 0), context
    print(f"\n{at_work} killed alive, {swapped} with memory paged out, {ballooned} with a balloon out")
    assert at_work, "each apply was over before it was killed"
    assert kills < 5 or swapped or ballooned, "nothing was ever taken"
    assert kills < 10 or (swapped and ballooned), "nothing was ever taken one way"
