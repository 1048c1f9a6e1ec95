"""A whole host with the real program on it, and faults to throw at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from overcommit.apply.restore import Restored, restore
from overcommit.cli.console import MessageConsole
from overcommit.cli.session import Session
from overcommit.control.applying import do
from overcommit.control.operation import Operation
from overcommit.control.planning import Scope, plan_now
from overcommit.host.memory import read_boot_id
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.action import Action
from overcommit.model.outcome import Outcome, Report
from overcommit.model.past import Past
from overcommit.model.plan import Plan
from overcommit.model.policy import PageoutActor, Policy
from overcommit.policy import loader
from overcommit.records.journal import Generation, Journal
from overcommit.records.ledger import Ledger
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.testing.sentence_log import SentenceLog
from overcommit.units import GIB, MIB

if TYPE_CHECKING:
    from tests.faults.daemon import Disk

POLICY = """
version: 1
host: {{reserve: 8%, pageout_actor: {actor}, swap: {{max_used: 60%, max_write: 50MiB/s}}}}
classes: {{all: {{floor: 20%, cold_after: 20s}}}}
default_class: all
"""


@dataclass
class Listening:
    """Keeps each action's end."""

    outcomes: list[Outcome]

    def started(self, action: Action) -> None:
        """Nobody looks on."""

    def progress(self, action: Action, sentence: str) -> None:
        """Nobody looks on."""

    def finished(self, outcome: Outcome) -> None:
        """Known as soon as it is over, also to who is killed next."""
        self.outcomes.append(outcome)


@dataclass
class Installation:
    """The program on a fake host; each call builds its objects anew, as each command does."""

    host: FakeHost
    kernel: FakeKernel
    directory: Path
    policy: Policy
    warnings: list[str] = field(default_factory=list)

    def session(self) -> Session:
        """What a command starts with."""
        return Session(
            connect_uri="fake",
            policy_path=None,
            json=False,
            console=MessageConsole(quiet=True),
            kernel=self.kernel,
            clock=FakeClock(self.host),
            journal=Journal(self.directory),
            ledger=Ledger(self.directory, warn=self.warnings.append),
            log=SentenceLog(self.warnings.append),
        )

    def plan(self, *, take_over: bool = True) -> Plan:
        """``overcommitctl plan``."""
        session = self.session()
        with session.generation("plan") as generation:
            return plan_now(
                self.operation(session, generation, take_over=take_over), Scope(), MessageConsole(quiet=True)
            )

    def operation(
        self,
        session: Session,
        generation: Generation,
        *,
        take_over: bool,
        hypervisor: Hypervisor | None = None,
    ) -> Operation:
        """What the use cases work with."""
        return Operation(
            control=session,
            hypervisor=hypervisor or FakeHypervisor(self.host),
            generation=generation,
            policy=self.policy,
            take_over=take_over,
        )

    def apply(self, plan: Plan, outcomes: list[Outcome] | None = None, *, take_over: bool = True) -> Report:
        """``overcommitctl apply FILE``; each end goes to ``outcomes`` as soon as it is known."""
        session = self.session()
        with session.generation("apply") as generation:
            operation = self.operation(session, generation, take_over=take_over)
            report = do(operation, plan, Listening([] if outcomes is None else outcomes))
            if report.failure is not None:
                raise report.failure
            return report

    def restore(self, *, since: int = 0) -> Restored:
        """``overcommitctl restore``."""
        return restore(
            self.kernel,
            Journal(self.directory),
            FakeClock(self.host),
            lambda: FakeHypervisor(self.host),
            since=since,
            progress=lambda _: None,
        )

    def past(self) -> Past:
        """What the next plan would know of it."""
        session = self.session()
        return session.past(session.clock.now())

    def left_at(self, name: str) -> int | None:
        """Where the journal says that a balloon was left."""
        return next((b.size_bytes for b in self.past().balloons if b.domain.name == name), None)

    def baseline(self, *, guests: bool = True) -> object:
        """All that restore must bring back, to the byte; no balloons where ``guests`` come and go."""
        damon = self.kernel.damon
        balloons = {
            g.name: (
                g.balloon_bytes,
                g.balloon_target_bytes,
                g.plugged_bytes,
                g.requested_bytes,
                dict(g.claim),
            )
            for g in self.host.guests
        }
        return (
            repr(damon.tree),
            sorted(self.kernel.trace.instances),
            sorted(damon.running),
            dict(damon.modules),
            dict(self.kernel.ksm.settings),
            balloons if guests else None,
        )

    @property
    def first_of_pageout(self) -> str:
        """What is written first when page-out begins."""
        return "on" if self.policy.pageout_actor is PageoutActor.DAMOS_FVADDR else "COLD"

    @property
    def outstanding(self) -> int:
        """Entries of the journal that are not settled."""
        return len(Journal(self.directory).outstanding())

    @property
    def boot_id(self) -> str:
        """This boot."""
        return read_boot_id(self.kernel)


class Killed(BaseException):
    """SIGKILL: nothing of ours runs any more, no ``finally`` either."""


class Killer:
    """Counts the writes of the program, to the kernel, to guests and to its journal, and kills it at one.

    ``count`` is how many there were since it was aimed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fatal: int | None = None
        self._after = False
        self.count = 0
        self._dead = False
        really_write = os.write

        def write(descriptor: int, data: bytes) -> int:
            self._before()
            written = really_write(descriptor, data)
            self._done()
            return written

        monkeypatch.setattr("overcommit.records.journal.os.write", write)
        monkeypatch.setattr("overcommit.records.journal.Journal.discard", self._discard)

    def aim(self, host: FakeHost, write: int, *, after: bool) -> None:
        """Kill the program on this host before or after its ``write``-th write from now."""
        host.on_write = lambda _path, _value: self._before()
        host.after_write = lambda _path, _value: self._done()
        self._fatal, self._after, self.count, self._dead = write, after, 0, False

    def aim_at(self, host: FakeHost, value: str) -> None:
        """Kill the program right after it first wrote this value to the kernel."""
        self.aim(host, 0, after=True)

        def done(_path: str, written: str) -> None:
            if written == value:
                host.after_write = lambda _path, _value: None
                self._dead = True
                raise Killed

        host.after_write = done

    def revive(self) -> None:
        """A new process can write again."""
        self._fatal, self._dead = None, False

    def _before(self) -> None:
        self.count += 1
        if self._dead or (self.count == self._fatal and not self._after):
            self._dead = True
            raise Killed

    def _done(self) -> None:
        if self.count == self._fatal:
            self._dead = True
            raise Killed

    def _discard(self, generation: Generation) -> None:
        if not self._dead:
            generation.path.unlink()


def guests() -> list[FakeGuest]:
    """One that holds cold memory, one that has freed most of its memory."""
    return [
        FakeGuest(
            name="cold",
            uuid="00000000-0000-0000-0000-000000000001",
            pid=501,
            memory_bytes=128 * MIB,
            resident=set(range(100)),
            hot=set(range(16)),
        ),
        FakeGuest(
            name="free",
            uuid="00000000-0000-0000-0000-000000000002",
            pid=502,
            memory_bytes=128 * MIB,
            resident=set(range(100)),
            hot=set(range(8)),
            free=set(range(25, 100)),
        ),
    ]


ACTORS = ("damos-fvaddr", "cold-hint+reclaim")


def install(directory: Path, actor: str) -> Installation:
    """A host with two guests, on which damon_stat runs."""
    host = FakeHost(guests(), total_bytes=2 * GIB)
    kernel = FakeKernel(host)
    kernel.damon.modules["damon_stat"] = True
    return Installation(host, kernel, directory, loader.parse(POLICY.format(actor=actor), "policy.yaml"))


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses nothing that it wrote; only a power cut would, and none comes here."""
    monkeypatch.setattr("overcommit.records.journal.os.fsync", lambda _descriptor: None)


@pytest.fixture(autouse=True)
def nothing_lives_on() -> Iterator[None]:
    """A daemon that a test leaves at work is ended with it: the collector would, amid another test's kill."""
    from tests.faults.daemon import Daemon

    yield
    for daemon in list(Daemon.alive):
        daemon.abandon()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The journal's, in place."""
    from tests.faults.daemon import Disk

    disk = Disk()
    with disk.in_place():
        yield disk


@pytest.fixture(params=ACTORS)
def actor(request: pytest.FixtureRequest) -> str:
    """Who pages out."""
    name: str = request.param
    return name


@pytest.fixture
def installation(tmp_path: Path, actor: str) -> Installation:
    """A host of its own for each test."""
    return install(tmp_path / "state", actor)


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Aimed at nothing yet."""
    return Killer(monkeypatch)
