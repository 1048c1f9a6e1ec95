"""What the end of ``overcommitd`` leaves, with the unit and without it; all that tell of it say that."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from overcommit.cli.service import service
from overcommit.daemon import main
from overcommit.testing import FakeAgent, FakeGuest
from overcommit.units import MIB
from tests.faults.daemon import Daemon, Disk, World, policy_text

DAMON, BALLOONS, DEVICES, KSM, INSIDE = (
    "DAMON",
    "balloons",
    "memory devices",
    "KSM",
    "settings inside of guests",
)
SUBJECTS = {DAMON, BALLOONS, DEVICES, KSM, INSIDE}
POLICY = (
    policy_text()
    .replace("host: {", "host: {ksm: true, ")
    .replace("cold_after: 20s", "cold_after: 20s, cache_after: 20s, guest_help: [damon_reclaim]")
)
PAGE = Path(__file__).parents[2] / "docs" / "install.md"


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    """One guest for each thing that can be changed."""
    del disk

    def guest(number: int, name: str, **about: Any) -> FakeGuest:
        return FakeGuest(
            name=name,
            uuid=f"00000000-0000-0000-0000-00000000000{number}",
            pid=500 + number,
            memory_bytes=256 * MIB,
            resident=set(range(200)),
            hot=set(range(16)),
            **about,
        )

    device = FakeGuest(
        name="device",
        uuid="00000000-0000-0000-0000-000000000009",
        pid=509,
        memory_bytes=640 * MIB,
        device_bytes=256 * MIB,
        resident=set(range(640)),
        hot={*range(60), *range(620, 640)},
        free=set(range(60, 620)),
    )
    inhabitants = [
        guest(1, "cold", common=set(range(60))),
        guest(2, "free", free=set(range(25, 200)), common=set(range(60))),
        guest(3, "helped", agent=FakeAgent(), free_page_reporting=True),
        device,
    ]
    return World(tmp_path, POLICY, inhabitants=inhabitants)


def found(world: World) -> dict[str, object]:
    """Each thing as it is now."""
    damon, guests = world.kernel.damon, world.host.guests
    return {
        DAMON: (
            repr(damon.tree),
            sorted(world.kernel.trace.instances),
            sorted(damon.running),
            dict(damon.modules),
        ),
        BALLOONS: [guest.balloon_target_bytes for guest in guests],
        DEVICES: [guest.requested_bytes for guest in guests],
        KSM: dict(world.kernel.ksm.settings),
        INSIDE: [dict(guest.agent.files) for guest in guests if guest.agent],
    }


def put_back(before: dict[str, object], world: World) -> set[str]:
    now = found(world)
    return {subject for subject in SUBJECTS if now[subject] == before[subject]}


def worked(world: World) -> tuple[Daemon, dict[str, object]]:
    """A daemon that has changed all that can be changed, and how it was before."""
    before = found(world)
    daemon = world.daemon()
    daemon.run_for(300.0)
    assert put_back(before, world) == set()
    assert in_swap(world)
    return daemon, before


def in_swap(world: World) -> int:
    return sum(len(guest.swapped) for guest in world.host.guests)


def things(text: str) -> set[str]:
    return {subject for subject in SUBJECTS if subject in text}


def claim(text: str, pattern: str) -> tuple[str, ...]:
    """What a text says at one place."""
    match = re.search(pattern, re.sub(r"[\s`]+", " ", text))
    assert match is not None, pattern
    return match.groups()


def description() -> str:
    return main._DESCRIPTION


TELLING_OF_THE_UNIT: dict[str, tuple[Callable[[], str], str, str]] = {
    "overcommitctl service": (
        lambda: service.help or "",
        r"Without the unit only (\w+) is put back when overcommitd is stopped, and nothing when it crashes",
        r"a crash included, systemd runs overcommitctl restore ?: ([^.;]*) are put back\.",
    ),
    "docs/install.md": (
        PAGE.read_text,
        r"told to stop, without the unit \| (\w+) only; .* without the unit \| nothing;",
        r"a crash, a kill, under the unit \| systemd runs overcommitctl restore ?: ([^|]*) \|",
    ),
}
"""Each with where it says what comes back without the unit, and under it."""


@pytest.fixture(params=TELLING_OF_THE_UNIT)
def of_the_unit(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """A text that tells of the end under the unit and without it, and where."""
    text, without, under = TELLING_OF_THE_UNIT[request.param]
    return text(), without, under


def test_stopped_without_the_unit(world: World) -> None:
    daemon, before = worked(world)
    swapped = in_swap(world)
    daemon.stop()
    back, stays = claim(
        description(), r"When it is stopped, ([^.;]*) is put back; ([^.;]*) stay as they are\."
    )
    assert put_back(before, world) == things(back) == {DAMON}
    assert things(stays) == SUBJECTS - things(back)
    world.verbs.restore()
    claim(description(), r"restore puts back all of these\.")
    assert put_back(before, world) == SUBJECTS
    claim(description(), r"What is in swap stays there until its guest uses it")
    assert in_swap(world) == swapped


def test_killed_without_the_unit(world: World, disk: Disk) -> None:
    daemon, before = worked(world)
    disk.dead = True
    daemon.abandon()
    disk.dead = False
    claim(description(), r"When it crashes or is killed, DAMON stays as well\.")
    assert put_back(before, world) == set()
    world.verbs.restore()
    assert put_back(before, world) == SUBJECTS


@pytest.mark.parametrize("crashes", [False, True], ids=["stopped", "killed"])
def test_with_the_unit_and_without(
    world: World, disk: Disk, of_the_unit: tuple[str, str, str], *, crashes: bool
) -> None:
    """systemd runs what ExecStopPost says however it ended."""
    text, without_unit, under_unit = of_the_unit
    daemon, before = worked(world)
    swapped = in_swap(world)
    disk.dead = crashes
    daemon.abandon() if crashes else daemon.stop()
    disk.dead = False
    (without,) = claim(text, without_unit)
    assert put_back(before, world) == (set() if crashes else things(without))
    assert re.search(r"^ExecStopPost=\S*overcommitctl\S* restore -q$", template(), re.MULTILINE)
    world.verbs.restore()
    (said,) = claim(text, under_unit)
    assert put_back(before, world) == things(said) == SUBJECTS
    claim(text, r"[Ww]hat is in swap stays there until its guest uses it")
    assert in_swap(world) == swapped


def template() -> str:
    """The unit, as it is before the paths of the programs are put in."""
    text = Path(str(files("overcommit.daemon") / "overcommitd.service")).read_text()
    return text.replace("@OVERCOMMITCTL@", "overcommitctl")
