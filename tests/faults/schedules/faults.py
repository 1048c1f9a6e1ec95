"""What befalls a host from outside: its guests, libvirt, the disk, the kernel, other tools, the clock."""

from __future__ import annotations

import random
from pathlib import Path

from overcommit.damon.sysfs import ROOT
from overcommit.model.facts import MIGRATION_AWAY
from overcommit.model.policy import PageoutActor
from overcommit.testing import Behaviour, FakeGuest
from overcommit.testing.fake_kdamond import refusal
from overcommit.units import MIB
from tests.faults.daemon import Disk, World, policy_text

_WRITES = ("50MiB/s", "2MiB/s")
_FILES = (
    *("/proc/meminfo", "/proc/vmstat", "/proc/swaps", "/memory.stat", "/memory.pressure"),
    *("/stat", "/smaps", "/pagemap"),
)
"""How the names of those end that may be unreadable for a while."""
_LIES = (0, 1, 1 << 40, (1 << 63) - 1)


class Outside:
    """A host by its seed, and all that may happen to it."""

    def __init__(self, chance: random.Random, directory: Path, disk: Disk) -> None:
        self.random = chance
        self.disk = disk
        self.actor = self.random.choice(list(PageoutActor)).value
        self.reserve = self.random.choice(["8%", "8%", "60%"])
        self.world = World(directory, policy_text(actor=self.actor, reserve=self.reserve), inhabitants=[])
        self.host = self.world.host
        self.host.step_seconds = 2.0
        self.next_number = 1
        for _ in range(self.random.randint(1, 4)):
            self.boots()
        self.busy_until = -1.0
        self.unreadable_until = -1.0
        self.failing = ""
        self.foreign = False

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
                balloon_model=self.random.choice(["virtio"] * 7 + ["none"]),
                shared=self.random.random() < 0.1,
            )
        )

    def somebody(self) -> FakeGuest | None:
        return self.random.choice(self.host.guests) if self.host.guests else None

    def comes(self) -> None:
        if len(self.host.guests) < 6:
            self.boots()

    def goes(self) -> None:
        if guest := self.somebody():
            self.host.guests.remove(guest)

    def restarts(self) -> None:
        if guest := self.somebody():
            guest.start_time += 1000
            if self.random.random() < 0.5:
                guest.pid += 100
            guest.swapped.clear()
            guest.demoted.clear()
            guest.resident = set(range(guest.memory_bytes // MIB))
            guest.start_over()

    def resets(self) -> None:
        """Only the guest starts anew, in the same process."""
        if guest := self.somebody():
            guest.reset()

    def is_saved_and_started(self) -> None:
        """It goes on in another process, as small as it was, and with what it carries."""
        if guest := self.somebody():
            guest.start_time += 1000
            guest.pid += 100
            guest.resident |= guest.swapped
            guest.swapped.clear()
            guest.demoted.clear()

    def pid_is_reused(self) -> None:
        if len(self.host.guests) > 1:
            gone, heir = self.random.sample(self.host.guests, 2)
            self.host.guests.remove(gone)
            heir.pid, heir.start_time = gone.pid, gone.start_time + 1
            heir.swapped.clear()
            heir.demoted.clear()
            heir.start_over()

    def behaves(self) -> None:
        if guest := self.somebody():
            guest.behaviour = self.random.choice([*Behaviour, Behaviour.OBEDIENT, Behaviour.OBEDIENT])

    def lies(self) -> None:
        """What it says of itself has nothing to do with what it is."""
        if guest := self.somebody():
            guest.says_usable_bytes = self.random.choice([None, *_LIES])

    def wakes_up(self) -> None:
        """It needs much of what it has, and waits for it."""
        if guest := self.somebody():
            share = self.random.choice([0.5, 1.0])
            guest.hot = set(range(round(share * guest.size_bytes / MIB)))
            guest.free -= guest.hot
            guest.resident |= guest.hot - guest.swapped
            guest.stalled_seconds += self.random.choice([0.0, 5.0])

    def falls_asleep(self) -> None:
        if guest := self.somebody():
            guest.hot = set(range(round(0.1 * guest.memory_bytes / MIB))) & guest.resident

    def is_paused(self) -> None:
        if guest := self.somebody():
            guest.paused = not guest.paused

    def migrates(self) -> None:
        if guest := self.somebody():
            guest.busy_with = None if guest.busy_with else MIGRATION_AWAY

    def libvirt(self) -> None:
        libvirt = self.world.libvirt
        libvirt.down = None if libvirt.down else "libvirt did not answer within 10 s"

    def disk_fills(self) -> None:
        self.disk.full = not self.disk.full

    def policy_changes(self) -> None:
        """Somebody edits the policy; the daemon sees it when it is told to."""
        write = self.random.choice(_WRITES)
        self.world.policy_path.write_text(policy_text(actor=self.actor, reserve=self.reserve, write=write))

    def swap(self) -> None:
        most = self.host.swap_total_bytes
        self.host.swap_of_others_bytes = self.random.choice([0, 0, most // 2, round(0.9 * most)])

    def sysfs_is_busy(self) -> None:
        self.busy_until = self.host.uptime + self.random.choice([5.0, 60.0])

    def unreadable(self) -> None:
        self.failing = self.random.choice(_FILES)
        self.unreadable_until = self.host.uptime + self.random.choice([5.0, 60.0, 400.0])

    def clock(self) -> None:
        self.world.clock.jump(self.random.choice([-86400.0, -120.0, 120.0, 7200.0]))

    def kdamond_ends(self) -> None:
        running = self.world.kernel.damon.running
        if running:
            del running[self.random.choice(sorted(running))]

    def foreign_tool(self) -> None:
        """Somebody takes DAMON, or leaves it."""
        damon = self.world.kernel.damon
        ours, self.host.on_write = self.host.on_write, lambda _path, _value: None
        try:
            if self.foreign:
                damon.running.clear()
                self.world.kernel.write(f"{ROOT}/nr_kdamonds", "0")
                self.foreign = False
            else:
                damon.running.clear()
                kernel, self.foreign = self.world.kernel, True
                kernel.write(f"{ROOT}/nr_kdamonds", "1")
                for path, value in (
                    ("0/contexts/nr_contexts", "1"),
                    ("0/contexts/0/operations", "paddr"),
                    ("0/contexts/0/targets/nr_targets", "1"),
                    ("0/state", "on"),
                ):
                    kernel.write(f"{ROOT}/{path}", value)
        except OSError:
            pass  # damon_stat was first
        finally:
            self.host.on_write = ours

    def module(self) -> None:
        modules = self.world.kernel.damon.modules
        if modules["damon_stat"]:
            modules["damon_stat"] = False
        elif not self.world.kernel.damon.running:
            modules["damon_stat"] = True

    def heals(self) -> None:
        """Everything is well again."""
        self.world.libvirt.down = None
        self.disk.full = False
        self.busy_until = self.unreadable_until = -1.0
        self.world.kernel.busy = 0
        self.host.swap_of_others_bytes = 0
        if self.foreign:
            self.foreign_tool()
        self.world.kernel.damon.modules["damon_stat"] = False
        for guest in self.host.guests:
            guest.paused, guest.busy_with, guest.behaviour = False, None, Behaviour.OBEDIENT
            guest.says_usable_bytes = None

    @property
    def unreadable_now(self) -> str | None:
        """How the names of the files end that cannot be read."""
        return self.failing if self.host.uptime < self.unreadable_until else None

    def before_access(self, path: str) -> None:
        """As the kernel does when DAMON is locked."""
        if path.startswith(ROOT) and self.host.uptime < self.busy_until:
            self.world.kernel.busy = max(self.world.kernel.busy, 1)

    def before_read(self, path: str) -> None:
        """As the kernel does when a file cannot be read.

        Raises:
            OSError: this is one of them.
        """
        if self.unreadable_now is not None and path.endswith(self.unreadable_now):
            raise refusal(5, path)
