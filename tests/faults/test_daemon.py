"""The daemon on a fake host: what it does, and what it does when the world around it breaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.control.planning import Decision
from overcommit.control.status import Mode
from overcommit.errors import Conflict
from overcommit.model.action import subject_of
from overcommit.model.facts import MIGRATION_AWAY, Snapshot
from overcommit.model.moments import Monotonic
from overcommit.model.plan import Plan
from overcommit.model.wake import WakeKind
from overcommit.testing import Behaviour, FakeHypervisor
from overcommit.testing.fake_kdamond import refusal
from overcommit.units import MIB
from overcommit.wire.protocol import Verb
from tests.faults.conftest import ACTORS, guests
from tests.faults.daemon import Daemon, Disk, World, policy_text

ROOT = "/sys/kernel/mm/damon/admin/kdamonds"
SETTLED = 150.0
"""After that many seconds it has taken what there is to take."""


@pytest.fixture
def world(tmp_path: Path, disk: Disk) -> World:
    """Two guests: ``cold`` has much to page out, ``free`` has much to give."""
    del disk
    return World(tmp_path)


def settled(world: World) -> Daemon:
    """A daemon that has taken what there is to take."""
    daemon = world.daemon()
    daemon.run_for(SETTLED, lambda: well(world))
    assert daemon.taken_from(world.host.guests[1])
    return daemon


def well(world: World) -> None:
    """To be true at any time."""
    assert world.floor_broken() is None
    for guest in world.host.guests:
        assert len(guest.resident) * MIB >= 0.2 * guest.memory_bytes


def ends_well(world: World, daemon: Daemon, found: object) -> None:
    """It stops, DAMON is back, and restore brings the rest."""
    daemon.stop()
    assert not world.kernel.damon.running
    assert world.verbs.restore().left == ()
    assert world.verbs.baseline() == found
    assert world.verbs.outstanding == 0


# --- what it does


@pytest.mark.parametrize("actor", ACTORS)
def test_it_takes_idle_memory_over_time_holds_floors_and_leaves_a_way_back(
    tmp_path: Path, actor: str
) -> None:
    with Disk().in_place():
        world = World(tmp_path, policy_text(actor=actor))
        found = world.verbs.baseline()
        daemon = world.daemon()
        daemon.run_for(600, lambda: well(world))
        cold, free = world.host.guests
        assert len(cold.swapped) >= 60
        assert cold.hot <= cold.resident
        assert free.balloon_bytes <= 64 * MIB
        assert daemon.mode() is Mode.ACTIVE
        daemon.stop()
        assert [b.domain.name for b in world.verbs.past().balloons] == ["free"]
        assert world.verbs.restore().left == ()
        assert world.verbs.baseline() == found


def test_its_sentence_is_logged_when_it_changes_only(world: World) -> None:
    daemon = settled(world)
    before = list(daemon.said)
    daemon.run_for(600)
    assert daemon.said == before


def test_observing_changes_nothing_of_guests(world: World) -> None:
    world.host.on_write = lambda path, _value: pytest.fail(path) if not path.startswith("/sys/k") else None
    daemon = world.daemon(observe=True)
    daemon.run_for(300)
    assert daemon.mode() is Mode.OBSERVE
    assert daemon.has_said("would: ")
    assert not any(guest.swapped for guest in world.host.guests)


def test_a_pause_takes_nothing_until_it_ends(world: World) -> None:
    daemon = world.daemon()
    asked = daemon.order(Verb.PAUSE, seconds=200.0)
    daemon.run_for(180)
    assert asked.answer is not None
    assert asked.answer["sentence"].startswith("paused for 3")
    assert daemon.mode() is Mode.PAUSED
    assert not any(guest.swapped for guest in world.host.guests)
    daemon.run_for(SETTLED)
    assert world.host.guests[0].swapped


def test_a_resume_ends_a_pause(world: World) -> None:
    daemon = world.daemon()
    daemon.order(Verb.PAUSE)
    daemon.run_for(60)
    assert daemon.mode() is Mode.PAUSED
    daemon.order(Verb.RESUME)
    daemon.run_for(SETTLED)
    assert world.host.guests[0].swapped


def test_reservations_are_granted_one_after_the_other_or_refused_in_time(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(30)
    small = daemon.order(
        Verb.RESERVE, size_bytes=64 * MIB, purpose="new", timeout_seconds=60.0, hold_seconds=600.0
    )
    large = daemon.order(Verb.RESERVE, size_bytes=1810 * MIB, timeout_seconds=60.0, hold_seconds=600.0)
    daemon.run_for(20)
    assert small.answer is not None
    assert small.answer["granted"] is True
    assert not any(reply.final for reply in large.replies)
    daemon.run_for(60)
    assert large.answer is not None
    assert large.answer["granted"] is False
    assert large.answer["missing_bytes"] > 0


def test_a_bad_policy_is_refused_and_a_good_one_is_taken(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(10)
    world.policy_path.write_text("version: 1\nnonsense: 3\n")
    daemon.wake(WakeKind.RELOAD)
    daemon.run_for(10)
    assert "the policy on disk is refused" in daemon.sentence
    world.policy_path.write_text(policy_text(floor="60%"))
    daemon.wake(WakeKind.RELOAD)
    daemon.run_for(SETTLED)
    assert "refused" not in daemon.sentence
    assert len(world.host.guests[0].resident) >= 0.6 * 128


class Plans:
    """How many a daemon made, and how many of them it carried out."""

    def __init__(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = self.carried_out = 0
        controller = daemon.controller
        make, act = controller._decide, controller._act

        def made(snapshot: Snapshot) -> Decision:
            self.made += 1
            return make(snapshot)

        def acted(decision: Decision, snapshot: Snapshot, now: Monotonic) -> None:
            self.carried_out += 1
            act(decision, snapshot, now)

        monkeypatch.setattr(controller, "_decide", made)
        monkeypatch.setattr(controller, "_act", acted)


def test_who_only_asks_for_a_plan_has_nothing_begun_and_gets_one_that_is_fresh(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = world.daemon()
    for guest in world.host.guests:
        guest.hot, guest.free = set(guest.resident), set()
    daemon.run_for(120.0)
    plans = Plans(daemon, monkeypatch)
    end = world.clock.monotonic() + 300.0
    while world.clock.monotonic() < end:
        asked = daemon.order(Verb.TICK)
        daemon.run_for(1.01)
        assert asked.answer is not None
        assert daemon.controller.state.plan is not None
        assert world.clock.now() - daemon.controller.state.plan.created_at <= 15.0, "a plan, and a tick"
    assert plans.carried_out == 5, "one a minute, as if nobody asked"
    assert plans.made > 20


def test_a_policy_that_is_read_again_is_acted_on_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = world.daemon()
    daemon.run_for(130.0)
    plans = Plans(daemon, monkeypatch)
    daemon.wake(WakeKind.RELOAD)
    daemon.run_for(1.5)
    assert plans.carried_out == 1


def test_a_guest_that_is_short_gets_its_balloon_back_within_a_tick(world: World) -> None:
    daemon = settled(world)
    guest = world.host.guests[1]
    target = guest.balloon_target_bytes
    guest.resident = set(range(target // MIB))
    guest.hot = set(guest.resident)
    guest.free.clear()
    guest.report()
    daemon.run_for(5.5)
    assert guest.balloon_target_bytes > target


def test_a_guest_in_pain_is_let_alone_in_the_same_tick(world: World) -> None:
    daemon = world.daemon()
    guest = world.host.guests[0]
    while not any(subject_of(a) == "cold" for a in daemon.controller._acting.actions):
        daemon.run_for(1)
        assert world.host.uptime < 400
    guest.stalled_seconds += 4.0
    daemon.run_for(5.5)
    assert not any(subject_of(a) == "cold" for a in daemon.controller._acting.actions)
    assert "throttled: cold" in daemon.sentence
    moved = len(guest.swapped)
    daemon.run_for(60)
    assert len(guest.swapped) <= moved


def test_one_controller_at_a_time(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(10)
    with pytest.raises(Conflict, match="another controller is running"):
        world.daemon()
    with pytest.raises(Conflict, match="another controller is running"):
        world.verbs.plan()
    daemon.run_for(10)
    assert daemon.mode() is Mode.ACTIVE


def test_domains_come_beyond_the_slots_and_are_watched_and_what_was_known_is_kept(world: World) -> None:
    daemon = world.daemon()
    daemon.run_for(40)
    known = daemon.controller._watching.idle(next(iter(daemon.controller._tracked)))
    assert known is not None
    began = known.window_seconds
    template = world.host.guests[0]
    for number in range(10, 22):
        world.host.guests.append(
            type(template)(
                name=f"vm{number}",
                uuid=f"00000000-0000-0000-0000-{number:012d}",
                pid=500 + number,
                memory_bytes=64 * MIB,
                resident=set(range(60)),
                hot=set(range(60)),
            )
        )
    daemon.wake(WakeKind.LIFECYCLE)
    daemon.run_for(90)
    controller = daemon.controller
    assert len(controller._tracked) == 14
    idles = [controller._watching.idle(who) for who in controller._tracked]
    assert None not in idles
    assert max(idle.window_seconds for idle in idles if idle) > began + 60


# --- the unhappy world


def test_libvirt_that_hangs_is_held_out_then_all_goes_back_and_it_comes_back_by_itself(world: World) -> None:
    found, daemon = world.verbs.baseline(), settled(world)
    world.libvirt.down = "libvirt did not answer within 10 s"
    daemon.run_for(70)
    assert daemon.sentence.startswith("safe: holding, without libvirt: libvirt did not answer")
    daemon.run_for(300)
    assert daemon.sentence.startswith("safe: giving everything back, without libvirt")
    world.libvirt.down = None
    daemon.run_for(30)
    assert daemon.mode() is Mode.ACTIVE
    ends_well(world, daemon, found)


def test_one_qemu_that_hangs_leaves_the_others_their_relief(world: World) -> None:
    daemon = settled(world)
    hung, guest = world.host.guests
    hung.behaviour = Behaviour.HUNG
    daemon.run_for(60)
    assert daemon.mode() is Mode.ACTIVE
    target = guest.balloon_target_bytes
    guest.resident = set(range(target // MIB))
    guest.hot = set(guest.resident)
    guest.free.clear()
    guest.report()
    daemon.run_for(11)
    assert guest.balloon_target_bytes > target


@pytest.mark.parametrize("way", ["destroyed", "restarted", "migrates", "paused", "pid reused"])
def test_a_domain_that_changes_under_a_job_ends_it(world: World, way: str) -> None:
    world.policy_path.write_text(policy_text(write="4MiB/s"))
    daemon = world.daemon()
    guest = world.host.guests[0]
    while not guest.swapped:
        daemon.run_for(1)
        assert world.host.uptime < 400
    if way == "destroyed":
        world.host.guests.remove(guest)
    elif way == "restarted":
        guest.pid, guest.start_time = 700, 9000
        guest.swapped.clear()
        guest.resident = set(range(100))
    elif way == "pid reused":
        guest.start_time = 9000
        guest.swapped.clear()
        guest.resident = set(range(100))
    elif way == "migrates":
        guest.busy_with = MIGRATION_AWAY
    else:
        guest.paused = True
    before = len(guest.swapped)
    daemon.run_for(15)
    assert not any(subject_of(a) == "cold" for a in daemon.controller._acting.actions)
    assert len(guest.swapped) <= before + 20
    assert daemon.has_said("cold migrates to another host") == (way == "migrates")
    assert daemon.mode() is Mode.ACTIVE
    daemon.run_for(60, lambda: well(world))


@pytest.mark.parametrize("amid", [True, False], ids=["amid an action", "later"])
def test_a_guest_that_is_reset_boots_with_all_its_memory_and_is_not_blamed(world: World, amid: bool) -> None:
    """QEMU keeps the balloon's target over a reset: the guest would fill its balloon again as it boots."""
    found, daemon = world.verbs.baseline(), world.daemon()
    who = world.host.guests[1]

    def until(happened: Callable[[], bool]) -> None:
        while not happened():
            daemon.run_for(1, lambda: well(world))
            assert world.host.uptime < 500

    def at_work() -> bool:
        return any(subject_of(action) == who.name for action in daemon.controller._acting.actions)

    until(lambda: who.balloon_target_bytes < who.memory_bytes and at_work() is amid)
    who.reset()
    daemon.run_for(6)
    assert who.booting_seconds > 0
    assert who.balloon_target_bytes == who.memory_bytes
    assert daemon.has_said("the guest reboots")
    until(lambda: who.balloon_bytes == who.memory_bytes)
    until(lambda: world.libvirt.balloon(who.uuid, now=world.clock.now()).actual_bytes == who.memory_bytes)
    assert who.balloon_target_bytes == who.memory_bytes
    who.resident, who.free = set(range(100)), set(range(25, 100))
    until(lambda: daemon.taken_from(who) >= 32 * MIB)
    assert not world.verbs.past().quarantines
    ends_well(world, daemon, found)


def test_a_guest_that_migrates_is_not_asked_once_more_for_what_it_says(
    world: World, mocker: MockerFixture
) -> None:
    """One that was reset says an old size until it is asked for another."""
    daemon = settled(world)
    who = world.host.guests[1]
    who.reset()
    daemon.run_for(2)
    assert (who.balloon_target_bytes, who.booting_seconds > 0) == (who.memory_bytes, True)
    who.busy_with = MIGRATION_AWAY
    asked = mocker.spy(FakeHypervisor, "set_balloon")
    daemon.run_for(60)
    assert asked.call_args_list == []
    assert (who.balloon_bytes, who.says_balloon_bytes is None) == (who.memory_bytes, False)
    who.busy_with = None
    assert world.verbs.restore().left == ()
    assert who.says_balloon_bytes is None


def test_who_only_observes_gives_a_guest_that_is_reset_nothing(world: World) -> None:
    settled(world).stop()
    who = world.host.guests[1]
    target = who.balloon_target_bytes
    observer = world.daemon(observe=True)
    observer.run_for(10)
    who.reset()
    observer.run_for(6)
    assert who.booting_seconds > 0
    assert (who.balloon_target_bytes, target < who.memory_bytes) == (target, True)


def test_a_full_disk_takes_nothing_and_gives_back_all_the_same(world: World, disk: Disk) -> None:
    found, daemon = world.verbs.baseline(), settled(world)
    cold, free = world.host.guests
    disk.full = True
    free.resident = set(range(free.balloon_target_bytes // MIB))
    free.hot = set(free.resident)
    free.free.clear()
    free.report()
    target, swapped = free.balloon_target_bytes, len(cold.swapped)
    daemon.run_for(60)
    assert free.balloon_target_bytes > target
    assert len(cold.swapped) <= swapped
    disk.full = False
    daemon.run_for(30)
    assert daemon.mode() is Mode.ACTIVE
    ends_well(world, daemon, found)


def locked(world: World, so_long: Callable[[], bool]) -> list[Monotonic]:
    """Somebody is inside a command of DAMON's all the while; when (monotonic) we were refused for it."""
    refusals: list[Monotonic] = []
    set_to = 0

    def busy(path: str) -> None:
        nonlocal set_to
        if path.startswith(ROOT):
            if set_to > world.kernel.busy:
                refusals.append(world.clock.monotonic())
            world.kernel.busy = set_to = int(so_long())

    world.host.on_read = busy
    world.host.on_write = lambda path, _value: busy(path)
    return refusals


def test_sysfs_that_is_busy_for_a_minute_is_lived_through(world: World) -> None:
    found, daemon = world.verbs.baseline(), settled(world)
    until = world.clock.monotonic() + 60
    locked(world, lambda: world.clock.monotonic() < until)
    daemon.run_for(240, lambda: well(world))
    assert daemon.mode() is Mode.ACTIVE
    assert None not in [daemon.controller._watching.idle(who) for who in daemon.controller._tracked]
    ends_well(world, daemon, found)


@pytest.mark.parametrize("traced", [True, False], ids=["tracepoint", "sysfs"])
def test_while_damon_is_locked_other_guests_are_relieved_within_a_tick(world: World, traced: bool) -> None:
    world.kernel.trace.there = traced
    daemon = settled(world)
    cold, free = world.host.guests
    cold.swapped, cold.resident = set(), set(range(100))
    while not any(subject_of(a) == "cold" for a in daemon.controller._acting.actions):
        daemon.run_for(1)
        assert world.host.uptime < 900
    daemon.run_for(3)
    until = world.clock.monotonic() + 60
    refusals = locked(world, lambda: world.clock.monotonic() < until)
    target = free.balloon_target_bytes
    free.resident = set(range(target // MIB))
    free.hot = set(free.resident)
    free.free.clear()
    free.report()
    cold.stalled_seconds += 4.0  # what takes from it has to be stopped at once
    since = world.clock.monotonic()
    while free.balloon_target_bytes <= target:
        daemon.run_for(0.1)
    assert world.clock.monotonic() - since <= 5.0 + 2.0 + 0.1
    assert refusals


def test_a_page_out_that_cannot_be_stopped_is_as_soon_as_damon_answers(world: World) -> None:
    daemon = world.daemon()
    while not any(subject_of(a) == "cold" for a in daemon.controller._acting.actions):
        daemon.run_for(1)
        assert world.host.uptime < 400
    daemon.run_for(3)
    watching = len(world.kernel.damon.running) - 1
    until = world.clock.monotonic() + 30
    locked(world, lambda: world.clock.monotonic() < until)
    daemon.order(Verb.PAUSE)
    daemon.run_for(15)
    assert not daemon.controller._acting.actions
    assert len(world.kernel.damon.running) == watching + 1, "nothing could stop it"
    daemon.run_for(25)
    assert len(world.kernel.damon.running) == watching
    daemon.order(Verb.RESUME)
    daemon.run_for(SETTLED)
    assert daemon.mode() is Mode.ACTIVE
    assert len(world.host.guests[0].swapped) >= 60


@pytest.mark.parametrize(("seconds", "freed"), [(9.0, True), (60.0, False)])
def test_a_page_out_waits_for_damon_for_some_time(world: World, seconds: float, freed: bool) -> None:
    daemon = world.daemon()
    since: list[Monotonic] = []

    def at_work() -> bool:
        now = world.clock.monotonic()
        if any(subject_of(a) == "cold" for a in daemon.controller._acting.actions):
            since.append(now)
        return bool(since) and now - since[0] < seconds

    refusals = locked(world, at_work)
    while not daemon.has_said("cold: pageout: done") and not daemon.has_said("cold: pageout: failed"):
        daemon.run_for(1)
        well(world)
        assert world.host.uptime < 400
    assert len(refusals) > 2
    assert bool(world.host.guests[0].swapped) is freed
    assert world.clock.monotonic() - since[0] < (60.0 if freed else 26.0)


@pytest.mark.parametrize(("seconds", "way"), [(3600.0, "forward"), (-3600.0, "back")])
def test_a_clock_that_jumps_holds_for_a_minute(world: World, seconds: float, way: str) -> None:
    """A host that was suspended looks like the former: the monotonic clock stood still."""
    daemon = settled(world)
    world.clock.jump(seconds)
    daemon.run_for(6)
    assert daemon.sentence.startswith(f"safe: holding, without the clock: it jumped {way} by 1h")
    daemon.run_for(80)
    assert daemon.mode() is Mode.ACTIVE


def foreign_slots(world: World, slots: int = 1) -> None:
    """Another tool turns our kdamonds off and sets up its own, as many."""
    world.kernel.damon.running.clear()
    world.kernel.write(f"{ROOT}/nr_kdamonds", str(slots))
    for slot in range(slots):
        for path, value in (
            ("contexts/nr_contexts", "1"),
            ("contexts/0/operations", "paddr"),
            ("contexts/0/targets/nr_targets", "1"),
            ("state", "on"),
        ):
            world.kernel.write(f"{ROOT}/{slot}/{path}", value)


def as_many_foreign_slots(world: World) -> None:
    """Their number says nothing."""
    foreign_slots(world, int(world.kernel.read(f"{ROOT}/nr_kdamonds")))


def foreign_settings(world: World) -> None:
    """Another tool writes its own settings into a kdamond of ours that is on, and commits them."""
    intervals = f"{ROOT}/0/contexts/0/monitoring_attrs/intervals"
    world.kernel.write(f"{intervals}/update_us", "1000000")
    world.kernel.write(f"{ROOT}/0/state", "commit")


def no_foreign_slots(world: World) -> None:
    world.kernel.damon.running.clear()
    world.kernel.write(f"{ROOT}/nr_kdamonds", "0")


def module_on(world: World) -> None:
    world.kernel.damon.running.clear()
    world.kernel.damon.modules["damon_stat"] = True


def module_off(world: World) -> None:
    world.kernel.damon.modules["damon_stat"] = False


@pytest.mark.parametrize(
    ("take", "leave", "says"),
    [
        (foreign_slots, no_foreign_slots, "another tool"),
        (as_many_foreign_slots, no_foreign_slots, "another tool"),
        (foreign_settings, no_foreign_slots, "another tool"),
        (module_on, module_off, "damon_stat"),
    ],
)
def test_a_foreign_tool_that_takes_damon_away_keeps_it(
    world: World, take: Callable[[World], None], leave: Callable[[World], None], says: str
) -> None:
    """And we hold, give back after five minutes, and go on when it leaves."""
    found, daemon = world.verbs.baseline(), settled(world)
    guest = world.host.guests[1]
    take(world)
    theirs = {slot: world.kernel.damon.running.get(slot) for slot in (*world.kernel.damon.running, 0)}
    if take is foreign_settings:
        theirs = {0: theirs[0]}
    modules = dict(world.kernel.damon.modules)
    if take is not module_on:
        daemon.run_for(6)  # a tick
        assert daemon.mode() is Mode.SAFE
        assert "kdamond 0 (thread 9000, " in daemon.sentence
    daemon.run_for(120)
    assert daemon.mode() is Mode.SAFE
    assert says in daemon.sentence
    assert guest.balloon_target_bytes < guest.memory_bytes
    daemon.run_for(260)
    assert daemon.sentence.startswith("safe: giving everything back, without DAMON")
    assert guest.balloon_target_bytes == guest.memory_bytes
    assert {slot: world.kernel.damon.running.get(slot) for slot in theirs} == theirs
    assert world.kernel.damon.modules == modules
    leave(world)
    daemon.run_for(60)
    assert daemon.mode() is Mode.ACTIVE
    assert daemon.controller._watching.host is not None
    ends_well(world, daemon, found)


def test_kdamonds_that_end_are_started_again(world: World) -> None:
    daemon = settled(world)
    world.kernel.damon.running.clear()
    daemon.run_for(150)
    assert daemon.mode() is Mode.ACTIVE
    assert len(world.kernel.damon.running) == 3
    assert daemon.controller._watching.host is not None


def test_swap_that_fills_stops_page_out_by_name(world: World) -> None:
    world.policy_path.write_text(policy_text(write="4MiB/s"))
    daemon = world.daemon()
    guest = world.host.guests[0]
    while not guest.swapped:
        daemon.run_for(1)
    world.host.swap_of_others_bytes = world.host.swap_total_bytes - (len(guest.swapped) + 1) * MIB
    daemon.run_for(60)
    assert daemon.has_said("stopped: swap is full")
    assert not daemon.controller._acting.in_slots


def test_figures_of_the_host_that_cannot_be_read_are_lived_through(world: World) -> None:
    daemon = settled(world)

    def unreadable(path: str) -> None:
        if path == "/proc/meminfo":
            raise refusal(5, path)

    world.host.on_read = unreadable
    daemon.run_for(30)
    assert daemon.sentence.startswith("safe: holding, without the host's own figures")
    world.host.on_read = lambda _path: None
    daemon.run_for(30)
    assert daemon.mode() is Mode.ACTIVE


def test_it_takes_as_soon_as_it_knows_what_is_cold(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = World(tmp_path, inhabitants=guests()[:1])
    daemon = world.daemon()
    daemon.run_for(45.0)
    assert world.host.guests[0].swapped, "memory was cold after 20 s"


def test_that_it_knows_what_is_cold_is_news_once(tmp_path: Path, disk: Disk) -> None:
    del disk
    world = World(tmp_path, policy_text().replace("20s", "95s"), inhabitants=guests())
    for guest in world.host.guests:
        guest.hot, guest.free = set(guest.resident), set()  # nothing of it is cold, ever
    daemon = world.daemon()
    plans: list[Plan | None] = []

    def each() -> None:
        if daemon.controller.state.plan not in plans[-1:]:
            plans.append(daemon.controller.state.plan)

    daemon.run_for(600.0, each)
    assert len(plans) <= 600.0 / 60.0 + 2


def test_the_watchdog_hears_nothing_while_the_control_socket_serves_nobody(
    world: World, mocker: MockerFixture
) -> None:
    told = mocker.patch("overcommit.daemon.notify.ServiceManager.alive")
    daemon = world.daemon()
    daemon.run_for(20)
    assert told.call_count
    daemon.server.unserved = "its thread ended"
    told.reset_mock()
    daemon.run_for(20)
    assert told.call_count == 0
    assert daemon.said.count("the control socket does not answer: its thread ended") == 1
    daemon.server.unserved = None
    daemon.run_for(20)
    assert told.call_count
    daemon.stop()
