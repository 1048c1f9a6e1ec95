"""The safety rules (S1 to S12) that a schedule watches, as far as they can be seen from outside."""

from __future__ import annotations

from overcommit.daemon.jobs import Ended
from overcommit.model.action import BalloonAction, KsmAction, VirtioMemAction, kind_of
from overcommit.model.facts import Incarnation
from overcommit.model.outcome import Fault, Status
from overcommit.model.plan import Plan
from overcommit.model.policy import Actuator
from overcommit.plan.case import worthwhile
from overcommit.records.journal import BalloonMoved, GuestRecord, Journal, KdamondStarted, MemoryDeviceResized
from overcommit.units import MIB
from tests.faults.daemon import FLOOR, Daemon, World, incarnation
from tests.faults.schedules.broken import Broken
from tests.faults.schedules.plans import barred, judge_plan, takes

_QUARANTINE_SECONDS = 590.0
"""The shortest quarantine, less what passes until it is noted."""
_GRACE_SECONDS = 60.0
"""So long may it take that a guest which nobody may touch any more is let alone."""


class Rules:
    """What must hold on one host, whatever happens to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = world.host
        self.journal = Journal(world.directory)
        self.found = world.verbs.baseline(guests=False)
        self.swapped: dict[Incarnation, int] = {}
        self.peaks: dict[Incarnation, int] = {}
        self.barred: dict[Incarnation, tuple[float, int]] = {}
        self.quarantined: dict[tuple[Incarnation, Actuator], float] = {}
        self.ahead_seconds = 0.0
        self.plan: Plan | None = None

    def before_write(self, path: str, value: str) -> None:
        """What holds before each change of the kernel, of a balloon or of a device."""
        self._recorded(path)
        self._let_alone(path, value)

    def _recorded(self, path: str) -> None:
        """S3: what is changed is on record by then."""
        resizable, _, name = path.partition("/")
        kind = {"balloon": BalloonMoved, "device": MemoryDeviceResized}.get(resizable)
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

    def _let_alone(self, path: str, value: str) -> None:
        """S6: nothing is asked of a guest that was paused or busy for a while."""
        resizable, _, name = path.partition("/")
        for guest in self.host.guests:
            if resizable not in {"balloon", "device"} or guest.name != name or not barred(guest):
                continue
            has = guest.balloon_target_bytes if resizable == "balloon" else guest.requested_bytes
            since, _ = self.barred.get(incarnation(guest), (self.host.uptime, 0))
            if int(value) < has and self.host.uptime - since > _GRACE_SECONDS:
                raise Broken(f"S6: {resizable} of {name} goes down: {barred(guest)}")

    def ended(self, ended: Ended) -> None:
        """S5 and S6, at the moment an action ends: what it claims, and what becomes of who gave nothing."""
        action, outcome = ended.action, ended.outcome
        if outcome is None or isinstance(action, KsmAction):
            return
        if outcome.fault in {Fault.PHANTOM, Fault.STUCK}:
            self.quarantined[action.domain, kind_of(action)] = self.host.uptime + _QUARANTINE_SECONDS
        guest = next((g for g in self.host.guests if incarnation(g) == action.domain), None)
        held = len(guest.resident) * MIB if guest else 0
        gone = max(0, self.peaks.get(action.domain, 0) - held)
        if outcome.freed_bytes > gone:
            claimed = f"{outcome.freed_bytes // MIB} MiB of {action.domain.name}"
            raise Broken(f"S5: {claimed} are said to be freed, where {gone // MIB} MiB are gone")
        if guest and takes(action) and isinstance(action, BalloonAction | VirtioMemAction):
            excess = held - guest.size_bytes
            most = max(worthwhile(guest.memory_bytes), (excess + gone) // 2)
            if outcome.status is Status.DONE and excess > most:
                raise Broken(f"S6: {guest.name} gave, and the host still holds {excess // MIB} MiB of that")

    def after_round(self, daemon: Daemon, *, unreadable: str | None) -> None:
        """What holds after every round of a daemon; ``unreadable``: see `judge_plan`."""
        self._plan(daemon, unreadable)
        self._rests()
        self._peaks(daemon)
        self._floors()
        self._mode_state(daemon)
        self._swap()

    def _plan(self, daemon: Daemon, unreadable: str | None) -> None:
        """S2 and S6, by what is planned."""
        plan, self.plan = self.plan, daemon.controller.state.plan
        if self.host.clock_ahead_seconds != self.ahead_seconds:  # quarantines are by the clock on the wall
            self.ahead_seconds, self.quarantined = self.host.clock_ahead_seconds, {}
        if self.plan is not None and self.plan is not plan:
            for action in self.plan.runnable:
                if isinstance(action, KsmAction) or not takes(action):
                    continue
                if self.host.uptime < self.quarantined.get((action.domain, kind_of(action)), 0.0):
                    raise Broken(f"S6: {action.domain.name} is in quarantine, and is asked again")
            assert daemon.controller.state.snapshot is not None
            age = self.world.clock.now() - daemon.controller.state.snapshot.taken_at
            judge_plan(self.plan, self.host, resident=self.peaks, unreadable=unreadable, age_seconds=age)

    def _rests(self) -> None:
        """S6: no page-out goes on for long from a guest that was paused or busy."""
        before, self.barred = self.barred, {}
        for guest in self.host.guests:
            life, swapped = incarnation(guest), len(guest.swapped)
            if barred(guest):
                since, least = before.get(life, (self.host.uptime, swapped))
                if self.host.uptime - since > _GRACE_SECONDS and swapped > least:
                    raise Broken(f"S6: {guest.name} is paged out: {barred(guest)}")
                self.barred[life] = (since, swapped)

    def _peaks(self, daemon: Daemon) -> None:
        """The most that was resident of each guest since something is at work on it."""
        for guest in self.host.guests:
            life, held = incarnation(guest), len(guest.resident) * MIB
            at_work = daemon.controller._acting.of(life) is not None
            self.peaks[life] = max(held, self.peaks.get(life, 0)) if at_work else held

    def before_read(self, path: str) -> None:
        """What S5 needs: what is resident of a guest whenever somebody looks."""
        if path.endswith("/pagemap"):
            guest = self.host.guest(int(path.split("/")[2]))
            if guest is not None:
                life, held = incarnation(guest), len(guest.resident) * MIB
                self.peaks[life] = max(held, self.peaks.get(life, 0))

    def _floors(self) -> None:
        """S1, by what guests are asked, and by what page-outs leave of them in memory.

        What of a guest's memory it has free is resident or not, as it likes: that is no floor's affair.
        """
        if floor := self.world.floor_broken():
            raise Broken(f"S1: {floor}")
        for guest in self.host.guests:
            if guest.balloon_target_bytes > guest.ram.size or guest.requested_bytes > guest.device_bytes:
                raise Broken(f"S1: {guest.name} is given more than its ceiling")
            life, held, swapped = incarnation(guest), len(guest.resident) * MIB, len(guest.swapped)
            paged_out = swapped > self.swapped.get(life, swapped)
            if paged_out and held < FLOOR * guest.memory_bytes - MIB:
                raise Broken(f"S1: {guest.name} holds {held // MIB} MiB, below its floor")
            self.swapped[life] = swapped

    def _mode_state(self, daemon: Daemon) -> None:
        """S9: without what decisions stand on, nothing is taken."""
        now = self.world.clock.monotonic()
        mode_state, acting = daemon.controller.state.mode_state, daemon.controller._acting
        taking = [
            action
            for action in acting.actions
            if not isinstance(action, KsmAction) and acting.takes_from(action.domain)
        ]
        if taking and not mode_state.may_take(now):
            raise Broken(f"S9: it takes in mode {mode_state.mode(now).value}")

    def _swap(self) -> None:
        """S7: capacity."""
        others = self.host.swap_of_others_bytes
        ours = self.host.swap_used_bytes - others
        if ours and others == 0 and ours > 0.6 * self.host.swap_total_bytes:
            raise Broken("S7: more in swap than the policy allows")

    def recovered(self, daemon: Daemon) -> None:
        """S9: what was lost is found again without a restart, within minutes."""
        if daemon.controller.state.mode_state.lost:
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
            if guest.claim:
                raise Broken(f"S4: {guest.name} still carries {guest.claim}")
