"""What the daemon has learnt of a domain outlives it, and not the domain."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.daemon.learning import KEEP_SECONDS, MOST_DOMAINS
from overcommit.records.ledger import Ledger
from overcommit.slo import Learnt, Throttle
from tests.faults.daemon import Daemon, Disk, World, incarnation

HURT = Learnt(
    notches=4,
    step_share=0.25,
    relapses=2.0,
    rested_seconds=30.0,
    calm_seconds=0.0,
    cause="reads back 900 pages/min",
    judged_seconds=7200.0,
    outside_seconds=120.0,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Disk().in_place():
        yield World(tmp_path)


def throttle_of(world: World, daemon: Daemon) -> Throttle:
    return daemon.controller._tracked[incarnation(world.host.guests[0])].throttle


def hurt(world: World) -> Daemon:
    """A daemon that knows that its first guest was hurt."""
    daemon = world.daemon()
    daemon.run_for(10.0)
    tracked = daemon.controller._tracked[incarnation(world.host.guests[0])]
    tracked.throttle = Throttle.resume(tracked.throttle.domain_class, HURT, seconds=0.0)
    return daemon


def ledger(world: World) -> Ledger:
    return Ledger(world.directory, warn=lambda said: pytest.fail(said))


def test_a_restart_knows_how_firmly_each_domain_was_held(world: World) -> None:
    hurt(world).stop()
    world.clock.wait(600.0)
    again = world.daemon()
    again.run_for(5.0)
    learnt = throttle_of(world, again).learnt
    assert learnt is not None
    assert (learnt.notches, learnt.step_share, learnt.cause) == (4, 0.25, HURT.cause)
    assert 1.98 < learnt.relapses < 2.0
    assert learnt.rested_seconds is not None
    assert learnt.rested_seconds < 60.0, "nobody looked, so it was no comfort"
    assert throttle_of(world, again).why_not


def test_one_that_is_killed_has_kept_it_by_its_next_plan(world: World) -> None:
    daemon = hurt(world)
    daemon.run_for(65.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon.control.ledger, "keep", lambda *_: None)
        daemon.abandon()
    again = world.daemon()
    again.run_for(5.0)
    assert throttle_of(world, again).notches == 4


def test_it_is_written_down_when_it_changes_or_now_and_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    keep = Ledger.keep

    def note(self: Ledger, name: str, value: str) -> None:
        kept.extend([value] if name == "grips" else [])
        keep(self, name, value)

    monkeypatch.setattr(Ledger, "keep", note)
    daemon = world.daemon()
    daemon.run_for(2 * KEEP_SECONDS)
    assert kept == [], "nothing was learnt"
    tracked = daemon.controller._tracked[incarnation(world.host.guests[0])]
    long_ago = dataclasses.replace(HURT, rested_seconds=None)
    tracked.throttle = Throttle.resume(tracked.throttle.domain_class, long_ago, seconds=0.0)
    daemon.run_for(3 * KEEP_SECONDS)
    assert 2 <= len(kept) <= 5


@pytest.mark.parametrize("what", ["boot", "pid", "start_time"])
def test_another_life_of_it_begins_anew(world: World, what: str) -> None:
    hurt(world).stop()
    guest = world.host.guests[0]
    if what == "boot":
        world.host.boot_id = "another-boot"
    elif what == "pid":
        guest.pid += 50
    else:
        guest.start_time += 1
    again = world.daemon()
    again.run_for(5.0)
    assert throttle_of(world, again).learnt is None


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "nonsense",
        '{"version": 2, "boot_id": "x", "domains": []}',
        '{"version": 1}',
        '{"version": 1, "boot_id": "BOOT", "domains": [{"at": 1}]}',
        '{"version": 1, "boot_id": "BOOT", "domains": 7}',
        "NOTCHES",
    ],
)
def test_what_cannot_be_understood_was_never_learnt(world: World, state: str) -> None:
    hurt(world).stop()
    kept = ledger(world).kept("grips") or ""
    assert json.loads(kept)["domains"]
    boot = str(json.loads(kept)["boot_id"])
    wrong = kept.replace('"notches": 4', '"notches": 400')
    assert wrong != kept
    ledger(world).keep("grips", wrong if state == "NOTCHES" else state.replace("BOOT", boot))
    again = world.daemon()
    again.run_for(5.0)
    assert throttle_of(world, again).learnt is None


def test_what_was_learnt_of_domains_not_seen_yet_is_kept_for_a_day_and_bounded(world: World) -> None:
    hurt(world).stop()
    state = json.loads(ledger(world).kept("grips") or "")
    (known,) = state["domains"]
    others = [
        {**known, "domain": {**known["domain"], "pid": 10_000 + number}} for number in range(2 * MOST_DOMAINS)
    ]
    ledger(world).keep("grips", json.dumps({**state, "domains": [known, *others]}))
    world.libvirt.down = "it is down"
    blind = world.daemon()
    blind.run_for(20.0)
    blind.stop()
    left = json.loads(ledger(world).kept("grips") or "")["domains"]
    assert len(left) == MOST_DOMAINS
    world.clock.wait(86400.0)
    tomorrow = world.daemon()
    tomorrow.run_for(20.0)
    tomorrow.stop()
    assert json.loads(ledger(world).kept("grips") or "")["domains"] == []
