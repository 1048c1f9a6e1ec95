"""What a guest writes into its own figures: bounded where it comes in."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from overcommit.errors import Implausible
from overcommit.hypervisor.guest_figures import (
    MEMORY_DEVICE,
    MOST_COUNTED,
    STATISTICS,
    checked_definition,
    implausible_gap,
    read_balloon,
)
from overcommit.model.blocks import VirtioMemDevice
from overcommit.model.facts import BalloonStats, Definition
from overcommit.model.moments import Wall
from overcommit.model.policy import Actuator
from overcommit.observe.facts import observe
from overcommit.plan.eligibility import judge
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import MIB

MOST = 128 * MIB
WRAPPED = 2**64 - ((0xFFFF_FFFF << 12) - MOST)
"""What QEMU makes of 0xffffffff in ``actual`` of a guest of that size."""
UUID = "00000000-0000-0000-0000-000000000009"


class Says(FakeHypervisor):
    """Of every guest the same figures."""

    def __init__(self, host: FakeHost, **figures: Any) -> None:
        super().__init__(host)
        self.figures = figures

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        return dataclasses.replace(super().balloon(uuid, now=now), **self.figures)


def host() -> FakeHost:
    return FakeHost([FakeGuest(name="liar", uuid=UUID, pid=509, memory_bytes=MOST, resident=set(range(100)))])


def said(**figures: int) -> BalloonStats:
    return read_balloon(Says(host(), **figures), UUID, now=Wall(0.0), most_bytes=MOST)


@pytest.mark.parametrize("actual", [WRAPPED, MOST + 1, -1, 2**63, 2**64 - 4096])
def test_a_balloon_size_that_cannot_be_is_refused(actual: int) -> None:
    with pytest.raises(Implausible, match="promised 128 MiB"):
        said(actual_bytes=actual)


@pytest.mark.parametrize("actual", [0, 1, MOST])
def test_a_balloon_size_that_can_be_is_taken(actual: int) -> None:
    assert said(actual_bytes=actual).actual_bytes == actual


@pytest.mark.parametrize("name", ["usable_bytes", "unused_bytes", "total_bytes", "cache_bytes"])
@pytest.mark.parametrize("value", [WRAPPED, MOST + 1, -4096])
def test_a_size_beyond_what_was_promised_is_none_and_named(name: str, value: int) -> None:
    stats = said(**{name: value})
    assert getattr(stats, name) is None
    assert len(stats.doubts) == 1
    gap = implausible_gap(stats, MOST)
    assert gap is not None
    assert gap.what == STATISTICS
    assert "promised 128 MiB" in gap.why


@pytest.mark.parametrize("name", ["swap_in_bytes", "swap_out_bytes", "major_faults"])
def test_a_counter_is_bounded_by_what_can_be_kept(name: str) -> None:
    assert getattr(said(**{name: MOST_COUNTED}), name) == MOST_COUNTED
    assert getattr(said(**{name: MOST_COUNTED + 1}), name) is None


def test_a_lying_guest_is_a_gap_of_that_guest_alone_and_nothing_is_taken_from_it() -> None:
    world = host()
    world.guests.append(
        FakeGuest(name="web", uuid="00000000-0000-0000-0000-000000000001", pid=501, memory_bytes=MOST,
                  resident=set(range(100)))
    )  # fmt: skip

    class OneLies(Says):
        def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
            true = FakeHypervisor.balloon(self, uuid, now=now)
            return super().balloon(uuid, now=now) if uuid == UUID else true

    for figures, what in (({"actual_bytes": WRAPPED}, "balloon"), ({"usable_bytes": WRAPPED}, STATISTICS)):
        snapshot = observe(FakeKernel(world), OneLies(world, **figures), FakeClock(world))
        liar, web = snapshot.domains
        assert [gap.what for gap in liar.gaps] == [what]
        assert web.gaps == ()
        verdict = judge(liar, snapshot.host, frozenset({Actuator.BALLOON}))[Actuator.BALLOON]
        assert not verdict.ok
        assert "promised 128 MiB" in verdict.reason
        assert judge(web, snapshot.host, frozenset({Actuator.BALLOON}))[Actuator.BALLOON].ok


def test_memory_devices_and_claims_are_within_the_maximum() -> None:
    definition = Definition(
        maximum_bytes=MOST,
        balloon_model="virtio",
        claim={"balloon": 2**70, "device ua-1": MIB},
        virtio_mem=(
            VirtioMemDevice(
                alias="ua-1",
                size_bytes=64 * MIB,
                block_bytes=2 * MIB,
                requested_bytes=2**64,
                current_bytes=2**65,
            ),
        ),
    )
    sane, gaps = checked_definition(definition)
    assert sane.plugged_bytes == 64 * MIB
    assert sane.virtio_mem[0].requested_bytes == 64 * MIB
    assert sane.claim == {"device ua-1": MIB}
    assert [gap.what for gap in gaps] == [MEMORY_DEVICE]
    assert checked_definition(sane) == (sane, ())
