"""``overcommitd`` on a fake host, with the world around it for faults to be thrown at."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from overcommit.control.one_controller import Control
from overcommit.control.status import Mode
from overcommit.daemon.acting import Acting
from overcommit.daemon.controller import Controller
from overcommit.daemon.event_log import EventLog
from overcommit.daemon.jobs import Ended
from overcommit.daemon.loop import Loop
from overcommit.daemon.mode_state import ModeState
from overcommit.daemon.notify import ServiceManager
from overcommit.daemon.policy_file import PolicyFile
from overcommit.daemon.report import sentence_of
from overcommit.errors import HostError
from overcommit.hypervisor.port import ListedDomain
from overcommit.model import events
from overcommit.model.facts import BalloonStats, Incarnation
from overcommit.model.log_event import LogEvent
from overcommit.model.moments import Wall
from overcommit.model.wake import Wake, WakeKind
from overcommit.policy import loader
from overcommit.records.journal import Generation, Journal
from overcommit.records.ledger import Ledger
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.testing.fake_wakes import FakeWakes
from overcommit.testing.policy_at_once import PolicyAtOnce
from overcommit.units import GIB, MIB
from overcommit.wire.clients import Document
from overcommit.wire.peers import Peer
from overcommit.wire.protocol import Reply, Request, Verb
from overcommit.wire.server import Order
from tests.faults.conftest import Installation, guests

POLICY = """
version: 1
host: {{reserve: {reserve}, pageout_actor: {actor}, swap: {{max_used: 60%, max_write: {write}}}}}
classes: {{all: {{floor: {floor}, cold_after: 20s}}}}
default_class: all
"""
FLOOR = 0.2


def policy_text(
    *, actor: str = "damos-fvaddr", reserve: str = "8%", floor: str = "20%", write: str = "50MiB/s"
) -> str:
    """A policy as its file has it."""
    return POLICY.format(actor=actor, reserve=reserve, floor=floor, write=write)


class Libvirt(FakeHypervisor):
    """One that can go down: ``down`` is what each call fails with then."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host)
        self.down: str | None = None

    def _find(self, uuid: str) -> FakeGuest:
        self._require()
        return super()._find(uuid)

    def domains(self) -> tuple[ListedDomain, ...]:
        """See `Hypervisor.domains`."""
        self._require()
        return super().domains()

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        """See `Hypervisor.balloon`."""
        self._require()
        return super().balloon(uuid, now=now)

    def _require(self) -> None:
        if self.down is not None:
            raise HostError(self.down)


class Dead(BaseException):
    """Nothing of a killed process runs any more."""


class Disk:
    """The journal's disk, of this process; ``full`` refuses every write, who is ``dead`` makes none."""

    wait: Callable[[float], None]
    """How one waits on the host of now where DAMON is locked."""

    def __init__(self) -> None:
        self.full = self.dead = False
        self._really = os.write
        self._really_discard = Journal.discard

    def write(self, descriptor: int, data: bytes) -> int:
        """As `os.write`."""
        if self.dead:
            raise Dead
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._really(descriptor, data)

    def discard(self, journal: Journal, generation: Generation) -> None:
        """As `Journal.discard`."""
        if self.dead:
            raise Dead
        self._really_discard(journal, generation)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the journal write to it; no power cut comes, so nothing needs to be flushed."""
        with (
            patch("overcommit.records.journal.os.write", self.write),
            patch("overcommit.records.journal.os.fsync", lambda _descriptor: None),
            patch.object(Journal, "discard", lambda journal, generation: self.discard(journal, generation)),
            patch("overcommit.damon.sysfs._wait", lambda seconds: Disk.wait(seconds)),
        ):
            yield


@dataclass
class Asked:
    """An order as its client sees it."""

    order: Order
    replies: list[Reply]

    @property
    def answer(self) -> dict[str, Any] | None:
        """The last line, once there is one."""
        return next((dict(reply.body) for reply in self.replies if reply.final), None)


def _made(document: Document) -> bytes:
    return document if isinstance(document, bytes) else document()


@dataclass
class Server:
    """What stands for the control socket."""

    waiting: list[Order] = field(default_factory=list)
    published: tuple[Document, Document | None, Document | None] = (b"{}", None, None)
    unserved: str | None = None

    @property
    def text(self) -> bytes:
        """The status document."""
        return _made(self.published[0])

    @property
    def plan(self) -> bytes | None:
        """The plan for those who may give orders."""
        plan = self.published[1]
        return None if plan is None else _made(plan)

    @property
    def sums(self) -> bytes | None:
        """The plan for all others."""
        sums = self.published[2]
        return None if sums is None else _made(sums)

    @property
    def status(self) -> dict[str, Any]:
        """What readers are told."""
        told: dict[str, Any] = json.loads(self.text)
        return told

    def orders(self) -> list[Order]:
        """See `overcommit.daemon.loop.Server.orders`."""
        taken, self.waiting = self.waiting, []
        return taken

    def publish(self, status: Document, plan: Document | None, sums: Document | None) -> None:
        """See `overcommit.daemon.loop.Server.publish`."""
        self.published = status, plan, sums

    def tend(self) -> str | None:
        """See `overcommit.daemon.loop.Server.tend`."""
        return self.unserved


class Daemon:
    """One run of ``overcommitd``, put together as its main module does."""

    alive: ClassVar[set[Daemon]] = set()

    def __init__(self, world: World, *, observe: bool, take_over: bool) -> None:
        clock = world.clock
        self.world = world
        self.events: list[LogEvent] = []
        self.log = EventLog(self._write, clock.monotonic)
        self.server = Server()
        self.wakes = FakeWakes(clock)
        self.control = Control(
            kernel=world.kernel,
            clock=clock,
            journal=Journal(world.directory),
            ledger=Ledger(
                world.directory, warn=lambda why: self.log.tell(events.history_fault(why)), repeats=True
            ),
            log=self.log,
        )
        self._ending = contextlib.ExitStack()
        self._ending.callback(self.log.close)
        generation = self._ending.enter_context(self.control.generation("daemon"))
        self.controller = Controller(
            self.control,
            world.libvirt,
            generation,
            PolicyFile(world.policy_path, PolicyAtOnce),
            mode_state=ModeState(observe_only=observe),
            take_over=take_over,
        )
        self.listen: Callable[[Ended], None] = lambda _ended: None
        self._tell(self.controller._acting)
        self._ending.callback(self.controller.close, "overcommitd is stopping")
        self.loop = Loop(
            self.control,
            self.controller,
            world.libvirt,
            self.wakes,
            self.server,
            ServiceManager(clock, {}),
        )
        self.alive.add(self)

    def _write(self, event: LogEvent) -> bool:
        self.events.append(event)
        return True

    @property
    def said(self) -> list[str]:
        """The sentences of its log."""
        return [event.sentence for event in self.events]

    def _tell(self, acting: Acting) -> None:
        """Have whoever listens know what ended at the moment it does."""
        really = acting._tell

        def tell(ended: Ended) -> None:
            self.listen(ended)
            really(ended)

        acting._tell = tell

    def run_for(self, seconds: float, each: Callable[[], None] | None = None) -> None:
        """Let it go round; ``each`` is called after every round."""
        end = self.world.clock.monotonic() + seconds
        while self.world.clock.monotonic() < end:
            assert self.loop.go_round()
            if each is not None:
                each()

    def order(self, verb: Verb, **arguments: Any) -> Asked:
        """Give an order; it is obeyed in the next round."""
        replies: list[Reply] = []
        peer = Peer(pid=1, uid=0, gids=frozenset({0}))
        order = Order(Request(verb=verb, arguments=arguments), peer, replies.append)
        self.server.waiting.append(order)
        self.wakes.poke()
        return Asked(order, replies)

    def wake(self, kind: WakeKind) -> None:
        """As an event of libvirt, a signal or a trigger does."""
        self.wakes.put(Wake(kind=kind))

    def stop(self) -> None:
        """As SIGTERM does."""
        self.wake(WakeKind.STOP)
        assert not self.loop.go_round()
        self._ending.close()
        self.alive.discard(self)

    def abandon(self) -> None:
        """What is left of a killed process: its lock is free. To be called while nothing can be written."""
        self.alive.discard(self)
        with contextlib.suppress(BaseException):
            self._ending.close()
        for job in self.controller._acting._jobs._jobs.values():
            with contextlib.suppress(BaseException):  # what is not closed now would be at any later time
                job.steps.close()
        self.control.journal.unlock()

    def mode(self) -> Mode:
        """What it is in now."""
        return self.controller.state.mode_state.mode(self.world.clock.monotonic())

    @property
    def sentence(self) -> str:
        """What it says of itself."""
        controller = self.controller
        now = self.world.clock.monotonic()
        return sentence_of(controller.state, controller.domain_states(), now)

    def has_said(self, part: str) -> bool:
        """Whether its log has it."""
        return any(part in sentence for sentence in self.said)

    def taken_from(self, guest: FakeGuest) -> int:
        """What of a guest is on record as taken by balloon and blocks."""
        return self.controller.state.past.taken_from(incarnation(guest))


class World:
    """A host, its libvirt, its disk and its policy; daemons come and go on it."""

    def __init__(
        self, directory: Path, text: str | None = None, *, inhabitants: list[FakeGuest] | None = None
    ) -> None:
        self.directory = directory / "state"
        self.policy_path = directory / "policy.yaml"
        self.policy_path.parent.mkdir(parents=True, exist_ok=True)
        self.policy_path.write_text(text or policy_text())
        self.host = FakeHost(guests() if inhabitants is None else inhabitants, total_bytes=2 * GIB)
        self.kernel = FakeKernel(self.host)
        self.clock = FakeClock(self.host)
        self.libvirt = Libvirt(self.host)
        Disk.wait = self.clock.wait

    def daemon(self, *, observe: bool = False, take_over: bool = False) -> Daemon:
        """Start one.

        Raises:
            OvercommitError: it refuses.
        """
        return Daemon(self, observe=observe, take_over=take_over)

    @property
    def verbs(self) -> Installation:
        """``overcommitctl`` on the same host."""
        return Installation(self.host, self.kernel, self.directory, loader.load(self.policy_path))

    def floor_broken(self) -> str | None:
        """Whom rule S1 was broken for: a guest asked, or held, below its floor."""
        for guest in self.host.guests:
            floor = FLOOR * guest.memory_bytes
            asked = guest.balloon_target_bytes + min(guest.plugged_bytes, guest.requested_bytes)
            if asked < floor:
                return f"{guest.name} was asked down to {asked // MIB} MiB"
        return None


def incarnation(guest: FakeGuest) -> Incarnation:
    """This life of it."""
    return Incarnation(uuid=guest.uuid, name=guest.name, pid=guest.pid, start_time=guest.start_time)
