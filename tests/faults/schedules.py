"""Random faults at random times on a host with a daemon: whatever comes, nobody is hurt (S1 to S12).

``python -m tests.faults.schedules --runs 10000 --seed 1`` plays as many, half an hour each.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overcommit.daemon.protocol import Verb
from overcommit.errors import OvercommitError
from overcommit.journal import BalloonMoved, GuestRecord, Journal, KdamondStarted, MemoryDeviceResized
from overcommit.model.action import KsmAction
from overcommit.model.policy import PageoutActor
from overcommit.model.wake import WakeKind
from overcommit.testing import Behaviour, FakeGuest
from overcommit.testing.fake_kdamond import refusal
from overcommit.units import MIB
from tests.faults.daemon import FLOOR, Daemon, Disk, World, policy_text

SECONDS = 1800.0
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where the ledger costs no disk its time."""
_ROOT = "/sys/kernel/mm/damon/admin/kdamonds"


class Broken(AssertionError):
    """A rule was broken."""


class Schedule:
    """One life of a host, by its seed."""

    def __init__(self, seed: int, directory: Path, disk: Disk) -> None:
        self.random = random.Random(seed)
        self.disk = disk
        actor = self.random.choice(list(PageoutActor)).value
        reserve = self.random.choice(["8%", "8%", "60%"])
        self.world = World(directory, policy_text(actor=actor, reserve=reserve), inhabitants=[])
        self.host = self.world.host
        self.journal = Journal(self.world.directory)
        self.host.step_seconds = 2.0
        self.next_number = 1
        for _ in range(self.random.randint(1, 4)):
            self.boots()
        self.found = self.world.verbs.baseline(guests=False)
        self.busy_until = -1.0
        self.unreadable_until = -1.0
        self.failing = ""
        self.foreign = False
        self.happened: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.held: dict[tuple[int, int], int] = {}
        self.daemon: Daemon | None = None
        self.host.on_write = self._on_write
        self.host.on_read = self._on_read

    # --- faults

    def boots(self) -> None:
        """A guest comes."""
        number, self.next_number = self.next_number, self.next_number + 1
        size = self.random.choice([64, 128, 256])
        hot = round(self.random.choice([0.0, 0.2, 0.5]) * size)
        free = round(self.random.choice([0.0, 0.2, 0.4]) * size)
        self.host.guests.append(
            FakeGuest(
                name=f"vm{number}",
                uuid=f"00000000-0000-0000-0000-{number:012d}",
                pid=500 + number,
                memory_bytes=size * MIB,
                device_bytes=self.random.choice([0, 0, size // 4 // 2 * 2]) * MIB,
                resident=set(range(size)),
                hot=set(range(hot)),
                free=set(range(size - free, size)),
                start_time=1000 + number,
            )
        )

    def _guest(self) -> FakeGuest | None:
        return self.random.choice(self.host.guests) if self.host.guests else None

    def _comes(self) -> None:
        if len(self.host.guests) < 6:
            self.boots()

    def _goes(self) -> None:
        if guest := self._guest():
            self.host.guests.remove(guest)

    def _restarts(self) -> None:
        if guest := self._guest():
            guest.start_time += 1000
            if self.random.random() < 0.5:
                guest.pid += 100
            guest.swapped.clear()
            guest.demoted.clear()
            guest.resident = set(range(guest.memory_bytes // MIB))
            guest.start_over()

    def _resets(self) -> None:
        """Only the guest starts anew, in the same process."""
        if guest := self._guest():
            guest.start_over()

    def _pid_is_reused(self) -> None:
        if len(self.host.guests) > 1:
            gone, heir = self.random.sample(self.host.guests, 2)
            self.host.guests.remove(gone)
            heir.pid, heir.start_time = gone.pid, gone.start_time + 1
            heir.swapped.clear()
            heir.demoted.clear()
            heir.start_over()

    def _behaves(self) -> None:
        if guest := self._guest():
            guest.behaviour = self.random.choice([*Behaviour, Behaviour.OBEDIENT, Behaviour.OBEDIENT])

    def _wakes_up(self) -> None:
        """It needs much of what it has, and waits for it."""
        if guest := self._guest():
            share = self.random.choice([0.5, 1.0])
            guest.hot = set(range(round(share * guest.size_bytes / MIB)))
            guest.free -= guest.hot
            guest.resident |= guest.hot - guest.swapped
            guest.stalled_seconds += self.random.choice([0.0, 5.0])

    def _falls_asleep(self) -> None:
        if guest := self._guest():
            guest.hot = set(range(round(0.1 * guest.memory_bytes / MIB))) & guest.resident

    def _is_paused(self) -> None:
        if guest := self._guest():
            guest.paused = not guest.paused

    def _migrates(self) -> None:
        if guest := self._guest():
            guest.busy_with = None if guest.busy_with else "a migration"

    def _libvirt(self) -> None:
        libvirt = self.world.libvirt
        libvirt.down = None if libvirt.down else "libvirt did not answer within 10 s"

    def _disk(self) -> None:
        self.disk.full = not self.disk.full

    def _swap(self) -> None:
        most = self.host.swap_total_bytes
        self.host.swap_of_others_bytes = self.random.choice([0, 0, most // 2, round(0.9 * most)])

    def _sysfs_is_busy(self) -> None:
        self.busy_until = self.host.uptime + self.random.choice([5.0, 60.0])

    def _unreadable(self) -> None:
        self.failing = self.random.choice(
            ["/proc/meminfo", "/proc/vmstat", "/proc/swaps", "/memory.stat", "/stat"]
        )
        self.unreadable_until = self.host.uptime + self.random.choice([5.0, 60.0, 400.0])

    def _clock(self) -> None:
        self.world.clock.jump(self.random.choice([-86400.0, -120.0, 120.0, 7200.0]))

    def _kdamond_ends(self) -> None:
        running = self.world.kernel.damon.running
        if running:
            del running[self.random.choice(sorted(running))]

    def _foreign_tool(self) -> None:
        """Somebody takes DAMON, or leaves it."""
        damon = self.world.kernel.damon
        self.host.on_write = lambda _path, _value: None
        try:
            if self.foreign:
                damon.running.clear()
                self.world.kernel.write(f"{_ROOT}/nr_kdamonds", "0")
                self.foreign = False
            else:
                damon.running.clear()
                kernel, self.foreign = self.world.kernel, True
                kernel.write(f"{_ROOT}/nr_kdamonds", "1")
                for path, value in (
                    ("0/contexts/nr_contexts", "1"),
                    ("0/contexts/0/operations", "paddr"),
                    ("0/contexts/0/targets/nr_targets", "1"),
                    ("0/state", "on"),
                ):
                    kernel.write(f"{_ROOT}/{path}", value)
        except OSError:
            pass  # damon_stat was first
        finally:
            self.host.on_write = self._on_write

    def _module(self) -> None:
        modules = self.world.kernel.damon.modules
        if modules["damon_stat"]:
            modules["damon_stat"] = False
        elif not self.world.kernel.damon.running:
            modules["damon_stat"] = True

    def _dies(self) -> None:
        """``kill -9``, and the service manager starts it again."""
        self._kill()

    def _stops(self) -> None:
        if self.daemon is not None:
            daemon, self.daemon = self.daemon, None
            try:
                daemon.stop()
            except OvercommitError:
                daemon.abandon()

    def _orders(self) -> None:
        if self.daemon is not None:
            verb, arguments = self.random.choice(ORDERS)
            self.daemon.order(verb, **arguments)

    def _event(self) -> None:
        if self.daemon is not None:
            ending = (WakeKind.STOP, WakeKind.WORKER_ENDED)
            self.daemon.wake(self.random.choice([kind for kind in WakeKind if kind not in ending]))

    def _kill(self) -> None:
        if self.daemon is not None:
            daemon, self.daemon = self.daemon, None
            self.dead = True
            try:
                daemon.abandon()
            finally:
                self.dead = False

    dead = False

    def _on_write(self, path: str, _value: str) -> None:
        if self.dead:
            raise Dead
        self._busy(path)
        self._require_record(path)

    def _on_read(self, path: str) -> None:
        if self.dead:
            raise Dead
        self._busy(path)
        if self.host.uptime < self.unreadable_until and path.endswith(self.failing):
            raise refusal(5, path)

    def _busy(self, path: str) -> None:
        if path.startswith(_ROOT) and self.host.uptime < self.busy_until:
            self.world.kernel.busy = max(self.world.kernel.busy, 1)

    # --- rules

    def _require_record(self, path: str) -> None:
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

    def check(self) -> None:
        """After every round."""
        assert self.daemon is not None
        if floor := self.world.floor_broken():
            raise Broken(f"S1: {floor}")
        for guest in self.host.guests:
            life = guest.pid, guest.start_time
            held = len(guest.resident) * MIB
            least = min(FLOOR * guest.memory_bytes, self.held.get(life, held))
            if held < least - MIB and guest.behaviour is not Behaviour.PHANTOM:
                raise Broken(f"S1: {guest.name} holds {held // MIB} MiB, below its floor")
            self.held[life] = held
        now = self.world.clock.monotonic()
        footing, acting = self.daemon.controller.footing, self.daemon.controller.acting
        taking = [
            action
            for action in acting.actions
            if not isinstance(action, KsmAction) and acting.takes_from(action.domain)
        ]
        if taking and not footing.may_take(now):
            raise Broken(f"S9: it takes in mode {footing.mode(now).value}")
        others = self.host.swap_of_others_bytes
        ours = self.host.swap_used_bytes - others
        if ours and others == 0 and ours > 0.6 * self.host.swap_total_bytes:
            raise Broken("S7: more in swap than the policy allows")

    # --- life

    def live(self, seconds: float = SECONDS) -> None:
        """From the first start to the last restore.

        Raises:
            Broken: a rule was broken.
            Exception: the daemon died of something that it should have lived through.
        """
        end = self.host.uptime + seconds
        try:
            while self.host.uptime < end:
                if self.daemon is None:
                    self._start()
                quiet = min(self.random.expovariate(1 / 60), end - self.host.uptime) + 0.01
                if self.daemon is None:
                    self.host.advance(quiet)
                else:
                    self.daemon.run_for(quiet, self.check)
                self._something()
            self._heal()
            self._recovers()
            self._end()
        finally:
            self.disk.full = False
            self._kill()

    def _start(self) -> None:
        try:
            self.daemon = self.world.daemon(take_over=self.random.random() < 0.5)
        except (OvercommitError, OSError):
            self.daemon = None

    def _something(self) -> None:
        fault = self.random.choice(FAULTS)
        name = fault.__name__.strip("_")
        self.kinds[name] += 1
        self.happened.append(f"{self.host.uptime:.0f}: {name}")
        fault(self)

    def _heal(self) -> None:
        """Everything outside is well again."""
        self.world.libvirt.down = None
        self.disk.full = False
        self.busy_until = self.unreadable_until = -1.0
        self.world.kernel.busy = 0
        self.host.swap_of_others_bytes = 0
        if self.foreign:
            self._foreign_tool()
        self.world.kernel.damon.modules["damon_stat"] = False
        for guest in self.host.guests:
            guest.paused, guest.busy_with, guest.behaviour = False, None, Behaviour.OBEDIENT

    def _recovers(self) -> None:
        """Without a restart, within minutes."""
        if self.daemon is None:
            self._start()
        if self.daemon is None:
            raise Broken("it does not start on a host that is well")
        self.daemon.run_for(150.0, self.check)
        if self.daemon.controller.footing.lost:
            raise Broken(f"it does not recover: {self.daemon.sentence}")
        damon = self.world.kernel.damon
        if self.host.guests and not damon.running:
            raise Broken("nobody is watched any more")

    def _end(self) -> None:
        assert self.daemon is not None
        self.daemon.stop()
        self.daemon = None
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


class Dead(BaseException):
    """Nothing of a killed process runs any more."""


ORDERS: list[tuple[Verb, dict[str, Any]]] = [
    (Verb.PAUSE, {"seconds": 120.0}),
    (Verb.PAUSE, {}),
    (Verb.RESUME, {}),
    (Verb.TICK, {}),
    (Verb.RELOAD, {}),
    (Verb.RESERVE, {"size_bytes": 1600 * MIB, "timeout_seconds": 60.0, "hold_seconds": 300.0}),
]
S = Schedule
FAULTS: list[Callable[[Schedule], None]] = [
    S._comes, S._goes, S._restarts, S._resets, S._pid_is_reused, S._behaves, S._behaves, S._wakes_up,
    S._wakes_up, S._falls_asleep, S._falls_asleep, S._is_paused, S._migrates, S._libvirt, S._libvirt, S._disk,
    S._disk, S._swap, S._sysfs_is_busy, S._unreadable, S._clock, S._kdamond_ends, S._foreign_tool,
    S._foreign_tool, S._module, S._dies, S._stops, S._orders, S._orders, S._event,
]  # fmt: skip


def play(seed: int) -> tuple[str | None, Schedule]:
    """Play one; what went wrong, None when nothing did."""
    disk = Disk()
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory, disk.in_place():
        schedule = Schedule(seed, Path(directory), disk)
        try:
            schedule.live()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})", schedule
    return None, schedule


def main() -> int:
    """Play many, and say what broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="say what happened, and raise what broke")
    options = parser.parse_args()
    began, broken = time.monotonic(), 0
    kinds: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + options.runs):
        wrong, schedule = play(seed)
        kinds += schedule.kinds
        if wrong is not None:
            broken += 1
            print(f"seed {seed}: {wrong}; last: {', '.join(schedule.happened[-3:])}", flush=True)
            if options.trace and schedule.daemon:
                print("\n".join(schedule.daemon.said[-30:]))
    seconds = time.monotonic() - began
    print(
        f"{options.runs} schedules in {seconds:.0f} s, {broken} broken; "
        f"{sum(kinds.values())} faults {dict(kinds)}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
