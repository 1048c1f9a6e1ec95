"""One life of a host with a daemon: half an hour, a fault a minute, and what must hold all the while."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from overcommit.errors import OvercommitError
from overcommit.model.wake import WakeKind
from overcommit.plan import document
from overcommit.units import MIB
from overcommit.wire.protocol import Verb
from tests.faults.daemon import Daemon, Dead, Disk
from tests.faults.schedules.broken import Broken
from tests.faults.schedules.commands import Kept, another_controller, apply_kept, tampered
from tests.faults.schedules.faults import Outside
from tests.faults.schedules.rules import Rules

SECONDS = 1800.0
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where the ledger costs no disk its time."""


class Life(Outside):
    """One, by its seed."""

    def __init__(self, seed: int, directory: Path, disk: Disk) -> None:
        super().__init__(random.Random(seed), directory, disk)
        self.rules = Rules(self.world)
        self.happened: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.daemon: Daemon | None = None
        self.latest: Daemon | None = None
        self.kept: Kept | None = None
        self.host.on_write = self._on_write
        self.host.on_read = self._on_read

    # --- what befalls the daemon

    def dies(self) -> None:
        """``kill -9``, and the service manager starts it again."""
        if self.daemon is not None:
            daemon, self.daemon = self.daemon, None
            self.disk.dead = True
            try:
                daemon.abandon()
            finally:
                self.disk.dead = False

    def stops(self) -> None:
        """As the service manager stops it."""
        if self.daemon is not None:
            daemon, self.daemon = self.daemon, None
            try:
                daemon.stop()
            except OvercommitError:
                daemon.abandon()

    def orders(self) -> None:
        """An order by the control socket."""
        if self.daemon is not None:
            verb, arguments = self.random.choice(ORDERS)
            self.daemon.order(verb, **arguments)

    def event(self) -> None:
        """Something wakes it."""
        if self.daemon is not None:
            ending = (WakeKind.STOP, WakeKind.WORKER_ENDED)
            self.daemon.wake(self.random.choice([kind for kind in WakeKind if kind not in ending]))

    def another_controller(self) -> None:
        """Somebody else would be one."""
        if self.daemon is not None:
            another_controller(self.world, self.random)

    def keeps_a_plan(self) -> None:
        """Somebody puts a plan aside: the daemon's, or one of their own."""
        if self.daemon is not None:
            if self.daemon.server.plan is not None:
                in_force = self.daemon.controller.state.policy.digest
                self.kept = Kept(text=self.daemon.server.plan.decode(), policy=in_force)
            return
        with contextlib.suppress(OvercommitError, OSError):
            policy = self.world.verbs.policy.digest
            self.kept = Kept(text=document.dumps(self.world.verbs.plan()), policy=policy)

    def applies_a_plan(self) -> None:
        """Somebody stops the daemon, and has the plan applied that was put aside; or what they made of it."""
        self.stops()
        if self.random.random() < 0.5:
            self.keeps_a_plan()
        if self.kept is None:
            return
        edited = self.random.random() < 0.25
        kept, self.kept = self.kept, None
        if edited:
            kept = dataclasses.replace(kept, text=tampered(kept.text, self.random))
        if apply_kept(self.world, kept, edited=edited):
            self.kinds["a plan applied"] += 1

    def _on_write(self, path: str, value: str) -> None:
        if self.disk.dead:
            raise Dead
        self.before_access(path)
        self.rules.before_write(path, value)

    def _on_read(self, path: str) -> None:
        if self.disk.dead:
            raise Dead
        self.before_access(path)
        self.before_read(path)
        self.rules.before_read(path)

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
                    self._run(self.daemon, quiet)
                self._something()
            self.heals()
            self._recovers()
        finally:
            self.disk.full = False
            self.dies()

    @property
    def said(self) -> list[str]:
        """What the latest daemon said."""
        return self.latest.said if self.latest else []

    def _start(self) -> None:
        try:
            self.daemon = self.latest = self.world.daemon(take_over=self.random.random() < 0.5)
            self.daemon.listen = self.rules.ended
        except (OvercommitError, OSError):
            self.daemon = None

    def _run(self, daemon: Daemon, seconds: float) -> None:
        daemon.run_for(seconds, lambda: self.rules.after_round(daemon, unreadable=self.unreadable_now))

    def _something(self) -> None:
        fault = self.random.choice(FAULTS)
        self.kinds[fault.__name__] += 1
        self.happened.append(f"{self.host.uptime:.0f}: {fault.__name__}")
        fault(self)

    def _recovers(self) -> None:
        """On a host that is well: without a restart, and then from all that was done."""
        if self.daemon is None:
            self._start()
        if self.daemon is None:
            raise Broken("it does not start on a host that is well")
        self.world.kernel.damon.modules["damon_stat"] = False  # what one that died had turned off is on again
        self._run(self.daemon, 150.0)
        self.rules.recovered(self.daemon)
        self.daemon.stop()
        self.daemon = None
        self.rules.restored()


ORDERS: list[tuple[Verb, dict[str, Any]]] = [
    (Verb.PAUSE, {"seconds": 120.0}),
    (Verb.PAUSE, {}),
    (Verb.RESUME, {}),
    (Verb.TICK, {}),
    (Verb.CANCEL, {"id": 1}),
    (Verb.RELEASE, {"domain": "cold"}),
    (Verb.RESERVE, {"size_bytes": 1600 * MIB, "timeout_seconds": 60.0, "hold_seconds": 300.0}),
]
L = Life
FAULTS: list[Callable[[Life], None]] = [
    L.comes, L.goes, L.restarts, L.resets, L.is_saved_and_started, L.pid_is_reused, L.behaves, L.behaves,
    L.wakes_up, L.wakes_up,
    L.falls_asleep, L.falls_asleep, L.is_paused, L.migrates, L.lies, L.lies, L.libvirt, L.libvirt,
    L.disk_fills, L.disk_fills, L.swap, L.sysfs_is_busy, L.unreadable, L.unreadable, L.unreadable, L.clock,
    L.kdamond_ends, L.foreign_tool, L.foreign_tool, L.module, L.policy_changes, L.dies, L.stops, L.orders,
    L.orders, L.event, L.another_controller, L.keeps_a_plan, L.applies_a_plan,
]  # fmt: skip


def play(seed: int) -> tuple[str | None, Life]:
    """Play one; what went wrong, None when nothing did."""
    disk = Disk()
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory, disk.in_place():
        life = Life(seed, Path(directory), disk)
        try:
            life.live()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})", life
    return None, life


class Played(NamedTuple):
    """What came of a schedule, for those who count."""

    seed: int
    wrong: str | None
    happened: list[str]
    said: list[str]
    kinds: Counter[str]


def played(seed: int) -> Played:
    """Play one, here or in another process: a function of a ``__main__`` cannot be sent to one."""
    wrong, life = play(seed)
    return Played(seed, wrong, life.happened, life.said[-30:], life.kinds)
