"""What stops the main job stands first, everywhere; and no state is told that is none any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.cli import render
from overcommit.cli.status import _text
from overcommit.cli.tables import plain_lines
from overcommit.control.status import Mode
from overcommit.model.moments import Wall
from overcommit.plan import document
from overcommit.plan.main_job import briefly
from overcommit.testing import FakeGuest
from overcommit.units import GIB, MIB
from overcommit.wire.protocol import Verb
from tests.faults.daemon import Daemon, Disk, World, policy_text

NOTHING = "NOTHING IS PAGED OUT: "


def world_with(tmp_path: Path, *, policy: str | None = None) -> World:
    guest = FakeGuest(
        name="web",
        uuid="00000000-0000-0000-0000-000000000001",
        pid=501,
        memory_bytes=256 * MIB,
        resident=set(range(200)),
        hot=set(range(10)),
    )
    return World(tmp_path, policy or policy_text(actor="memcg-reclaim"), inhabitants=[guest])


def faces(daemon: Daemon) -> dict[str, str]:
    """The first line of each."""
    plan = daemon.controller.state.plan
    assert plan is not None
    assert document.loads(document.dumps(plan), "a plan").stopped == plan.stopped
    return {
        "status": next(plain_lines(_text(daemon.server.status, daemon.world.clock.now()))),
        "journal": daemon.sentence,
        "plan": next(plain_lines(render.plan_text(plan))),
        "explain": next(plain_lines(render.explain_text(plan))),
    }


@pytest.mark.parametrize(
    ("why", "says"),
    [
        ("full", "swap is full"),
        ("budget", "swap budget"),
        ("none", "the host has no swap"),
        ("off", "the policy says"),
    ],
)
def test_what_stops_the_main_job_stands_first(why: str, says: str, tmp_path: Path) -> None:
    text = policy_text(actor="memcg-reclaim")
    if why == "full":
        text = text.replace("max_used: 60%", "max_used: 100%")
    if why == "off":
        text = text.replace("host: {", "host: {reclaim: off, ")
    world = world_with(tmp_path, policy=text)
    match why:
        case "full":
            world.host.swap_of_others_bytes = world.host.swap_total_bytes
        case "budget":
            world.host.swap_of_others_bytes = int(0.7 * world.host.swap_total_bytes)
        case "none":
            world.host.swap_total_bytes = 0
        case _:
            pass
    with Disk().in_place():
        daemon = world.daemon()
        daemon.run_for(90)
        for face, first in faces(daemon).items():
            assert first.startswith(NOTHING + says), face
        status = daemon.server.status
        assert status["stopped"].startswith(NOTHING + says)
        assert status["domains"][0]["held"] is None
        plan = daemon.controller.state.plan
        assert plan is not None
        if why != "none":  # that is a verdict on the domain itself
            assert f"  pageout: not now: {plan.stopped}" in list(plain_lines(render.explain_text(plan)))
        assert not any(
            "can be used" in line for line in plain_lines(render.explain_text(plan)) if "pageout" in line
        )
        assert len({line.partition("; active")[0] for line in daemon.said if NOTHING in line}) == 1
        daemon.stop()


def test_nothing_is_said_while_nothing_stops_it(tmp_path: Path) -> None:
    with Disk().in_place():
        daemon = world_with(tmp_path).daemon()
        daemon.run_for(60)  # a page-out is at work, or was
        assert not any(NOTHING in first for first in faces(daemon).values())
        assert daemon.server.status["stopped"] is None
        daemon.stop()


@pytest.mark.parametrize("observe", [False, True])
def test_a_mode_that_takes_nothing_stands_first(observe: bool, tmp_path: Path) -> None:
    with Disk().in_place():
        daemon = world_with(tmp_path).daemon(observe=observe)
        daemon.run_for(20)
        if not observe:
            daemon.order(Verb.PAUSE, seconds=600.0)
        daemon.run_for(20)
        says = "overcommitd only observes" if observe else "overcommitd is paused"
        assert next(plain_lines(_text(daemon.server.status, Wall(0.0)))).startswith(says)
        daemon.stop()


def test_a_pause_that_is_over_has_no_end(tmp_path: Path) -> None:
    with Disk().in_place():
        daemon = world_with(tmp_path).daemon()
        daemon.run_for(10)
        daemon.order(Verb.PAUSE, seconds=30.0)
        daemon.run_for(10)
        assert daemon.server.status["mode_until"] is not None
        daemon.run_for(40)
        assert daemon.mode() is Mode.ACTIVE
        assert daemon.server.status["mode_until"] is None
        daemon.stop()


def test_a_daemon_that_looks_is_not_held_up(tmp_path: Path) -> None:
    """What is observed once a minute is older than what it looked at."""
    with Disk().in_place():
        daemon = world_with(tmp_path).daemon()
        oldest = oldest_look = 0.0

        def look() -> None:
            nonlocal oldest, oldest_look
            if daemon.server.text != b"{}":
                now = daemon.world.clock.now()
                oldest = max(oldest, now - daemon.server.status["taken_at"])
                oldest_look = max(oldest_look, now - daemon.server.status["ticked_at"])

        daemon.run_for(400, each=look)
        assert oldest >= 55
        assert oldest_look <= 10
        daemon.stop()


def test_a_refused_reservation_leaves_no_host_below_its_reserve(tmp_path: Path) -> None:
    with Disk().in_place():
        daemon = world_with(tmp_path).daemon()
        daemon.run_for(90)
        asked = daemon.order(
            Verb.RESERVE, size_bytes=int(1.8 * GIB), purpose=None, hold_seconds=60.0, timeout_seconds=25.0
        )
        said: list[str] = []
        while asked.answer is None:
            daemon.run_for(1)
        daemon.run_for(30, each=lambda: said.append(daemon.sentence))
        assert not asked.answer.get("granted")
        assert not any("below its reserve" in sentence for sentence in said)
        daemon.stop()


@pytest.mark.parametrize(
    ("sentence", "brief"),
    [
        ("swap is full: 1.0 GiB of 1.0 GiB in use", "swap is full: ... of ... in use"),
        ("swap on /dev/sdb2 is slow: 48 ms per read", "swap on /dev/sdb2 is slow: ... per read"),
        ("written at 70.0 MiB/s, the policy allows 60%", "written at ..., the policy allows ..."),
        ("swap on /dev/zram0 takes 400 MiB of memory", "swap on /dev/zram0 takes ... of memory"),
    ],
)
def test_what_is_logged_has_no_figures_that_change(sentence: str, brief: str) -> None:
    assert briefly(sentence) == brief
