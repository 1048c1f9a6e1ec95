"""The safety rules (S1 to S12) that a schedule watches, as far as they can be seen from outside."""

from __future__ import annotations

from overcommit.journal import BalloonMoved, GuestRecord, Journal, KdamondStarted, MemoryDeviceResized
from overcommit.model.action import KsmAction
from overcommit.testing import Behaviour
from overcommit.units import MIB
from tests.faults.daemon import FLOOR, Daemon, World


class Broken(AssertionError):
    """A rule was broken."""


class Rules:
    """What must hold on one host, whatever happens to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = world.host
        self.journal = Journal(world.directory)
        self.found = world.verbs.baseline(guests=False)
        self.held: dict[tuple[int, int], int] = {}

    def before_write(self, path: str) -> None:
        """S3: what is changed is on record by then."""
        lever, _, name = path.partition("/")
        kind = {"balloon": BalloonMoved, "device": MemoryDeviceResized}.get(lever)
        if kind is None and not path.endswith("/state"):
            return
        records = [entry.record for entry in self.journal.outstanding()]
        if kind is None:
            if not any(isinstance(r, KdamondStarted) for r in records):
                raise Broken("S3: a kdamond without a record")
        elif not any(
            isinstance(r, kind) and isinstance(r, GuestRecord) and r.domain.name == name for r in records
        ):
            raise Broken(f"S3: {path} without a record")

    def after_round(self, daemon: Daemon) -> None:
        """What holds after every round of a daemon."""
        self._floors()
        self._footing(daemon)
        self._swap()

    def _floors(self) -> None:
        """S1, by what guests are asked and by what they hold."""
        if floor := self.world.floor_broken():
            raise Broken(f"S1: {floor}")
        for guest in self.host.guests:
            life = guest.pid, guest.start_time
            held = len(guest.resident) * MIB
            least = min(FLOOR * guest.memory_bytes, self.held.get(life, held))
            if held < least - MIB and guest.behaviour is not Behaviour.PHANTOM:
                raise Broken(f"S1: {guest.name} holds {held // MIB} MiB, below its floor")
            self.held[life] = held

    def _footing(self, daemon: Daemon) -> None:
        """S9: without what decisions stand on, nothing is taken."""
        now = self.world.clock.monotonic()
        footing, acting = daemon.controller.footing, daemon.controller.acting
        taking = [
            action
            for action in acting.actions
            if not isinstance(action, KsmAction) and acting.takes_from(action.domain)
        ]
        if taking and not footing.may_take(now):
            raise Broken(f"S9: it takes in mode {footing.mode(now).value}")

    def _swap(self) -> None:
        """S7: capacity."""
        others = self.host.swap_of_others_bytes
        ours = self.host.swap_used_bytes - others
        if ours and others == 0 and ours > 0.6 * self.host.swap_total_bytes:
            raise Broken("S7: more in swap than the policy allows")

    def recovered(self, daemon: Daemon) -> None:
        """S9: what was lost is found again without a restart, within minutes."""
        if daemon.controller.footing.lost:
            raise Broken(f"it does not recover: {daemon.sentence}")
        if self.host.guests and not self.world.kernel.damon.running:
            raise Broken("nobody is watched any more")

    def restored(self) -> None:
        """S4 and S10: a restore on a host that is well brings everything back."""
        restored = self.world.verbs.restore()
        for _ in range(3):
            if not restored.left:
                break
            self.host.advance(60.0)
            restored = self.world.verbs.restore()
        if restored.left:
            raise Broken(f"S10: restore leaves {restored.left}")
        if self.world.verbs.outstanding:
            raise Broken("S10: entries are left in the journal")
        self.world.kernel.damon.modules["damon_stat"] = False  # it is on where we had turned it off
        if self.world.verbs.baseline(guests=False) != self.found:
            raise Broken("S4: DAMON is not as it was found")
        for guest in self.host.guests:
            if (guest.balloon_target_bytes, guest.requested_bytes) != (guest.ram.size, guest.device_bytes):
                raise Broken(f"S4: {guest.name} has not got its memory back")
