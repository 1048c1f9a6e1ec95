"""Blocks of virtio-mem: taken, refused, not given, given for nothing, and given back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit.errors import StalePlan
from overcommit.model.action import BalloonAction, VirtioMemAction, name_of
from overcommit.model.outcome import Fault, Outcome, Report, Status
from overcommit.model.plan import Plan
from overcommit.model.policy import Actuator
from overcommit.observe.facts import observe
from overcommit.plan.feedback import Feedback
from overcommit.plan.planner import make_plan
from overcommit.testing import Behaviour, FakeGuest, FakeHypervisor
from overcommit.units import MIB
from tests.faults.conftest import Installation, Killed, Killer, install

DEVICE = 256 * MIB
MEMORY = 640 * MIB


def plugged(directory: Path, **about: object) -> Installation:
    """A host with one guest that uses an eighth of its memory, and has touched all of it."""
    installation = install(directory / "state", "cold-hint+reclaim")
    chunks = MEMORY // MIB
    guest = FakeGuest(
        name="plugged",
        uuid="00000000-0000-0000-0000-000000000003",
        pid=503,
        memory_bytes=MEMORY,
        device_bytes=DEVICE,
        resident=set(range(chunks)),
        hot={*range(60), *range(chunks - 20, chunks)},  # some of it in the device
        free=set(range(60, chunks - 20)),
    )
    for name, value in about.items():
        setattr(guest, name, value)
    installation.host.guests[:] = [guest]
    return installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """See `plugged`."""
    return plugged(tmp_path)


def when_first_resized(installation: Installation, then: Callable[[], None]) -> None:
    """Do something when the program is about to resize the device."""
    pending = [then]

    def on_write(path: str, _value: str) -> None:
        if path == "device/plugged" and pending:
            pending.pop()()

    installation.host.on_write = on_write


def the_unplug(report: Report) -> Outcome:
    return next(o for o in report.outcomes if isinstance(o.action, VirtioMemAction))


def kinds(plan: Plan) -> list[str]:
    return [type(action).__name__ for action in plan.runnable]


def test_blocks_go_then_the_balloon_takes_the_rest_and_all_comes_back(installation: Installation) -> None:
    (guest,) = installation.host.guests
    found = installation.baseline()
    plan = installation.plan()
    assert kinds(plan) == ["VirtioMemAction", "BalloonAction"]
    assert plan.expected_bytes == MEMORY - plan.domains[0].target_bytes

    report = installation.apply(plan)

    assert report.complete, report
    assert report.freed_bytes >= plan.expected_bytes
    assert (guest.plugged_bytes, guest.requested_bytes) == (0, 0)
    assert guest.resident <= guest.plugged_chunks
    assert guest.size_bytes == plan.domains[0].target_bytes
    assert len(guest.hot) == 80, "what the guest uses moved out of the blocks"
    assert installation.plan().runnable == ()
    assert installation.restore().left == ()
    assert installation.baseline() == found
    assert installation.outstanding == 0


def test_blocks_go_in_steps_of_an_eighth_at_most(installation: Installation) -> None:
    sizes = [DEVICE]

    def on_write(path: str, value: str) -> None:
        if path == "device/plugged":
            sizes.append(int(value))

    installation.host.on_write = on_write
    installation.apply(installation.plan())
    steps = [before - after for before, after in itertools.pairwise(sizes)]
    assert sum(steps) == DEVICE
    assert all(0 < step <= MEMORY // 8 for step in steps)


@pytest.mark.parametrize(
    ("behaviour", "status", "says", "fault"),
    [
        (Behaviour.STUCK, Status.PARTIAL, "stopped moving at 256 MiB", Fault.STUCK),
        (Behaviour.REFUSING, Status.PARTIAL, "could not resize", None),
        (Behaviour.PHANTOM, Status.UNDONE, "given back", Fault.PHANTOM),
        (Behaviour.HUNG, Status.FAILED, "did not answer", None),
        (Behaviour.SILENT, Status.PARTIAL, "no longer answers", Fault.SILENT),
    ],
)
def test_a_guest_that_does_not_cooperate_is_named_and_keeps_its_blocks(
    installation: Installation, behaviour: Behaviour, status: Status, says: str, fault: Fault | None
) -> None:
    """And its device is left alone for a while."""
    plan = installation.plan()
    (guest,) = installation.host.guests
    when_first_resized(installation, lambda: setattr(guest, "behaviour", behaviour))
    outcome = the_unplug(installation.apply(plan))
    assert (outcome.status, says in outcome.detail, outcome.fault) == (status, True, fault), outcome
    barred = {quarantine.actuator for quarantine in installation.past().quarantines}
    assert (Actuator.VIRTIO_MEM in barred) == (fault is not None)
    if behaviour not in {Behaviour.HUNG, Behaviour.REFUSING}:  # those can be told nothing
        assert guest.requested_bytes == DEVICE


def test_blocks_that_cannot_be_freed_end_it_with_no_target_left_behind(tmp_path: Path) -> None:
    """The kernel of the guest holds something in the middle of the device."""
    unmovable = MEMORY // MIB - 100
    installation = plugged(tmp_path, unmovable={unmovable})
    (guest,) = installation.host.guests
    plan = installation.plan()

    report = installation.apply(plan)

    outcome = the_unplug(report)
    assert outcome.status is Status.PARTIAL
    assert "stopped moving at 158 MiB" in outcome.detail
    assert guest.requested_bytes == guest.plugged_bytes == 158 * MIB
    assert 90 * MIB - 20 * MIB <= outcome.freed_bytes <= 98 * MIB
    floor = plan.domains[0].floor_bytes
    assert guest.size_bytes >= floor


def test_a_guest_in_pain_gets_the_last_step_back(installation: Installation) -> None:
    """Something in it begins to need nearly all memory while blocks go."""
    (guest,) = installation.host.guests
    plan = installation.plan()
    when_first_resized(installation, lambda: guest.free.intersection_update(range(100, 200)))
    outcome = the_unplug(installation.apply(plan))
    assert outcome.status is Status.PARTIAL
    assert "one step back to 256 MiB: the guest has only" in outcome.detail
    assert guest.requested_bytes == DEVICE


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_restore_plugs_everything_back(
    tmp_path: Path, killer: Killer, after: bool
) -> None:
    for write in itertools.count(1):
        installation = plugged(tmp_path / str(write))
        found, plan = installation.baseline(), installation.plan()
        killer.aim(installation.host, write, after=after)
        try:
            installation.apply(plan)
        except Killed:
            survived = False
        else:
            survived = True
        killer.revive()
        assert installation.restore().left == ()
        assert installation.baseline() == found, f"killed {'after' if after else 'before'} write {write}"
        assert installation.restore().done == ()
        if survived:
            assert write > 6, "the job has fewer writes than it had"
            return


def test_restore_leaves_a_device_alone_that_somebody_else_resized(installation: Installation) -> None:
    plan = installation.plan()
    (guest,) = installation.host.guests
    guest.unmovable = {MEMORY // MIB - 100}
    installation.apply(plan)
    guest.device_bytes = guest.requested_bytes = 512 * MIB
    sentences = installation.restore().done
    assert any("somebody else resized it" in sentence for sentence in sentences), sentences
    assert guest.requested_bytes == 512 * MIB
    assert installation.outstanding == 0


def test_restore_waits_for_a_guest_that_does_not_take_its_blocks_and_keeps_the_record(
    installation: Installation,
) -> None:
    installation.apply(installation.plan())
    (guest,) = installation.host.guests
    guest.behaviour = Behaviour.STUCK
    restored = installation.restore()
    assert any("the guest took 0 B of 256 MiB back" in sentence for sentence in restored.left), restored
    assert guest.requested_bytes == DEVICE, "it is requested all the same"
    guest.behaviour = Behaviour.OBEDIENT
    assert installation.restore().left == ()
    assert installation.outstanding == 0


def test_a_restarted_guest_needs_nothing_back(installation: Installation) -> None:
    installation.apply(installation.plan())
    installation.host.guests[0].start_time += 100
    done = installation.restore().done
    assert "domain plugged ended or was restarted since: its device virtiomem0 needs nothing" in done
    assert installation.outstanding == 0


def test_a_device_that_is_gone_needs_nothing_back(installation: Installation) -> None:
    installation.apply(installation.plan())
    (guest,) = installation.host.guests
    guest.memory_bytes -= guest.device_bytes
    guest.device_bytes = guest.plugged_bytes = guest.requested_bytes = 0
    restored = installation.restore()
    assert "device virtiomem0 of plugged is gone: nothing to put back" in restored.done
    assert restored.left == ()


def test_a_plan_is_refused_when_somebody_resized_the_device(installation: Installation) -> None:
    plan = installation.plan()
    (guest,) = installation.host.guests
    guest.requested_bytes = 128 * MIB
    installation.host.advance(3)
    with pytest.raises(StalePlan, match="device virtiomem0 of domain plugged was moved since"):
        installation.apply(plan)
    guest.plugged_bytes = 256 * MIB
    with pytest.raises(StalePlan, match="no longer eligible for virtio_mem: its virtio-mem is being resized"):
        installation.apply(plan)


def test_a_plan_is_refused_when_the_device_is_gone(installation: Installation) -> None:
    plan = installation.plan()
    (guest,) = installation.host.guests
    guest.device_bytes = guest.plugged_bytes = guest.requested_bytes = 0  # and a DIMM of its size is there
    with pytest.raises(StalePlan, match="its virtio-mem device is gone"):
        installation.apply(plan)


def test_a_guest_that_is_short_later_gets_its_blocks_back(installation: Installation) -> None:
    """First its balloon, then as many blocks as that leaves it short of; restore brings the rest."""
    found = installation.baseline()
    (guest,) = installation.host.guests
    installation.apply(installation.plan())
    taken = MEMORY - guest.size_bytes
    guest.resident |= set(range(guest.ram.size // MIB))  # it needs all of it now
    guest.free.clear()
    installation.host.advance(3)

    plan = installation.plan()

    assert [name_of(action) for action in plan.runnable] == ["relief", "plug"]
    assert 0 < plan.given_bytes <= taken
    report = installation.apply(plan)
    assert report.complete, report
    assert guest.plugged_bytes == guest.requested_bytes > 0
    assert guest.usable_bytes > 0
    assert installation.restore().left == ()
    assert installation.baseline() == found


def test_a_device_that_somebody_else_resized_is_left_to_them(installation: Installation) -> None:
    installation.apply(installation.plan())
    (guest,) = installation.host.guests
    guest.requested_bytes = 128 * MIB
    installation.host.advance(3)
    plan = installation.plan()
    assert not any(isinstance(action, VirtioMemAction) for action in plan.actions)
    says = "somebody else resized its virtio-mem since, from 0 B to 128 MiB"
    assert plan.domains[0].eligible[Actuator.VIRTIO_MEM].reason == says
    assert [(d.what, d.found_bytes) for d in plan.drift] == [("size of device virtiomem0", 128 * MIB)]


def in_pain(installation: Installation) -> Plan:
    """The plan of who follows the guest, and saw it suffer."""
    session = installation.session()
    snapshot = observe(installation.kernel, FakeHypervisor(installation.host), session.clock)
    hurt = {domain.incarnation: "it was stalled on memory" for domain in snapshot.domains}
    return make_plan(
        snapshot, {}, installation.policy, past=installation.past(), feedback=Feedback(pains=hurt)
    )


def test_a_guest_in_pain_that_sends_no_statistics_any_more_gets_all_back(installation: Installation) -> None:
    found = installation.baseline()
    (guest,) = installation.host.guests
    installation.apply(installation.plan())
    guest.behaviour = Behaviour.SILENT
    installation.host.advance(60)
    assert not any(action.relieves for action in moves(installation.plan())), "its word is too old"

    plan = in_pain(installation)

    assert [name_of(action) for action in plan.runnable] == ["relief", "plug"]
    report = installation.apply(plan)
    assert report.complete, report
    assert guest.plugged_bytes == guest.requested_bytes == DEVICE
    assert guest.balloon_bytes == MEMORY - DEVICE
    assert in_pain(installation).runnable == ()
    assert installation.restore().left == ()
    assert installation.baseline() == found


def test_a_guest_that_ends_while_it_is_given_memory(installation: Installation) -> None:
    (guest,) = installation.host.guests
    installation.apply(installation.plan())
    plan = in_pain(installation)

    def on_write(path: str, _value: str) -> None:
        if path == "balloon/plugged":
            installation.host.guests.remove(guest)

    installation.host.on_write = on_write
    report = installation.apply(plan)
    assert [outcome.status for outcome in report.outcomes] == [Status.FAILED, Status.FAILED]
    assert installation.restore().left == ()


def moves(plan: Plan) -> list[VirtioMemAction | BalloonAction]:
    return [action for action in plan.actions if isinstance(action, VirtioMemAction | BalloonAction)]
