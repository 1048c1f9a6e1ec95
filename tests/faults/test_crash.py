"""Killing the program at any write leaves a host that restore fully repairs (rules S3, S4, S10)."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from overcommit.journal import Generation
from overcommit.model.outcome import Status
from overcommit.testing import Behaviour, FakeHost
from tests.faults.conftest import Installation, install

MIB = 1 << 20


class Killed(BaseException):
    """SIGKILL: nothing of ours runs any more, no ``finally`` either."""


class Killer:
    """Counts the writes of the program, to the kernel, to guests and to its journal, and kills it at one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fatal: int | None = None
        self._after = False
        self._count = 0
        self._dead = False
        really_write = os.write

        def write(descriptor: int, data: bytes) -> int:
            self._before()
            written = really_write(descriptor, data)
            self._done()
            return written

        monkeypatch.setattr("overcommit.journal.os.write", write)
        monkeypatch.setattr("overcommit.journal.Journal.discard", self._discard)

    def aim(self, host: FakeHost, write: int, *, after: bool) -> None:
        """Kill the program on this host before or after its ``write``-th write from now."""
        host.on_write = lambda _path, _value: self._before()
        host.after_write = lambda _path, _value: self._done()
        self._fatal, self._after, self._count, self._dead = write, after, 0, False

    def revive(self) -> None:
        """A new process can write again."""
        self._fatal, self._dead = None, False

    def _before(self) -> None:
        self._count += 1
        if self._dead or (self._count == self._fatal and not self._after):
            self._dead = True
            raise Killed

    def _done(self) -> None:
        if self._count == self._fatal:
            self._dead = True
            raise Killed

    def _discard(self, generation: Generation) -> None:
        if not self._dead:
            generation.path.unlink()


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Aimed at nothing yet."""
    return Killer(monkeypatch)


def test_the_whole_job_on_the_fakes(installation: Installation) -> None:
    """What the crash tests interrupt really works when nobody interrupts it."""
    found = installation.baseline()
    plan = installation.plan()
    assert installation.baseline() == found
    report = installation.apply(plan)
    assert {(o.action.domain.name, o.status) for o in report.outcomes} == {
        ("cold", Status.DONE),
        ("free", Status.DONE),
    }
    assert report.freed_bytes >= 110 * MIB
    assert installation.baseline() != found
    installation.restore()
    assert installation.baseline() == found
    assert installation.outstanding == 0


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_restore_brings_the_baseline_back(
    tmp_path: Path, killer: Killer, after: bool
) -> None:
    """For each k: die at the k-th write of plan and apply, restore, compare byte for byte, restore again."""
    for write in itertools.count(1):
        installation = install(tmp_path / str(write))
        found = installation.baseline()
        killer.aim(installation.host, write, after=after)
        try:
            installation.apply(installation.plan())
        except Killed:
            survived = False
        else:
            survived = True
        killer.revive()
        result = installation.restore()
        assert result.left == ()
        assert installation.baseline() == found, f"killed {'after' if after else 'before'} write {write}"
        assert installation.restore().done == ()
        assert installation.outstanding == 0
        if survived:
            assert write > 100, "the job has fewer writes than it had"
            return


def test_the_next_command_cleans_up_after_a_killed_one(installation: Installation, killer: Killer) -> None:
    """Without restore: plan stops the dead one's kdamonds, and works."""
    found = installation.baseline()
    killer.aim(installation.host, 100, after=True)
    with pytest.raises(Killed):
        installation.plan()
    killer.revive()
    assert installation.kernel.damon.running
    assert installation.plan().runnable
    assert installation.baseline() == found


def test_a_staged_configuration_of_another_tool_comes_back_to_the_byte(installation: Installation) -> None:
    """Somebody's two idle slots are moved aside with --take-over and put back."""
    kernel = installation.kernel
    root = "/sys/kernel/mm/damon/admin/kdamonds"
    for path, value in (
        ("nr_kdamonds", "2"),
        ("1/contexts/nr_contexts", "1"),
        ("1/contexts/0/operations", "paddr"),
        ("1/contexts/0/schemes/nr_schemes", "1"),
        ("1/contexts/0/schemes/0/quotas/bytes", "4096"),
    ):
        kernel.write(f"{root}/{path}", value)
    found = installation.baseline()
    installation.plan()
    assert installation.baseline() == found


def test_ebusy_now_and_then_changes_nothing(installation: Installation) -> None:
    """Somebody else is inside a DAMON command again and again."""
    original = installation.kernel.damon.write
    calls = itertools.count()

    def busy_at_times(path: str, value: str) -> None:
        if next(calls) % 50 == 0:
            installation.kernel.busy = 1
        original(path, value)

    installation.kernel.damon.write = busy_at_times  # type: ignore[method-assign]
    assert installation.apply(installation.plan()).complete


@pytest.mark.parametrize(
    ("behaviour", "status", "says"),
    [
        (Behaviour.STUCK, Status.PARTIAL, "stands still"),
        (Behaviour.PHANTOM, Status.UNDONE, "given back"),
        (Behaviour.HUNG, Status.FAILED, "did not answer"),
    ],
)
def test_a_guest_that_does_not_cooperate_is_named_and_harms_nobody(
    installation: Installation, behaviour: Behaviour, status: Status, says: str
) -> None:
    """The other guest's action is carried out all the same."""
    plan = installation.plan()
    free = installation.host.guests[1]
    balloon = next(a for a in plan.actions if a.domain.name == "free")
    free.behaviour = behaviour
    if behaviour is Behaviour.HUNG:  # it hangs after the plan was found fresh
        free.behaviour = Behaviour.OBEDIENT
        installation.host.on_write = lambda path, _value: (
            setattr(free, "behaviour", behaviour) if path == "balloon/free" else None
        )
    report = installation.apply(plan)
    outcome = next(o for o in report.outcomes if o.action == balloon)
    assert (outcome.status, says in outcome.detail) == (status, True), outcome.detail
    other = next(o for o in report.outcomes if o.action.domain.name == "cold")
    assert other.status is Status.DONE
    if behaviour is Behaviour.PHANTOM:
        assert free.balloon_target_bytes == free.memory_bytes


def test_a_full_swap_ends_a_page_out_in_part(installation: Installation) -> None:
    """What found no room is reported as not freed."""
    plan = installation.plan()
    installation.host.swap_total_bytes = 20 * MIB
    report = installation.apply(plan)
    outcome = next(o for o in report.outcomes if o.action.domain.name == "cold")
    assert outcome.status is Status.PARTIAL
    assert outcome.freed_bytes <= 20 * MIB


def test_a_domain_that_vanishes_during_the_watch_is_left_out_by_name(installation: Installation) -> None:
    """The others are planned for."""
    host = installation.host

    def vanish(_seconds: float) -> None:
        host.guests[:] = [g for g in host.guests if g.name != "free" or host.uptime < 110]

    host.workers.append(vanish)
    plan = installation.plan()
    assert {a.domain.name for a in plan.actions} == {"cold"}
    assert any("free" in note for note in plan.notes)


def test_nothing_is_written_when_the_journal_cannot_be(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk stops the program before the kernel or a guest hears of it (rule S3)."""
    plan = installation.plan()
    found = installation.baseline()

    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("overcommit.journal.os.write", full)
    with pytest.raises(Exception, match="cannot write the undo journal"):
        installation.apply(plan)
    assert installation.baseline() == found
