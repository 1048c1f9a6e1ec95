"""A part of a domain's memory has one key: in the journal, in claims, in plans and when it is put back."""

from __future__ import annotations

import pytest

from overcommit.model.part import MemoryPart, parts_of
from overcommit.model.past import Left, Past
from overcommit.plan.vetoes import drifts
from overcommit.records.entries import BalloonMoved, MemoryDeviceResized, from_json, resized, to_json
from overcommit.units import GIB, MIB
from tests import scenarios

WEB = scenarios.domain(
    "web",
    size=3 * GIB,
    balloon=scenarios.guest_says(GIB, actual=2 * GIB, plugged=GIB),
    virtio_mem=(scenarios.memory_device("virtiomem0", GIB),),
)
BALLOON = MemoryPart(WEB.incarnation)
DEVICE = MemoryPart(WEB.incarnation, "virtiomem0")


@pytest.mark.parametrize(
    ("part", "kind", "what"),
    [(BALLOON, BalloonMoved, "balloon"), (DEVICE, MemoryDeviceResized, "device virtiomem0")],
)
def test_what_is_on_disk_is_of_the_same_part(part: MemoryPart, kind: type, what: str) -> None:
    record = resized(part, before_bytes=GIB, after_bytes=MIB)
    on_disk = to_json(record)
    again = from_json(on_disk)
    assert on_disk["kind"] == kind.__name__
    assert "part" not in on_disk
    assert isinstance(again, BalloonMoved | MemoryDeviceResized)
    assert (again, again.part, part.what) == (record, part, what)


def test_a_balloon_may_be_off_by_a_mebibyte_and_a_device_by_nothing() -> None:
    assert dict(parts_of(WEB)) == {BALLOON: 2 * GIB, DEVICE: GIB}

    def moved(off_bytes: int) -> list[tuple[str, int]]:
        left = tuple(
            Left(part=part, size_bytes=size + off_bytes, baseline_bytes=4 * GIB, generation=7)
            for part, size in parts_of(WEB)
        )
        return [(drift.what, drift.found_bytes) for drift in drifts(WEB, Past(left=left))]

    assert moved(0) == []
    assert moved(MIB) == [("size of device virtiomem0", GIB)]
    assert moved(2 * MIB) == [("balloon size", 2 * GIB), ("size of device virtiomem0", GIB)]
