"""A host on which guests come, go, reboot, refuse and lie, while operators plan, apply and restore.

Each command is the real program on a fake host. ``HYPOTHESIS_PROFILE=search`` lives longer.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from overcommit.errors import OvercommitError
from overcommit.testing import Behaviour, FakeGuest
from overcommit.units import MIB
from tests.faults.conftest import install

FLOOR = 0.2
"""Of the policy's only class."""
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "search"
SIZES = st.sampled_from([256, 512])
DEVICES = st.sampled_from([0, 0, 64, 128])
"""Of that, in a virtio-mem device."""
SHARES = st.sampled_from([0.0, 0.3, 0.6])


class LifeOfAHost(RuleBasedStateMachine):
    """Whatever happens: no guest below its floor, nothing of ours at work between commands, all undone."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.site = install(Path(self._directory.name) / "state", "cold-hint+reclaim")
        self.host = self.site.host
        self.host.guests.clear()
        self._next = 1
        self._untouched = {}  # type: dict[int, tuple[int, int]]
        self._baseline = self.site.baseline(guests=False)

    def teardown(self) -> None:
        """End as an operator would."""
        self.restores()
        self._directory.cleanup()

    @precondition(lambda self: len(self.host.guests) < 4)
    @rule(size=SIZES, device=DEVICES, hot=SHARES, free=SHARES, behaviour=st.sampled_from(Behaviour))
    def boots(self, size: int, device: int, hot: float, free: float, behaviour: Behaviour) -> None:
        """A guest comes; what is neither hot nor free is cold."""
        number, self._next = self._next, self._next + 1
        free = min(free, 0.9 - hot)
        self.host.guests.append(
            FakeGuest(
                name=f"vm {number}",
                uuid=f"00000000-0000-0000-0000-{number:012d}",
                pid=100 + number,
                memory_bytes=size * MIB,
                device_bytes=device * MIB,
                resident=set(range(size)),
                hot=set(range(round(hot * size))),
                free=set(range(size - round(free * size), size)),
                start_time=1000 + number,
                behaviour=behaviour,
            )
        )

    @precondition(lambda self: self.host.guests)
    @rule(which=st.integers(0, 3))
    def goes(self, which: int) -> None:
        """Destroyed: the process is gone."""
        del self.host.guests[which % len(self.host.guests)]

    @precondition(lambda self: self.host.guests)
    @rule(which=st.integers(0, 3))
    def reboots(self, which: int) -> None:
        """Power-cycled: another life with another process, all its memory touched again."""
        guest = self.host.guests[which % len(self.host.guests)]
        guest.pid, guest.start_time = guest.pid + 100, guest.start_time + 100
        guest.swapped.clear()
        guest.demoted.clear()
        guest.resident = set(range(guest.memory_bytes // MIB))
        guest.start_over()

    @precondition(lambda self: self.host.guests)
    @rule(which=st.integers(0, 3), behaviour=st.sampled_from(Behaviour), hot=SHARES)
    def changes(self, which: int, behaviour: Behaviour, hot: float) -> None:
        """It behaves otherwise from now on, and uses other memory: what of it was away is read back."""
        guest = self.host.guests[which % len(self.host.guests)]
        guest.behaviour = behaviour
        size = guest.size_bytes // MIB
        guest.hot = (guest.resident | guest.swapped) & set(range(round(hot * size)))
        guest.free -= guest.hot
        self.host.advance(1.0)

    @precondition(lambda self: self.host.guests)
    @rule(which=st.integers(0, 3), paused=st.booleans())
    def is_paused_or_resumed(self, which: int, paused: bool) -> None:
        """By an operator."""
        self.host.guests[which % len(self.host.guests)].paused = paused

    @precondition(lambda self: self.host.guests)
    @rule()
    def is_planned_and_applied(self) -> None:
        """Both commands; a refusal is an answer, and must leave everything as it was."""
        held = {g.pid: len(g.resident) for g in self.host.guests}
        sizes = self.sizes()
        try:
            self.site.apply(self.site.plan())
        except OvercommitError:
            assert sizes == self.sizes()
        for guest in self.host.guests:
            floor = FLOOR * guest.memory_bytes
            balloon, _, plugged, _ = sizes[guest.pid]
            asked = guest.balloon_target_bytes + min(guest.plugged_bytes, guest.requested_bytes)
            assert asked >= min(floor, balloon + plugged), "S1: the guest was asked below the floor"
            if guest.behaviour is not Behaviour.PHANTOM:
                assert len(guest.resident) * MIB >= min(floor, held[guest.pid] * MIB), (
                    "S1: resident below the floor"
                )
        others = self.host.swap_used_bytes
        assert others <= 0.6 * self.host.swap_total_bytes, "S7: more swap used than the policy allows"

    @rule()
    def restores(self) -> None:
        """Until nothing is left; a guest that cannot be asked now is asked when it answers again."""
        for guest in self.host.guests:
            guest.paused = False
            if guest.behaviour in {Behaviour.HUNG, Behaviour.REFUSING, Behaviour.STUCK}:
                guest.behaviour = Behaviour.OBEDIENT
        restored = self.site.restore()
        assert restored.left == ()
        assert self.site.outstanding == 0
        for guest in self.host.guests:
            assert (guest.balloon_target_bytes, guest.requested_bytes) == (guest.ram.size, guest.device_bytes)

    def sizes(self) -> dict[int, tuple[int, int, int, int]]:
        """What each guest has, and what it was asked to have, by its balloon and its device."""
        return {
            g.pid: (g.balloon_bytes, g.balloon_target_bytes, g.plugged_bytes, g.requested_bytes)
            for g in self.host.guests
        }

    @invariant()
    def nothing_of_ours_is_at_work(self) -> None:
        """DAMON as it was found, between any two commands."""
        assert self.site.baseline(guests=False) == self._baseline


LifeOfAHost.TestCase.settings = settings(
    max_examples=200 if LONG else 5,
    stateful_step_count=30 if LONG else 12,
    derandomize=not LONG,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestLifeOfAHost = LifeOfAHost.TestCase
