"""How a resize ends: its status, the fault of the guest, and the sentence that is also in the history."""

from __future__ import annotations

import dataclasses

import pytest

from overcommit.apply.resize_end import (
    EndedEarly,
    Failed,
    GivenBack,
    Growing,
    Observation,
    Reached,
    Rebooted,
    ResizeEnd,
    SteppedBack,
    StoodStill,
    Stopped,
    ended_early,
)
from overcommit.errors import HostError
from overcommit.model.guest_reserve import guest_reserve, short_below
from overcommit.model.outcome import Fault, Status
from overcommit.plan.limits import Room
from overcommit.units import GIB, MIB
from tests import scenarios

WEB = scenarios.domain(size=2 * GIB)
SHORT = short_below(guest_reserve(WEB.memory_bytes))


@pytest.mark.parametrize(
    ("end", "status", "fault", "sentence"),
    [
        (
            Reached(part="balloon", size_bytes=3 * MIB, left_at_bytes=3 * MIB),
            Status.DONE,
            None,
            "balloon at 3.0 MiB",
        ),
        (
            Reached(part="balloon", size_bytes=3 * MIB, left_at_bytes=3 * MIB, bound=Room(MIB, "memory.max")),
            Status.PARTIAL,
            None,
            "balloon at 3.0 MiB; its limit is reached (memory.max)",
        ),
        (
            Growing(size_bytes=2 * MIB, left_at_bytes=3 * MIB),
            Status.PARTIAL,
            None,
            "the guest has taken 2.0 MiB so far; the target is set",
        ),
        (Stopped(why="paused by order", left_at_bytes=MIB), Status.PARTIAL, None, "stopped: paused by order"),
        (Rebooted(left_at_bytes=MIB), Status.PARTIAL, None, "stopped: the guest reboots"),
        (
            StoodStill(part="balloon", left_at_bytes=5 * MIB),
            Status.PARTIAL,
            Fault.STUCK,
            "the balloon stopped moving at 5.0 MiB",
        ),
        (
            SteppedBack(available_bytes=2 * MIB, left_at_bytes=5 * MIB),
            Status.PARTIAL,
            Fault.PAIN,
            "one step back to 5.0 MiB: the guest has only 2.0 MiB available",
        ),
        (
            SteppedBack(available_bytes=None, left_at_bytes=5 * MIB),
            Status.PARTIAL,
            Fault.SILENT,
            "one step back to 5.0 MiB: the guest no longer answers",
        ),
        (
            GivenBack(gave_bytes=9 * MIB, got_bytes=MIB, left_at_bytes=9 * MIB),
            Status.UNDONE,
            Fault.PHANTOM,
            "the guest gave 9.0 MiB but the host got 1.0 MiB: given back",
        ),
        (Failed(error=HostError("no"), left_at_bytes=None), Status.FAILED, None, "no"),
    ],
)
def test_each_end_has_its_status_and_its_sentence(
    end: ResizeEnd, status: Status, fault: Fault | None, sentence: str
) -> None:
    assert (end.status, end.fault, end.sentence) == (status, fault, sentence)
    unrecorded = dataclasses.replace(end, unrecorded=HostError("the disk is full"))
    assert unrecorded.sentence == f"{sentence} (the disk is full)"


@pytest.mark.parametrize(
    ("seen", "reached", "end"),
    [
        (Observation(600, SHORT, reboots=True), 600, Rebooted(left_at_bytes=600)),
        (Observation(600, None, "paused"), 600, Stopped(why="paused", left_at_bytes=600)),
        (Observation(600, SHORT), 500 + 2 * MIB, StoodStill(part="balloon", left_at_bytes=500 + 2 * MIB)),
        (Observation(500, None), 500, SteppedBack(available_bytes=None, left_at_bytes=900)),
        (Observation(500, SHORT - 1), 500, SteppedBack(available_bytes=SHORT - 1, left_at_bytes=900)),
        (Observation(500, SHORT), 500, None),
    ],
)
def test_a_step_that_is_the_last_one(seen: Observation, reached: int, end: EndedEarly | None) -> None:
    """Only for a step back the guest gets the size from before the step."""
    assert ended_early(seen, reached, 900, 500, WEB, "balloon") == end
