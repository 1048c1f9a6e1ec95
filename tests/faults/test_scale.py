"""What a daemon does in a tick grows as the number of domains does, and its calls to libvirt not at all.

Steps of the interpreter and calls are counted, not seconds.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar
from unittest.mock import patch

import pytest

from overcommit.control.status import status_document
from overcommit.daemon.state import TickRequest
from overcommit.plan import document
from overcommit.testing import FakeGuest
from overcommit.units import GIB, MIB
from tests.faults.daemon import Daemon, Disk, Libvirt, World, policy_text

FEW, MANY = 8, 32
T = TypeVar("T")
PRODUCT = str(Path(__file__).parents[2] / "overcommit") + "/"
FAKES = PRODUCT + "testing/"


class Counted(Libvirt):
    """Counts what libvirt is asked, each question once however the fake finds the answer."""

    def __getattribute__(self, name: str) -> Any:
        attribute = super().__getattribute__(name)
        if name.startswith("_") or not callable(attribute):
            return attribute
        counts = super().__getattribute__("__dict__").setdefault("counts", Counter())

        def asked(*arguments: Any, **more: Any) -> Any:
            if not sys._getframe(1).f_code.co_filename.startswith((FAKES, __file__)):
                counts[name] += 1
            return attribute(*arguments, **more)

        return asked


def guests(count: int, **more: Any) -> list[FakeGuest]:
    def guest(number: int) -> FakeGuest:
        shape: dict[str, Any] = {"memory_bytes": 16 * MIB, "resident": range(12), "hot": range(2), **more}
        uuid = f"00000000-0000-0000-0000-{number:012d}"
        shape |= {"name": f"g{number:03d}", "uuid": uuid, "pid": 5000 + number}
        for name, value in shape.items():
            shape[name] = set(value) if isinstance(value, range) else value
        return FakeGuest(**shape)

    return [guest(number) for number in range(count)]


def world(directory: Path, inhabitants: list[FakeGuest]) -> World:
    world = World(directory, policy_text(actor="memcg-reclaim"), inhabitants=inhabitants)
    world.host.total_bytes = 2 * GIB + 2 * sum(guest.memory_bytes for guest in inhabitants)
    world.host.swap_total_bytes = world.host.total_bytes
    world.libvirt = Counted(world.host)
    return world


def steps_of(what: Callable[[], object]) -> Counter[str]:
    """How many instructions of the product's Python run, by function."""
    count: Counter[str] = Counter()

    def step(frame: FrameType, event: str, _argument: object) -> Any:
        code = frame.f_code
        count[f"{code.co_filename.removeprefix(PRODUCT)}: {code.co_name}"] += event == "opcode"
        return step

    def entered(frame: FrameType, _event: str, _argument: object) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(PRODUCT) or name.startswith(FAKES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        what()
    finally:
        sys.settrace(before)
    return count


def measured(directory: Path, count: int, measure: Callable[[World, Daemon], T], **shape: Any) -> T:
    directory.mkdir()
    here = world(directory, guests(count, **shape))
    with Disk().in_place():
        daemon = here.daemon()
        daemon.run_for(25)
        return measure(here, daemon)


@pytest.mark.parametrize("balloons", ["none", "virtio"])
@pytest.mark.parametrize("planned", [False, True])
def test_a_tick_grows_as_the_domains_do(tmp_path: Path, balloons: str, planned: bool) -> None:
    def ticks(here: World, daemon: Daemon) -> Counter[str]:
        here.host.advance(5.0)
        return steps_of(lambda: daemon.controller.tick(TickRequest(replan=planned)))

    few, many = (
        measured(tmp_path / str(count), count, ticks, balloon_model=balloons, free=range(8, 10))
        for count in (FEW, MANY)
    )
    assert many.total() < 1.1 * MANY / FEW * few.total()
    # What is quadratic and cheap is lost in that. More domains may be cold than in proportion.
    quadratic = {name: steps for name, steps in many.items() if steps > 10 * few[name] + 500}
    assert quadratic == {}


def test_documents_are_made_for_who_reads_and_not_in_every_tick(tmp_path: Path) -> None:
    def made(_: World, daemon: Daemon) -> list[int]:
        with (
            patch("overcommit.daemon.report.status_document", wraps=status_document) as status,
            patch.object(document, "to_document", wraps=document.to_document) as plan,
        ):
            ticks = daemon.controller.state.ticks
            daemon.run_for(130)
            assert daemon.controller.state.ticks > ticks + 20
            unread = status.call_count + plan.call_count
            told = daemon.server.status
            assert told["tick"] == daemon.controller.state.ticks
            assert json.loads(daemon.server.plan or b"")["kind"] == "plan"
            return [unread, status.call_count, plan.call_count]

    assert measured(tmp_path / "x", FEW, made) == [0, 1, 1]


def test_those_that_take_memory_do_not_have_all_domains_listed(tmp_path: Path) -> None:
    def calls(here: World, daemon: Daemon) -> int:
        counts: Counter[str] = vars(here.libvirt)["counts"]
        at_work = 0

        def look() -> None:
            nonlocal at_work
            at_work = max(at_work, len(daemon.controller._acting.actions))

        before, ticks = counts["domains"], daemon.controller.state.ticks
        daemon.run_for(30, look)
        assert at_work == 4
        ticks = daemon.controller.state.ticks - ticks
        return counts["domains"] - before - ticks

    shape = {"memory_bytes": 128 * MIB, "resident": range(110), "balloon_model": "none"}
    assert measured(tmp_path / "x", 12, calls, **shape) <= 2  # plans


@pytest.mark.parametrize("balloons", ["none", "virtio"])
def test_domains_at_rest_cost_no_calls_to_libvirt(tmp_path: Path, balloons: str) -> None:
    def calls(here: World, daemon: Daemon) -> Counter[str]:
        counts: Counter[str] = vars(here.libvirt)["counts"]
        counts.clear()
        for _ in range(4):
            here.host.advance(5.0)
            daemon.controller.tick()
        return counts

    shape = {"balloon_model": balloons, "hot": range(12)}  # nothing is cold: nothing is planned in between
    few, many = (measured(tmp_path / str(count), count, calls, **shape) for count in (FEW, MANY))
    assert few == many == Counter({"survey": 4})
