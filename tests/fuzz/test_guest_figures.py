"""Whatever a guest writes into its balloon device: no daemon ends by it, and no other guest pays for it."""

from __future__ import annotations

import collections
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from overcommit.model.facts import BalloonStats
from overcommit.model.moments import Wall
from overcommit.testing import FakeGuest, FakeHost
from overcommit.units import MIB
from tests.faults.daemon import FLOOR, Disk, Libvirt, World, policy_text

MEMORY = 128 * MIB
LIAR = "00000000-0000-0000-0000-000000000009"
EDGES = [0, 1, MEMORY - 1, MEMORY, MEMORY + 1, 2 * MEMORY, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64, 2**70]
FIGURE = st.one_of(
    st.sampled_from(EDGES),
    st.sampled_from(EDGES).map(lambda edge: 2**64 - edge),
    st.integers(-(2**64), 2**65),
    st.integers(0, MEMORY),
)
SIZES = ("usable_bytes", "unused_bytes", "total_bytes", "cache_bytes")
COUNTERS = ("swap_in_bytes", "swap_out_bytes", "major_faults")
SAID: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "actual_bytes": FIGURE,
        "age_seconds": st.sampled_from([None, 0.0, 1.0, 1e9]),
        **dict.fromkeys((*SIZES, *COUNTERS), FIGURE),
    },
)
LIES = st.lists(SAID, min_size=1, max_size=8)
WRAPPED = 2**64 - ((0xFFFF_FFFF << 12) - MEMORY)
"""What QEMU makes of 0xffffffff in ``actual``."""


class Lying(Libvirt):
    """One guest's figures are what it likes, another thing each time it is asked."""

    def __init__(self, host: FakeHost, lies: list[dict[str, Any]]) -> None:
        super().__init__(host)
        self.lies = collections.deque(lies)

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        """See `Hypervisor.balloon`."""
        true = super().balloon(uuid, now=now)
        if uuid != LIAR:
            return true
        self.lies.rotate(-1)
        return dataclasses.replace(true, **self.lies[-1])

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        """As libvirt: 0 < size <= max memory."""
        assert FLOOR * MEMORY <= size_bytes <= MEMORY
        super().set_balloon(uuid, size_bytes)


def guest(number: int) -> FakeGuest:
    return FakeGuest(
        name=f"g{number}",
        uuid=f"00000000-0000-0000-0000-00000000000{number}",
        pid=500 + number,
        memory_bytes=MEMORY,
        resident=set(range(100)),
        hot=set(range(10)),
        free=set(range(70, 100)),
    )


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(LIES)
@example([{"actual_bytes": WRAPPED, "usable_bytes": WRAPPED, "total_bytes": WRAPPED}])
@example([{}, {"actual_bytes": WRAPPED}])
@example([{}, {}, {}, {}, {"actual_bytes": 2**63}])
@example([{"usable_bytes": MEMORY, "unused_bytes": MEMORY}])
@example([{"swap_in_bytes": 0}, {"swap_in_bytes": 2**63 - 1, "major_faults": 2**64}])
def test_no_daemon_ends_by_a_guests_figures_and_no_other_guest_pays(lies: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        inhabitants = [guest(1), guest(9)]
        world = World(Path(directory), policy_text(actor="memcg-reclaim"), inhabitants=inhabitants)
        world.libvirt = Lying(world.host, lies)
        with Disk().in_place():
            daemon = world.daemon()
            daemon.run_for(200, each=lambda: _unbroken(world))
            status = daemon.server.status
            assert {domain["name"] for domain in status["domains"]} == {"g1", "g9"}
            assert not any(domain["faults"] for domain in status["domains"])
            served = next(domain for domain in status["domains"] if domain["name"] == "g1")
            assert served["reclaimed_bytes"] > 0
            assert all(len(str(number)) < 20 for number in _numbers(status))
            _one_history(world)
            daemon.stop()
            world.verbs.restore()
        assert [each.balloon_target_bytes for each in world.host.guests] == [MEMORY, MEMORY]


def _unbroken(world: World) -> None:
    assert world.floor_broken() is None


def _one_history(world: World) -> None:
    """None was set aside, for it could not be understood."""
    assert not list(world.directory.glob("history.db.broken*"))


def _numbers(document: object) -> list[int]:
    found: list[int] = []
    json.loads(json.dumps(document), parse_int=lambda digits: found.append(int(digits)))
    return found
