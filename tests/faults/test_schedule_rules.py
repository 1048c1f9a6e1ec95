"""Each rule that schedules watch can be seen broken: by a product that is broken on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overcommit.apply import resizing
from overcommit.apply.context import Held
from overcommit.model.facts import Residency
from overcommit.model.moments import Monotonic
from overcommit.model.plan import refusal
from overcommit.observe import attempts, memory
from overcommit.plan import authority, case, document, eligibility, planner
from overcommit.testing import Behaviour, FakeGuest
from overcommit.units import MIB
from tests.faults.conftest import guests
from tests.faults.daemon import Disk
from tests.faults.schedules.broken import Broken
from tests.faults.schedules.commands import Kept, another_controller, apply_kept, tampered
from tests.faults.schedules.life import Life


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """With two guests, a daemon, and no faults but those of the test."""
    disk = Disk()
    with disk.in_place():
        life = Life(1, tmp_path, disk)
        life.host.guests[:] = guests()
        life._start()
        assert life.daemon is not None
        yield life
        life.dies()


def named(life: Life, name: str) -> FakeGuest:
    return next(guest for guest in life.host.guests if guest.name == name)


def run(life: Life, seconds: float = 150.0) -> None:
    assert life.daemon is not None
    life._run(life.daemon, seconds)


def test_s1_a_floor_that_is_none(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    really = case.bounds_of
    monkeypatch.setattr(case, "bounds_of", lambda *of: really(*of)._replace(floor_bytes=0))
    monkeypatch.setattr(authority, "bounds_of", case.bounds_of)
    with pytest.raises(Broken, match=r"S1: \w+ holds \d+ MiB, below its floor"):
        run(life)


def test_s1_a_planner_that_knows_no_floor_is_not_followed(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be done is asked once more before it begins, by others than who planned it."""
    really = case.bounds_of
    monkeypatch.setattr(case, "bounds_of", lambda *of: really(*of)._replace(floor_bytes=0))
    run(life)
    assert life.daemon is not None
    assert life.daemon.has_said("does not start: domain")


def test_s2_a_gap_that_is_taken_for_a_figure(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    really = attempts.attempt_or_gap

    def attempt(gaps: list[Any], what: str, call: Callable[[], Any]) -> Any:
        found, before = really(gaps, what, call), len(gaps)
        if found is not None or what != "residency":
            return found
        del gaps[before - 1 :]
        return Residency(resident=tuple(named(life, "cold").ranges_of(set(range(100)))), swapped_bytes=0)

    monkeypatch.setattr(memory, "attempt_or_gap", attempt)
    life.failing, life.unreadable_until = "/pagemap", life.host.uptime + 1000.0
    with pytest.raises(Broken, match=r"S2: \w+ on \w+ without /pagemap"):
        run(life)


def test_s5_what_the_balloon_says_is_claimed(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    really = resizing._outcome

    def outcome(context: Any, action: Any, end: Any, began: float, **figures: Any) -> Any:
        said = Held(action.before_bytes - action.after_bytes, 0)
        return really(context, action, end, Monotonic(began), **figures | {"given": said})

    monkeypatch.setattr(resizing, "_outcome", outcome)
    named(life, "free").behaviour = Behaviour.PHANTOM
    with pytest.raises(Broken, match=r"S5: \d+ MiB of free are said to be freed, where 0 MiB are gone"):
        run(life)


def test_s6_a_guest_that_is_paused_is_taken_for_fit(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligibility, "_against_now", lambda _domain: iter(()))
    named(life, "cold").paused = True
    with pytest.raises(Broken, match="S6: cold is said to be fit"):
        run(life)


def test_s6_a_reason_that_is_none(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligibility, "_against_now", lambda _domain: iter([refusal("", "")]))
    with pytest.raises(Broken, match=r"S6: \w+ is skipped for \w+, and nobody says why"):
        run(life)


def test_s6_who_gave_nothing_is_not_given_back(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "_PHANTOM_SHARE", -1.0)
    named(life, "free").behaviour = Behaviour.PHANTOM
    with pytest.raises(Broken, match=r"S6: free gave, and the host still holds \d+ MiB of that"):
        run(life)


def test_s6_no_quarantine(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "quarantined", lambda *_: {})
    named(life, "free").behaviour = Behaviour.PHANTOM
    with pytest.raises(Broken, match="S6: free is in quarantine, and is asked again"):
        run(life, 400.0)


def test_s8_a_guest_is_believed_everything(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = "overcommit.hypervisor.guest_figures"
    monkeypatch.setattr(f"{figures}.checked_balloon", lambda stats, **_: stats)
    monkeypatch.setattr("overcommit.plan.rungs.balloon.kept_bytes", lambda *_: 8 * MIB)
    monkeypatch.setattr("overcommit.plan.rungs.balloon.guest_reserve", lambda *_: 8 * MIB)
    named(life, "cold").says_usable_bytes = 1 << 62
    with pytest.raises(Broken, match="S8: cold is to have 8 MiB"):
        run(life)


def test_s11_a_lock_that_locks_nobody_out(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    run(life, 10.0)
    for turn in range(6):
        another_controller(life.world, random.Random(turn))
    monkeypatch.setattr("overcommit.records.controller_lock.fcntl.flock", lambda *_: None)
    with pytest.raises(Broken, match="S11: a second"):
        another_controller(life.world, random.Random(0))


@pytest.fixture
def kept(life: Life) -> Kept:
    """A plan with something to do, kept aside; nobody is at work any more."""
    life.stops()
    policy = life.world.verbs.policy.digest
    plan = life.world.verbs.plan()
    assert plan.runnable
    return Kept(text=document.dumps(plan), policy=policy)


def test_s12_a_plan_that_fits_is_applied(life: Life, kept: Kept) -> None:
    assert apply_kept(life.world, kept, edited=False)


def edits(_life: Life, kept: Kept) -> Kept:
    return Kept(text=tampered(kept.text, random.Random(1)), policy=kept.policy)


def waits(life: Life, kept: Kept) -> Kept:
    life.world.clock.jump(86400.0)
    return kept


def restarts(life: Life, kept: Kept) -> Kept:
    for guest in life.host.guests:
        guest.start_time += 1
    return kept


def policy_changes(life: Life, kept: Kept) -> Kept:
    path = life.world.policy_path
    path.write_text(path.read_text().replace("20s", "30s"))
    return kept


@pytest.mark.parametrize("change", [edits, waits, restarts, policy_changes])
def test_s12_what_is_stale_is_refused_and_would_be_missed(
    life: Life, kept: Kept, change: Callable[[Life, Kept], Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = change(life, kept)
    assert not apply_kept(life.world, kept, edited=change is edits)
    monkeypatch.setattr(document, "_digest", lambda _document: "the same")
    monkeypatch.setattr(document, "_says_no_more", lambda *_: True)
    monkeypatch.setattr(document, "flaws", lambda *_: ())
    monkeypatch.setattr(document, "_contradictions", lambda _plan: ())
    monkeypatch.setattr("overcommit.control.applying.require_fresh", lambda *_: None)
    text = kept.text.replace(kept.text.rpartition('"digest": "')[2].partition('"')[0], "the same")
    with pytest.raises((Broken, KeyError), match=r"S12: a plan is applied although|uuid="):
        apply_kept(life.world, Kept(text=text, policy=kept.policy), edited=change is edits)


def test_s12_more_is_moved_than_was_written(life: Life, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    really = type(life.world.libvirt).set_balloon
    monkeypatch.setattr(
        "overcommit.testing.FakeHypervisor.set_balloon",
        lambda libvirt, uuid, size: really(libvirt, uuid, size - MIB),
    )
    with pytest.raises(Broken, match=r"S12: balloon/free is moved to \d+, not between"):
        apply_kept(life.world, kept, edited=False)
