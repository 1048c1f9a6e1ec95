"""What goes wrong with one domain, wherever that is: it ends no tick, and nothing for the others."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overcommit.apply.restore import Restored
from overcommit.daemon import controller, standings, tracked_domain
from overcommit.daemon.faults import FIRST_SECONDS, Boundary
from overcommit.daemon.tick_reading import read_for_tick
from overcommit.daemon.tracked_domain import TrackedDomain
from overcommit.errors import JournalFailed
from overcommit.model.facts import DomainFacts, Incarnation, Snapshot
from overcommit.model.log_event import LogEvent
from overcommit.observe import facts
from overcommit.plan import planner
from overcommit.plan.arbiter import Candidate
from overcommit.plan.case import Case
from overcommit.plan.eligibility import judge
from overcommit.plan.isolation import without_failed_domains
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import MIB
from tests.faults.daemon import Daemon, Disk, World, policy_text

BAD = "bad"


def guest(name: str, number: int) -> FakeGuest:
    return FakeGuest(
        name=name,
        uuid=f"00000000-0000-0000-0000-00000000000{number}",
        pid=500 + number,
        memory_bytes=256 * MIB,
        resident=set(range(200)),
        hot=set(range(10)),
        free=set(range(110, 200)),
    )


def names_in(value: object) -> Iterator[str]:
    """Of all domains that an argument is about."""
    match value:
        case DomainFacts():
            yield value.name
        case Incarnation():
            yield value.name
        case FakeGuest():
            yield value.name
        case Snapshot():
            yield from (domain.name for domain in value.domains)
        case TrackedDomain():
            yield value.domain.name
        case Case():
            yield value.domain.name
        case Candidate():
            yield value.case.domain.name
        case list() | tuple():
            for each in value:
                yield from names_in(each)
        case int() if value == 509:
            yield BAD


class Spoilt:
    """A function that raises for the bad domain while it is ``on``."""

    def __init__(self, really: Callable[..., Any], error: BaseException) -> None:
        self.really, self.error, self.on, self.raised = really, error, True, 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.on and any(name == BAD for each in arguments for name in names_in(each)):
            self.raised += 1
            raise self.error
        return self.really(*arguments, **named)

    def __get__(self, instance: object, _owner: object) -> Any:
        """As the method that it stands for."""
        return functools.partial(self, instance)


STAGES: dict[str, tuple[Any, str]] = {
    "its pulse": (controller, "read_for_tick"),
    "what it feels": (TrackedDomain, "add_sample"),
    "what it felt": (tracked_domain, "sample_between"),
    "its heat": (TrackedDomain, "judge"),
    "that it runs": (TrackedDomain, "see"),
    "its fitness": (planner, "judge"),
    "its offers": (planner, "propose"),
    "all shares": (planner, "arbitrate"),
    "the notes": (planner, "notes"),
    "the host's account": (planner, "make_budget"),
    "its standing": (standings, "_standing"),
}


def live(tmp_path: Path) -> tuple[World, Daemon]:
    inhabitants = [guest(BAD, 9), guest("good", 1), guest("other", 2)]
    world = World(tmp_path, policy_text(actor="memcg-reclaim"), inhabitants=inhabitants)
    return world, world.daemon()


def of(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(d for d in daemon.server.status["domains"] if d["name"] == name)
    return found


ERRORS = [KeyError("x"), OverflowError("too large"), RecursionError(), ZeroDivisionError()]


@pytest.mark.parametrize(("stage", "error"), list(zip(STAGES, itertools.cycle(ERRORS), strict=False)))
def test_whatever_goes_wrong_with_one_domain_the_others_are_served(
    stage: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = STAGES[stage]
    with Disk().in_place():
        world, daemon = live(tmp_path)
        spoilt = Spoilt(getattr(module, name), error)
        monkeypatch.setattr(module, name, spoilt)
        daemon.run_for(150)
        assert spoilt.raised
        for good in ("good", "other"):
            assert of(daemon, good)["reclaimed_bytes"] > 0
            assert of(daemon, good)["faults"] is None
        faults = of(daemon, BAD)["faults"]
        assert faults["count"] >= 1
        assert type(error).__name__ in faults["last"]
        assert 0 < faults["at"] <= world.clock.now()
        assert daemon.has_said(f"{BAD}: ")
        assert BAD in daemon.sentence
        if stage != "its standing":
            assert daemon.controller.state.past.taken_from(_incarnation(world)) == 0
            assert not world.host.guests[0].swapped
        assert "left alone after an error" in of(daemon, BAD)["why_not"]
        spoilt.on = False
        daemon.run_for(8 * FIRST_SECONDS)
        assert of(daemon, BAD)["why_not"] is None
        assert of(daemon, BAD)["reclaimed_bytes"] > 0
        daemon.stop()
        result: Restored = world.verbs.restore()
        assert result.left == ()


def _incarnation(world: World) -> Incarnation:
    bad = world.host.guests[0]
    return Incarnation(uuid=bad.uuid, name=bad.name, pid=bad.pid, start_time=bad.start_time)


@pytest.mark.parametrize(
    ("module", "name"), [(facts, "read_cgroup"), (facts, "read_merged"), (facts, "read_start_time")]
)
def test_a_reader_that_nobody_expected_to_fail_is_a_gap(
    module: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Disk().in_place():
        _, daemon = live(tmp_path)
        monkeypatch.setattr(
            module, name, Spoilt(getattr(module, name), IndexError("list index out of range"))
        )
        daemon.run_for(150)
        assert of(daemon, "good")["reclaimed_bytes"] > 0
        seen = daemon.server.status
        gaps = [gap["why"] for gap in seen["gaps"] if BAD in gap["what"]]
        gaps += [gap["why"] for domain in seen["domains"] if domain["name"] == BAD for gap in domain["gaps"]]
        assert any("unexpected IndexError at overcommit/observe/facts.py" in why for why in gaps)
        daemon.stop()


def test_an_action_that_goes_wrong_ends_none_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Disk().in_place():
        world, daemon = live(tmp_path)
        really = world.libvirt.set_balloon

        def set_balloon(uuid: str, size: int) -> None:
            if uuid.endswith("9") and size < 256 * MIB:
                raise ArithmeticError("wrong")
            really(uuid, size)

        monkeypatch.setattr(world.libvirt, "set_balloon", set_balloon)
        daemon.run_for(150)
        assert "unexpected ArithmeticError" in of(daemon, BAD)["faults"]["last"]
        assert of(daemon, "good")["reclaimed_bytes"] > 0
        daemon.stop()


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit(3)])
def test_what_is_nobodys_own_goes_on(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Disk().in_place():
        _, daemon = live(tmp_path)
        monkeypatch.setattr(controller, "read_for_tick", Spoilt(read_for_tick, error))
        with pytest.raises(type(error)):
            daemon.run_for(60)


def test_a_journal_that_fails_is_no_domains_own() -> None:
    boundary = Boundary(FakeClock(FakeHost([])), lambda _event: None)
    who = Incarnation(uuid="u", name=BAD, pid=1, start_time=1)
    with pytest.raises(JournalFailed), boundary.around(who):
        raise JournalFailed("disk full")
    assert boundary.of(who) is None


def test_each_rest_is_longer_and_is_forgotten_in_the_end() -> None:
    host = FakeHost([])
    clock, said = FakeClock(host), list[LogEvent]()
    boundary = Boundary(clock, said.append)
    who = Incarnation(uuid="u", name=BAD, pid=1, start_time=1)
    lengths = []
    for _ in range(9):
        boundary.failed(who, "why")
        began = clock.monotonic()
        while boundary.why_not(who):
            boundary.failed(who, "again")  # what fails meanwhile makes it no longer
            clock.wait(30)
        lengths.append(clock.monotonic() - began)
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert len(said) == 9
    assert (faults := boundary.of(who)) is not None
    assert faults.count == 9 + sum(int(length) for length in lengths) // 30
    clock.wait(601)
    boundary.failed(who, "why")
    began = clock.monotonic()
    while boundary.why_not(who):
        clock.wait(30)
    assert clock.monotonic() - began == 60
    boundary.keep(())
    assert boundary.of(who) is None


def test_who_keeps_failing_gets_back_what_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Disk().in_place():
        world, daemon = live(tmp_path)
        daemon.run_for(150)
        assert daemon.controller.state.past.taken_from(_incarnation(world)) > 0
        monkeypatch.setattr(planner, "judge", Spoilt(judge, KeyError("x")))
        daemon.run_for(700)
        assert daemon.controller.state.past.taken_from(_incarnation(world)) == 0
        assert world.host.guests[0].balloon_target_bytes == 256 * MIB
        assert of(daemon, "good")["reclaimed_bytes"] > 0
        daemon.stop()


@pytest.mark.parametrize("bad", [(), (0,), (6,), (0, 6), (2, 3), (0, 1, 2, 3, 4, 5, 6)])
def test_who_spoils_it_is_found_among_many(bad: tuple[int, ...]) -> None:
    snapshot = _snapshot(7)
    tries = 0

    def attempt(domains: Any) -> list[str]:
        nonlocal tries
        tries += 1
        if any(snapshot[index] in domains for index in bad):
            raise KeyError("x")
        return [domain.name for domain in domains]

    result, failed_domains = without_failed_domains(snapshot, attempt)
    assert result == [domain.name for index, domain in enumerate(snapshot) if index not in bad]
    assert [failed_domain.domain for failed_domain in failed_domains] == [snapshot[index] for index in bad]
    assert tries <= 2 + 2 * len(bad) * 4


def test_what_nobody_spoils_alone_goes_on() -> None:
    def attempt(_domains: Any) -> None:
        raise KeyError("host")

    with pytest.raises(KeyError, match="host"):
        without_failed_domains(_snapshot(2), attempt)


def _snapshot(number: int) -> tuple[DomainFacts, ...]:
    host = FakeHost([guest(f"g{index}", index) for index in range(number)])

    return facts.observe(FakeKernel(host), FakeHypervisor(host), FakeClock(host)).domains
