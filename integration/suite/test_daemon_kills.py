"""The daemon, or its worker, killed at any moment: nobody is hurt, and the next one goes on from there.

A minute or more each: ``pytest --all --kernel 7.3 --kills 50``.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, Host
from integration.suite.service import Overcommitd, await_true

if TYPE_CHECKING:
    from collections.abc import Iterator

GUESTS = ("victim", "neighbour")
MEMORY = 256 * MIB
POLICY = """\
version: 1
host:
  pageout_actor: {actor}
  reclaim: proactive
  swap: {{max_used: 80%, max_write: 2MiB/s}}
classes: {{lab: {{floor: 20%, cold_after: 8s, slo: {{promotions: 100%/min, psi_some: 90%}}}}}}
default_class: lab
"""
"""It writes so slowly that page-outs are at work most of the time."""
WATCHED, LONGEST = 14.0, 25.0
"""Seconds until enough was watched to take something, and those after that within which it is killed."""
PATIENT = 240.0


@pytest.fixture(scope="module")
def guests(host: Host) -> Iterator[tuple[str, ...]]:
    """Two, each with something to give by balloon and by page-out."""
    settings = {"total": "160M", "base": "24M", "hold": "4", "hz": "0.5"}
    for name in GUESTS:
        host.lab.guest_add(GuestSpec(name, "256M", "hog", settings, free_page_reporting=False))
        host.await_workload(name, "base")
        host.needs_all_for_a_while(name)
    yield GUESTS
    for name in GUESTS:
        host.lab.guest_remove(name)


def balloon_is_known(daemon: Overcommitd, name: str) -> bool:
    """Whether its status has what the guest gave by balloon, whoever took it; not while that is moving."""
    domain, size = daemon.domain(name), daemon.host.balloon_bytes(name)
    known: int = domain["reclaimed_bytes"] - domain["swapped_bytes"]
    return abs(known - (MEMORY - size)) <= 2 * MIB


def test_killed_at_random_moments(
    host: Host, guests: tuple[str, ...], kills: int, randomly_seeded: int
) -> None:
    """Guests live on, the next daemon stops what the dead one left at work and knows what guests gave.

    The first is killed while a kdamond pages out for it, the others at any moment.
    """
    found = host.damon()
    chance = random.Random(randomly_seeded)
    seen: Counter[str] = Counter()
    longest = 0.0
    operations = dict.fromkeys(guests, 0)
    actor = "damos-fvaddr"
    daemon = Overcommitd(host, POLICY.format(actor=actor))
    try:
        daemon.start()
        for turn in range(kills):
            moment = chance.uniform(0, LONGEST)
            time.sleep(WATCHED)
            daemon.signal("HUP")  # it plans at once, not within a minute
            if turn:
                time.sleep(moment)
            else:
                await_true(host, lambda: bool(daemon.actors()), "page-out", PATIENT, daemon.log)
            whole = chance.random() < 0.7 or not turn
            context = f"turn {turn}, {actor}, after {moment:.1f} s, seed {randomly_seeded}"
            pid = daemon.pid if whole else daemon.worker()
            at_work = host.shell(f"kill -9 {pid}; date +%s.%N")
            seen["daemon" if whole else "worker"] += 1
            if not whole:
                daemon.await_end()
            sizes = [host.balloon_bytes(name) for name in guests]
            left = daemon.actors()
            seen["with an actor at work"] += bool(left)
            seen["with a balloon out"] += min(sizes) < MEMORY - MIB

            actor = chance.choice(["damos-fvaddr", "damos-paddr", "cold-hint+reclaim"])
            daemon.write_policy(POLICY.format(actor=actor))
            daemon.start()

            stopped = float(host.shell("date +%s.%N")) - float(at_work)
            assert not daemon.actors(), f"{context}: {daemon.log()}"
            if left:
                longest = max(longest, stopped)
                assert "cleaned up after a controller died: stopped kdamond" in daemon.log(), context
            print(
                f"\n{context}: {'daemon' if whole else 'worker'}; "
                f"balloons at {[size // MIB for size in sizes]} MiB, left {left}, ended in {stopped:.0f} s",
                end="",
            )
            for name in guests:
                stat = host.lab.guest_send(name, "stat")
                assert (stat["errors"], stat["restarts"]) == (0, 0), context
                assert stat["ops"] > operations[name] or stat["phase"] == "grow", (
                    f"{context}: {name} stands still"
                )
                operations[name] = stat["ops"]
                knows = f"what {name} gave known, {context}: {sizes}; own size of its balloon"
                await_true(host, lambda name=name: balloon_is_known(daemon, name), knows, PATIENT, daemon.log)  # type: ignore[misc]
                if chance.random() < 0.3:
                    host.lab.guest_send(name, "wake")
        print(f"\n{dict(seen)}; all that was left at work was ended within {longest:.0f} s")
    finally:
        daemon.stop()
    assert host.damon() == found
    restored = host.ctl("restore")
    assert restored.returncode == 0, restored.stderr
    for name in guests:
        assert host.balloon_bytes(name) == pytest.approx(MEMORY, abs=2 * MIB)
    assert "Nothing to restore" in host.ctl("restore").stdout
    assert seen["with an actor at work"], "no page-out was ever at work"
    assert seen["with a balloon out"] or kills < 5, "no balloon was ever out"
