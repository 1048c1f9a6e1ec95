"""The verbs that remember: history, reservations, quarantines, on a host of fakes."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from pytest_mock import MockerFixture

from overcommit.apply.restore import Restored
from overcommit.cli import apply, reserve
from overcommit.control import freeing
from overcommit.damon.pool import DamonPool
from overcommit.errors import Conflict, HostError, JournalFailed, StalePlan, Unsupported
from overcommit.model.history import Event
from overcommit.model.moments import Wall
from overcommit.model.plan import Plan
from overcommit.records.journal import Journal
from overcommit.records.ledger import Ledger
from overcommit.records.lines import append
from overcommit.testing import Behaviour, FakeClock, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import GIB, KIB, MIB, format_size
from tests.cli.conftest import Ended, Run
from tests.installed_fakes import Unforked, put_in_place, two_guests

POLICY = """
version: 1
host: {reserve: 8%, reclaim: MODE, swap: {max_used: 60%, max_write: 50MiB/s}}
classes: {all: {floor: 20%, cold_after: 20s}}
default_class: all
"""
FAILED, IN_PART, REFUSED, USAGE = 1, 3, 4, 64
ABOVE_THE_RESERVE = 2 * GIB - 200 * MIB - round(0.08 * 2 * GIB)
"""What is available above the reserve while both guests have all that they have."""


@pytest.fixture
def host(mocker: MockerFixture) -> FakeHost:
    """A guest with cold memory and one with free memory, on 2 GiB."""
    host = two_guests("cold", "free")
    mocker.patch("os.geteuid", return_value=0)
    put_in_place(mocker, host)
    return host


def policy_file(directory: Path, mode: str = "proactive") -> Path:
    path = directory / "policy.yaml"
    path.write_text(POLICY.replace("MODE", mode))
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return policy_file(tmp_path)


def events(run: Run, *arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("history", "--json", *arguments).out)["events"]
    return found


def promised(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("reserve", "--list", "--json").out)["reservations"]
    return found


def last_line(ended: Ended) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
    return line


def above_the_reserve(host: FakeHost) -> int:
    return host.available_bytes // KIB * KIB - round(0.08 * 2 * GIB)


def resident(host: FakeHost) -> list[int]:
    return [len(guest.resident) for guest in host.guests]


@pytest.mark.usefixtures("host")
def test_a_history_of_nothing(run: Run, state: Path) -> None:
    ended = run("history")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == ("No events. overcommit changed nothing here, or it was too long ago.\n")
    assert events(run) == []
    assert not state.exists()


@pytest.mark.usefixtures("host")
def test_history_tells_who_lost_memory_when_and_why(run: Run, policy: Path) -> None:
    assert run("apply", "--yes", "--policy", policy).status == 0
    balloon, pageout = events(run)
    assert (balloon["about"], balloon["kind"], balloon["status"]) == ("free", "balloon", "done")
    assert (balloon["generation"], balloon["in_force"]) == (1, True)
    assert (balloon["before_bytes"], balloon["planned_bytes"], balloon["reached_bytes"]) == (
        128 * MIB,
        57 * MIB,
        57 * MIB,
    )
    assert balloon["because"].startswith("the guest uses 25.0 MiB of 128 MiB")
    assert balloon["domain"] == {"uuid": "uuid-2", "name": "free", "pid": 502, "start_time": 1000}
    assert (pageout["about"], pageout["kind"], pageout["expected_bytes"]) == ("cold", "pageout", 74 * MIB)
    assert (pageout["generation"], pageout["in_force"]) == (None, None), "nothing to undo"
    assert balloon["run"] == pageout["run"]
    assert len(balloon["policy_digest"]) == 64
    text = run("history").out
    assert "time " in text.splitlines()[0]
    assert [line.split()[1:4] for line in text.splitlines() if line.startswith("  2")] == [
        ["free", "balloon", "done"],
        ["cold", "pageout", "done"],
    ]
    assert "71.0 MiB of 43.0 MiB" in text
    assert "generation 1" in text
    assert "reason: the guest uses 25.0 MiB" in text


@pytest.mark.usefixtures("host")
def test_history_knows_what_was_put_back(run: Run, policy: Path) -> None:
    run("apply", "--yes", "--policy", policy)
    run("restore")
    balloon, _, restored = events(run)
    assert balloon["in_force"] is False
    assert (restored["kind"], restored["detail"]) == ("restore", "balloon of free back at 128 MiB")
    assert "put back" in run("history").out
    run("restore")
    assert len(events(run)) == 3, "nothing was restored, and nothing is told"


@pytest.mark.usefixtures("host")
def test_restore_of_a_later_generation_says_what_is_still_in_force(run: Run, policy: Path) -> None:
    run("apply", "--yes", "--policy", policy)
    ended = run("restore", "99")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == (
        "Nothing of generation 99 or later is in force. Still in force: generation 1 (apply): 1 change\n"
    )
    run("restore")
    assert run("restore", "99").out == "Nothing to restore: overcommit has changed nothing on this host.\n"


def test_after_a_boot_nothing_of_the_last_one_is_in_force(run: Run, policy: Path, host: FakeHost) -> None:
    run("apply", "--yes", "--policy", policy)
    assert len(json.loads(run("status", "--json", "--policy", policy).out)["generations"]) == 1
    host.boot_id = "22222222-2222-3333-4444-555555555555"
    seen = json.loads(run("status", "--json", "--policy", policy).out)
    assert (seen["generations"], seen["outstanding_generations"]) == ([], [])
    assert "0 generations in force" in seen["sentence"]
    assert [event["in_force"] for event in events(run)] == [False, None]
    ended = run("restore", "99")
    assert ended.out == "Nothing to restore: overcommit has changed nothing on this host.\n"


def test_restore_as_the_first_verb_gives_a_domain_back_what_it_gave_elsewhere(
    run: Run, host: FakeHost
) -> None:
    """It migrated: this host's journal knows nothing of it."""
    free = host.guests[1]
    free.claim = {"balloon": 128 * MIB}
    free.balloon_bytes = free.balloon_target_bytes = 80 * MIB
    free.report()
    ended = run("restore", "1")
    assert ended.out == "Nothing to restore: overcommit has changed nothing on this host.\n"
    ended = run("restore")
    assert (ended.status, ended.out) == (0, "  balloon of free back at 128 MiB\n")
    assert "free arrived after another host took 48.0 MiB of its balloon" in ended.err
    assert (free.balloon_target_bytes, free.claim) == (128 * MIB, {})
    assert run("restore").out == "Nothing to restore: overcommit has changed nothing on this host.\n"


def test_restore_asks_no_guest_whose_claim_is_on_record_and_gives_damon_back_before_libvirt_is_asked(
    run: Run, policy: Path, state: Path, host: FakeHost, mocker: MockerFixture
) -> None:
    """A guest that hangs, or libvirt that is away, keeps no kdamond at work."""
    run("apply", "--yes", "--policy", policy)
    kernel = FakeKernel(host)
    journal = Journal(state)
    generation = journal.begin("overcommitd", boot_id=host.boot_id, started_at=Wall(0.0))
    mocker.patch("overcommit.cli.session.DamonWorker").return_value = unforked = Unforked(host, kernel.damon)
    found = repr(kernel.damon.tree)
    DamonPool(kernel, journal, generation).acquire(1, take_over=True)
    assert repr(unforked.damon.tree) != found
    seen: list[bool] = []

    def connect(*_: object, **__: object) -> FakeHypervisor:
        seen.append(repr(unforked.damon.tree) == found)
        return FakeHypervisor(host)

    mocker.patch("overcommit.cli.session.LibvirtClient", side_effect=connect)
    mocker.patch("overcommit.control.restoring.observe", side_effect=AssertionError("all guests are asked"))
    ended = run("restore")
    assert seen == [True]
    assert ended.status == 0
    assert "was not checked" not in ended.err
    given, balloon, swap = ended.out.splitlines()
    assert (given, balloon) == ("  released DAMON (1 kdamond slot)", "  balloon of free back at 128 MiB")
    assert swap == (
        "  70.0 MiB of guest memory stays in swap (cold 70.0 MiB). "
        "Each page comes back when its guest touches it"
    )
    again = run("restore").out.splitlines()
    assert again == ["Nothing to restore: no change of overcommit is in force.", swap]


def test_restore_says_what_it_could_not_look_for_and_does_the_rest(
    run: Run, policy: Path, host: FakeHost, mocker: MockerFixture
) -> None:
    run("apply", "--yes", "--policy", policy)
    away = Unsupported("libvirtd does not answer")
    mocker.patch("overcommit.cli.session.LibvirtClient", side_effect=away)
    ended = run("restore")
    assert "what domains gave on other hosts was not checked: libvirtd does not answer" in ended.err
    assert (ended.status, ended.out) == (
        IN_PART,
        "  NOT restored: balloon of free: libvirtd does not answer\n",
    )
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(host))
    assert run("restore").status == 0


def test_restore_says_so_where_the_disk_takes_no_record_of_what_came(
    run: Run, host: FakeHost, mocker: MockerFixture
) -> None:
    free = host.guests[1]
    free.claim = {"balloon": 128 * MIB}
    free.balloon_bytes = free.balloon_target_bytes = 80 * MIB
    mocker.patch("overcommit.records.lines.os.write", side_effect=OSError(28, "No space left on device"))
    ended = run("restore")
    assert ended.status == IN_PART
    assert "NOT restored: what domains gave on other hosts: cannot write the undo journal" in ended.out
    assert (free.balloon_target_bytes, free.claim) == (80 * MIB, {"balloon": 128 * MIB})


def test_a_part_of_history(run: Run, policy: Path, host: FakeHost) -> None:
    run("apply", "--yes", "--policy", policy)
    assert [e["about"] for e in events(run, "cold")] == ["cold"]
    assert [e["about"] for e in events(run, "-n", "1")] == ["cold"]
    assert [e["about"] for e in events(run, "free", "cold")] == ["free", "cold"]
    host.advance(60)
    assert events(run, "--since", "59s") == []
    assert len(events(run, "--since", "2min")) == 2
    for since in ("2m", "2 minutes", "1h 1s"):
        assert len(events(run, "--since", since)) == 2
    assert len(events(run, "--since", "2001-01-01")) == 2


def test_history_of_a_domain_that_there_is_not(run: Run, policy: Path, host: FakeHost) -> None:
    run("apply", "--yes", "--policy", policy)
    ended = run("history", "cld")
    assert (ended.status, ended.out) == (USAGE, "")
    assert ended.err == (
        "error: no domain 'cld' is running, and history has no events of one\nhint:  did you mean cold?\n"
    )
    host.guests[1].name = "new"
    assert run("history", "new").status == 0, "it runs, and nothing was done to it"
    assert run("history", "free").status == 0, "it does not run any more"


def test_what_is_free_is_promised_at_once(run: Run, policy: Path, host: FakeHost) -> None:
    before = resident(host)
    ended = run("reserve", "1GiB", "--for", "new", "--hold", "5min", "--policy", policy)
    assert ended.status == 0
    assert ended.out.startswith("reservation 1: 1.0 GiB for new until 20")
    assert ended.out.endswith(" (5min left)\n")
    assert "reserve --cancel 1" in ended.err
    assert resident(host) == before
    (found,) = promised(run)
    assert (found["id"], found["for"], found["size_bytes"]) == (1, "new", GIB)
    assert [(e["kind"], e["about"], e["status"]) for e in events(run, "new")] == [("reserve", "new", "done")]
    status = json.loads(run("status", "--json").out)
    assert status["reservations"] == [found]
    assert "reservation 1: 1.0 GiB for new until" in run("status").out
    host.advance(300)
    assert promised(run) == []
    assert run("reserve", "--list").out == "Nothing is reserved.\n"


@pytest.mark.usefixtures("host")
def test_two_promises_are_not_of_the_same_memory(run: Run, policy: Path) -> None:
    run("reserve", "1GiB", "--policy", policy)
    ended = run("reserve", "1GiB", "--policy", policy)
    assert ended.status == REFUSED
    assert "1.0 GiB cannot be reserved" in ended.err
    assert run("reserve", "--cancel", "1").out == "reservation 1 of 1.0 GiB ended.\n"
    assert run("reserve", "1GiB", "--policy", policy).status == 0
    assert [e["kind"] for e in events(run)] == ["reserve", "cancel", "reserve"]


@pytest.mark.usefixtures("host")
def test_a_plan_keeps_what_was_promised_free(run: Run, tmp_path: Path) -> None:
    policy = policy_file(tmp_path, "on_pressure")
    arguments = ("plan", "--detailed-exitcode", "--json", "--policy", policy)
    assert run(*arguments).status == 0
    run("reserve", f"{ABOVE_THE_RESERVE}", "--policy", policy)
    assert json.loads(run(*arguments).out)["host"]["headroom_bytes"] == 0
    assert run(*arguments).status == 0


def test_only_what_is_missing_is_freed_first(run: Run, policy: Path, host: FakeHost) -> None:
    before = sum(resident(host))
    ended = run("reserve", f"{ABOVE_THE_RESERVE + 50 * MIB}", "--yes", "--policy", policy)
    assert ended.status == 0
    assert "50.0 MiB of 1.7 GiB is missing" in ended.err
    assert "Frees at least 50.0 MiB" in ended.out
    assert ended.out.splitlines()[-1].startswith("reservation 1: 1.7 GiB until")
    assert before - 120 < sum(resident(host)) <= before - 50, "less than the 141 that apply would take"
    assert above_the_reserve(host) >= promised(run)[0]["size_bytes"]
    *actions, reserve = events(run)
    assert {action["run"] for action in actions} == {reserve["run"]}
    assert (
        reserve["freed_bytes"] == sum(a["freed_bytes"] for a in actions) == (200 - sum(resident(host))) * MIB
    )


def test_a_reservation_goes_on_until_enough_has_become_idle(run: Run, policy: Path, host: FakeHost) -> None:
    """One guest's memory comes out of use only after the first round."""
    cold = host.guests[0]
    cold.hot = set(range(100))
    rounds = []

    def cool_down(seconds: float) -> None:
        rounds.append(seconds)
        if sum(rounds) > 60:
            cold.hot = set(range(16))

    host.workers.append(cool_down)
    size = ABOVE_THE_RESERVE + 90 * MIB
    ended = run("reserve", f"{size}", "--yes", "--json", "--policy", policy)
    assert ended.status == 0
    assert last_line(ended)["granted"] is True
    assert [e["about"] for e in events(run)][:2] == ["free", "cold"]
    assert above_the_reserve(host) >= size


def test_what_cannot_be_freed_is_not_promised_and_it_is_said_who_gives_nothing(
    run: Run, policy: Path, host: FakeHost
) -> None:
    for guest in host.guests:
        guest.paused = True
    before, began = resident(host), host.uptime
    ended = run(
        "reserve", f"{ABOVE_THE_RESERVE + 50 * MIB}", "--yes", "--timeout", "1min", "--policy", policy
    )
    assert ended.status == REFUSED
    assert "error: 1.7 GiB is not reserved: 50.0 MiB is missing" in ended.err
    assert "cold gives nothing of its 100 MiB: no balloon: the domain is paused" in ended.err
    assert ended.err.count("is missing\n  cold gives nothing") == 1, "said once, while it stays like that"
    assert 60 <= host.uptime - began < 90
    assert resident(host) == before
    assert promised(run) == []
    (event,) = events(run)
    assert (event["kind"], event["status"]) == ("reserve", "failed")


def test_what_zfs_has_to_give_back_first_is_not_promised_and_it_is_said_how_to_have_it(
    run: Run, policy: Path, host: FakeHost
) -> None:
    for guest in host.guests:
        guest.paused = True
    host.arc_bytes, host.arc_minimum_bytes = host.available_bytes - 40 * MIB, 16 * MIB
    ended = run("reserve", f"{GIB}", "--yes", "--timeout", "1min", "--policy", policy)
    assert ended.status == REFUSED
    wanted = GIB + round(0.08 * 2 * GIB)
    assert "is missing\n  " in ended.err
    assert f"echo {wanted} > /sys/module/zfs/parameters/zfs_arc_sys_free" in ended.err
    assert promised(run) == []


def test_what_was_freed_in_vain_is_told(run: Run, policy: Path, host: FakeHost) -> None:
    size = ABOVE_THE_RESERVE + 160 * MIB
    ended = run("reserve", f"{size}", "--yes", "--timeout", "2min", "--json", "--policy", policy)
    assert ended.status == IN_PART
    line = last_line(ended)
    assert (line["type"], line["granted"]) == ("reservation", False)
    assert line["missing_bytes"] == size - above_the_reserve(host)
    assert line["freed_bytes"] == (200 - sum(resident(host))) * MIB
    assert any("cold gives nothing" in obstacle for obstacle in line["obstacles"])
    assert "was freed" in ended.err
    assert promised(run) == []


def test_nothing_is_taken_from_the_domain_that_it_is_for(run: Run, policy: Path, host: FakeHost) -> None:
    """What it holds counts: it lacks 50 MiB of its share, which the other must give."""
    size = ABOVE_THE_RESERVE + 100 * MIB + 50 * MIB
    ended = run("reserve", f"{size}", "--for", "cold", "--yes", "--policy", policy)
    assert ended.status == 0
    assert resident(host)[0] == 100
    assert resident(host)[1] <= 50


@pytest.mark.parametrize("size", ["1GiB", "3GiB"])
@pytest.mark.usefixtures("host")
def test_a_policy_that_reclaims_nothing_reserves_nothing(run: Run, tmp_path: Path, size: str) -> None:
    ended = run("reserve", size, "--yes", "--policy", policy_file(tmp_path, "off"))
    assert ended.status == REFUSED
    assert "reclaim: off" in ended.err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], USAGE, "one of SIZE, --list and --cancel is needed"),
        (["1GiB", "--list"], USAGE, "one of SIZE"),
        (["--cancel", "7"], USAGE, "no reservation 7 is in force"),
        (["1GB"], USAGE, "not a size: '1GB'"),
        (["1GiB", "--hold", "5"], USAGE, "not a duration"),
        (["1GiB", "--hold", "99999999d"], USAGE, "'99999999d' is longer than 3650d"),
        (["1GiB", "--hold", "0s"], USAGE, "must be more than 0"),
        (["0"], USAGE, "must be more than 0"),
        (["3GiB"], REFUSED, "the host has 1.8 GiB"),
        ([f"{ABOVE_THE_RESERVE + MIB * 50}"], USAGE, "cannot ask for confirmation"),
    ],
    ids=str,
)
def test_what_reserve_refuses(
    run: Run, policy: Path, host: FakeHost, arguments: list[str], status: int, says: str
) -> None:
    before = resident(host)
    ended = run("reserve", *arguments, "--policy", policy)
    assert (ended.status, says in ended.err) == (status, True), ended.err
    assert resident(host) == before


@pytest.mark.usefixtures("host")
def test_a_promise_for_longer_than_dates_can_be_written_is_listed_and_taken_back(
    run: Run, state: Path
) -> None:
    """Older versions granted it, and then neither `reserve --list` nor `status` could show anything."""
    state.mkdir()
    Ledger(state, warn=pytest.fail).grant(
        GIB, None, now=Wall(0.0), expires_at=Wall(8.6e12), boot_id="11111111-2222-3333-4444-555555555555"
    )
    assert "1.0 GiB until after the year 9999" in run("reserve", "--list").out
    assert "until after the year 9999" in run("status").out
    assert run("reserve", "--cancel", "1").status == 0


class Killed(BaseException):
    """SIGKILL."""


@pytest.mark.usefixtures("host")
def test_killed_between_the_promise_and_its_announcement(
    run: Run, policy: Path, mocker: MockerFixture
) -> None:
    """It stands, is listed, and ends by itself: nobody has to know of it."""
    mocker.patch("overcommit.cli.reserve.reservation_text", side_effect=Killed)
    with pytest.raises(Killed):
        run("reserve", "1GiB", "--policy", policy)
    assert [found["size_bytes"] for found in promised(run)] == [GIB]


@pytest.mark.usefixtures("host")
def test_a_promise_that_cannot_be_kept_on_disk_is_none(run: Run, policy: Path, state: Path) -> None:
    run("reserve", "1GiB", "--policy", policy)
    run("reserve", "--cancel", "1")
    connection = sqlite3.connect(state / "history.db", isolation_level=None)
    connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON reservations BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    connection.close()
    ended = run("reserve", "1GiB", "--policy", policy)
    assert ended.status == FAILED
    assert "cannot keep the history" in ended.err
    assert ended.out == ""
    assert promised(run) == []


@pytest.fixture
def stuck(run: Run, policy: Path, host: FakeHost) -> dict[str, Any]:
    """The quarantine of a guest whose balloon stood still."""
    plan = policy.with_name("plan.json")
    run("plan", "--policy", policy, "--domain", "free", "-o", plan)
    host.guests[1].behaviour = Behaviour.STUCK
    assert run("apply", plan, "--policy", policy).status != 0
    (found,) = json.loads(run("status", "--json", "--policy", policy).out)["quarantines"]
    assert isinstance(found, dict)
    return found


def test_a_balloon_that_stood_still_is_left_alone_for_a_while(
    run: Run, host: FakeHost, stuck: dict[str, Any]
) -> None:
    (event,) = events(run)
    assert event["fault"] == "stuck"
    assert stuck["domain"] == "free"
    assert stuck["until"] == event["at"] + 600
    assert stuck["reason"].startswith("its balloon stood still at 128 MiB ")
    assert "free: no balloon until 20" in run("status").out
    host.advance(600)
    assert json.loads(run("status", "--json").out)["quarantines"] == []


def test_another_life_of_the_domain_is_not_held_to_account(
    run: Run, host: FakeHost, stuck: dict[str, Any]
) -> None:
    assert stuck["uuid"] == host.guests[1].uuid
    host.guests[1].start_time += 1
    assert json.loads(run("status", "--json").out)["quarantines"] == []


@pytest.mark.usefixtures("stuck")
def test_an_operator_can_end_a_quarantine(run: Run) -> None:
    assert run("release", "cold").out == "cold is not in quarantine.\n"
    slip = run("release", "fre")
    assert (slip.status, slip.out) == (USAGE, "")
    assert "did you mean free?" in slip.err
    assert "to end it: overcommitctl release free\n" in run("status").out
    ended = run("release", "free")
    assert ended.status == 0
    assert ended.out.startswith(
        "free: balloon can be used again. It was in quarantine because its balloon stood still"
    )
    assert json.loads(run("status", "--json").out)["quarantines"] == []
    assert json.loads(run("release", "free", "--json").out) == {"kind": "release", "released": []}
    assert [(e["kind"], e["about"]) for e in events(run)] == [("balloon", "free"), ("release", "free")]


@pytest.mark.usefixtures("host")
def test_waiting_goes_on_until_nothing_is_left_to_do(run: Run, policy: Path) -> None:
    ended = run("apply", "--yes", "--wait", "--policy", policy)
    assert "round 1 freed 141 MiB. Planning again" in ended.err
    assert "nothing more to do" in ended.err
    assert ended.out.count("Freed ") == 1
    assert ended.status == 0


def test_waiting_takes_what_becomes_idle_meanwhile(run: Run, policy: Path, host: FakeHost) -> None:
    cold = host.guests[0]
    cold.hot = set(range(70))

    def cool_down(_seconds: float) -> None:
        if len(cold.swapped) > 20:
            cold.hot = set(range(16))

    host.workers.append(cool_down)
    ended = run("apply", "--yes", "--wait", "--json", "--policy", policy)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["domain"] for line in lines if line["type"] == "started"] == ["free", "cold", "cold"]
    assert (lines[-1]["rounds"], lines[-1]["freed_bytes"]) == (2, (200 - sum(resident(host))) * MIB)
    assert lines[-1]["host"]["available_before_bytes"] == 2 * GIB - 200 * MIB
    assert lines[-1]["host"]["available_after_bytes"] == host.available_bytes // KIB * KIB
    assert ended.status == 0


def test_waiting_ends_when_little_is_gained(run: Run, policy: Path, host: FakeHost) -> None:
    """Swap that is full gives the same plan again and again."""
    plan = policy.with_name("plan.json")
    run("plan", "--policy", policy, "-o", plan)
    host.guests[1].behaviour = Behaviour.REFUSING
    host.guests[0].hot = set(range(100))
    ended = run("apply", "--yes", "--wait", "--policy", policy)
    assert "round 2 freed 0 B, again almost nothing. Stopping" in ended.err
    assert ended.status == FAILED


@pytest.mark.usefixtures("host")
def test_waiting_ends_when_the_time_is_up(run: Run, policy: Path) -> None:
    ended = run("apply", "--yes", "--wait", "--timeout", "1s", "--policy", policy)
    assert "round 1 freed 141 MiB. Stopping at the timeout" in ended.err


@pytest.mark.usefixtures("host")
def test_a_saved_plan_is_applied_once(run: Run, policy: Path) -> None:
    plan = policy.with_name("plan.json")
    run("plan", "--policy", policy, "-o", plan)
    ended = run("apply", plan, "--wait", "--policy", policy)
    assert ended.status == USAGE
    assert "--wait does not fit a saved plan" in ended.err
    first, then = (
        f"overcommitctl apply --policy {policy} {plan}",
        f"overcommitctl apply --policy {policy} --wait",
    )
    assert f"hint:  first {first}, then {then}\n" in ended.err


@pytest.fixture
def one_plan_only(mocker: MockerFixture) -> None:
    """Whoever plans again finds that DAMON has become somebody else's."""
    conflict = Conflict("kdamond 0 was started by another tool", hint="stop it with that tool")
    for verb in (apply, freeing):
        really, made = verb.plan_now, list[Plan]()

        def once(*arguments: Any, really: Any = really, made: list[Plan] = made, **options: Any) -> Plan:
            if made:
                raise conflict
            made.append(really(*arguments, **options))
            return made[0]

        mocker.patch.object(verb, "plan_now", once)


@pytest.mark.usefixtures("host", "one_plan_only")
def test_what_was_done_before_a_round_that_fails_is_told(run: Run, policy: Path) -> None:
    ended = run("apply", "--yes", "--wait", "--policy", policy)
    assert ended.status == IN_PART
    assert ended.out.count("Freed 141 MiB of guest memory") == 1
    assert ended.err.splitlines()[-3:] == [
        "generation 1 is in force. To undo: overcommitctl restore",
        "error: kdamond 0 was started by another tool",
        "hint:  stop it with that tool",
    ]


@pytest.mark.usefixtures("host", "one_plan_only")
def test_a_round_that_fails_leaves_programs_their_summary(run: Run, policy: Path) -> None:
    ended = run("apply", "--yes", "--wait", "--json", "--policy", policy)
    line = last_line(ended)
    assert (ended.status, line["type"], line["rounds"]) == (IN_PART, "summary", 1)
    assert (line["freed_bytes"] > 0, line["complete"]) == (True, False)


@pytest.fixture
def full_disk(mocker: MockerFixture) -> None:
    """The disk of the journal takes nothing more as soon as one action has ended, before the next begins."""
    mocker.patch("overcommit.apply.execute.MOST_AT_ONCE", 1)
    really_note, ended = Ledger.note, list[Event]()

    def note(ledger: Ledger, event: Event) -> None:
        ended.append(event)
        really_note(ledger, event)

    def refuse(path: Path, line: Mapping[str, Any]) -> None:
        if ended and "record" in line:
            raise JournalFailed("cannot write the undo journal: No space left on device")
        append(path, line)

    mocker.patch.object(Ledger, "note", note)
    mocker.patch("overcommit.records.journal.append", refuse)


@pytest.mark.usefixtures("full_disk")
def test_what_was_done_before_the_disk_was_full_is_told(run: Run, policy: Path, host: FakeHost) -> None:
    host.guests[0].free = set(range(25, 100))
    ended = run("apply", "--yes", "--json", "--policy", policy)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    began_or_ended = [line["type"] for line in lines if line["type"] in {"started", "done"}]
    assert began_or_ended == ["started", "done", "started"]
    assert (lines[-1]["type"], lines[-1]["rounds"], lines[-1]["complete"]) == ("summary", 1, False)
    assert lines[-1]["freed_bytes"] == sum(e["freed_bytes"] for e in events(run)) > 0
    assert ended.status == IN_PART
    assert "error: cannot write the undo journal" in ended.err


@pytest.mark.usefixtures("one_plan_only")
def test_a_reservation_tells_what_was_freed_before_it_could_not_go_on(
    run: Run, policy: Path, host: FakeHost
) -> None:
    size = ABOVE_THE_RESERVE + 160 * MIB
    ended = run("reserve", f"{size}", "--yes", "--json", "--policy", policy)
    assert ended.status == IN_PART
    line = last_line(ended)
    assert (line["type"], line["granted"]) == ("reservation", False)
    assert line["missing_bytes"] == size - above_the_reserve(host)
    assert line["freed_bytes"] == (200 - sum(resident(host))) * MIB
    assert line["obstacles"][0] == "kdamond 0 was started by another tool"
    assert "was freed" in ended.err
    *actions, reserve = events(run)
    assert len(actions) == 2
    assert (reserve["kind"], reserve["status"]) == ("reserve", "partial")
    assert "kdamond 0 was started by another tool" in reserve["detail"]


@pytest.mark.usefixtures("one_plan_only")
def test_a_reservation_that_needs_no_further_round_is_granted(
    run: Run, policy: Path, host: FakeHost, mocker: MockerFixture
) -> None:
    """What failed came after enough had become free."""
    mocker.patch("overcommit.control.freeing.more_than", side_effect=HostError("libvirt is away"))
    ended = run("reserve", f"{ABOVE_THE_RESERVE + 50 * MIB}", "--yes", "--policy", policy)
    assert ended.status == 0
    assert "ending: libvirt is away" in ended.err
    assert promised(run)[0]["size_bytes"] <= above_the_reserve(host)


@pytest.mark.parametrize("waiting", [(), ("--wait",)], ids=["once", "in rounds"])
def test_only_who_saved_a_plan_is_told_to_save_another(
    run: Run, policy: Path, host: FakeHost, mocker: MockerFixture, waiting: tuple[str, ...]
) -> None:
    saved = policy.with_name("plan.json")
    run("plan", "--policy", policy, "-o", saved)
    host.guests[1].balloon_target_bytes = 100 * MIB
    host.advance(60)
    ended = run("apply", saved, "--policy", policy)
    assert (ended.status, "error: the plan is stale: the balloon of domain free" in ended.err) == (
        REFUSED,
        True,
    )
    again = f"overcommitctl plan --policy {policy} -o {saved}"
    assert ended.err.endswith(f"hint:  {again}\n")
    mocker.patch(
        "overcommit.control.applying.require_fresh",
        side_effect=StalePlan("the plan is stale: so it is", hint="plan again"),
    )
    ended = run("apply", "--yes", *waiting, "--policy", policy)
    assert (ended.status, ended.err.splitlines()[-1]) == (REFUSED, "hint:  plan again")


@pytest.mark.usefixtures("host")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_plan_that_others_could_have_written_is_applied_only_when_told_so(run: Run, policy: Path) -> None:
    saved = policy.with_name("plan.json")
    run("plan", "--policy", policy, "-o", saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    os.chown(saved, 65534, 65534)
    ended = run("apply", saved, "--policy", policy)
    assert (ended.status, f"the plan {saved} is not trusted: it belongs to uid 65534" in ended.err) == (
        REFUSED,
        True,
    )
    assert "or add --trust-file" in ended.err
    assert events(run) == []
    assert run("apply", saved, "--trust-file", "--policy", policy).status == 0
    assert run("apply", "--trust-file", "--yes", "--policy", policy).status == 64


@pytest.mark.usefixtures("host")
def test_an_interruption_is_told_with_what_it_leaves(run: Run, policy: Path, mocker: MockerFixture) -> None:
    mocker.patch("overcommit.cli.apply.agreed", side_effect=click.Abort)
    mocker.patch("overcommit.cli.apply.require_somebody_to_ask")
    ended = run("apply", "--policy", policy)
    assert (ended.status, ended.err.splitlines()[-1]) == (130, "error: interrupted; DAMON was released")
    mocker.patch("overcommit.cli.doing._TextTeller.finished", side_effect=KeyboardInterrupt)
    ended = run("apply", "--yes", "--policy", policy)
    assert ended.status == 130
    assert ended.err.splitlines()[-2:] == [
        "error: interrupted; DAMON was released",
        "hint:  to undo what was done: overcommitctl restore",
    ]
    assert len(events(run)) == 2


def interrupt_after(mocker: MockerFixture, progress: str, calls: int) -> None:
    """Ctrl-C in the wait that follows when progress was told so often."""
    told = mocker.patch(progress)
    really_wait, interrupted = FakeClock.wait, list[bool]()

    def wait(clock: FakeClock, seconds: float) -> None:
        if told.call_count >= calls and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        really_wait(clock, seconds)

    mocker.patch.object(FakeClock, "wait", wait)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("waiting", [(), ("--wait",)], ids=["in an action", "between rounds"])
def test_an_interruption_tells_what_was_done_before_it(
    run: Run, policy: Path, mocker: MockerFixture, waiting: tuple[str, ...]
) -> None:
    if waiting:
        mocker.patch("overcommit.cli.apply._go_on", side_effect=KeyboardInterrupt)
    else:
        interrupt_after(mocker, "overcommit.cli.doing._JsonTeller.progress", 3)
    ended = run("apply", "--yes", "--json", *waiting, "--policy", policy)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    done = [line["freed_bytes"] for line in lines if line["type"] in {"done", "failed"}]
    assert ended.status == 130
    assert any(done)
    assert (lines[-1]["type"], lines[-1]["freed_bytes"], lines[-1]["complete"]) == (
        "summary",
        sum(done),
        False,
    )


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("machine", [False, True], ids=["text", "json"])
def test_a_reserve_that_is_interrupted_tells_what_was_freed_and_promises_nothing(
    run: Run, policy: Path, mocker: MockerFixture, machine: bool
) -> None:
    where = (
        "overcommit.cli.doing._JsonTeller.progress"
        if machine
        else "overcommit.cli.doing._TextTeller.progress"
    )
    interrupt_after(mocker, where, 3)
    arguments = ["--json"] if machine else []
    ended = run("reserve", f"{ABOVE_THE_RESERVE + 80 * MIB}", "--yes", *arguments, "--policy", policy)
    assert ended.status == 130
    assert ended.err.splitlines()[-2:] == [
        "error: interrupted; DAMON was released",
        "hint:  to undo what was done: overcommitctl restore",
    ]
    (event,) = (event for event in events(run) if event["kind"] == "reserve")
    assert (event["status"], event["detail"].split("; ")[1]) == ("partial", "interrupted")
    if machine:
        line = last_line(ended)
        assert (line["granted"], line["obstacles"][0]) == (False, "interrupted")
        assert line["freed_bytes"] == event["freed_bytes"] > 0
    else:
        assert ended.out.endswith(f" is not reserved; {format_size(event['freed_bytes'])} was freed\n")
    assert promised(run) == []


@pytest.fixture
def no(mocker: MockerFixture) -> None:
    """An operator who is asked, and does not want it."""
    for verb in (apply, reserve):
        mocker.patch.object(verb, "require_somebody_to_ask")
        mocker.patch.object(verb, "agreed", return_value=False)


@pytest.mark.usefixtures("no")
@pytest.mark.parametrize("verb", [("apply",), ("reserve", f"{ABOVE_THE_RESERVE + 50 * MIB}")])
def test_what_the_operator_does_not_want_is_refused(
    run: Run, policy: Path, host: FakeHost, verb: tuple[str, ...]
) -> None:
    ended = run(*verb, "--policy", policy)
    assert ended.status == REFUSED
    assert ended.err.splitlines()[-1].startswith("error: you answered no: nothing was ")
    assert (resident(host), events(run)) == ([100, 100], [])


@pytest.mark.usefixtures("no")
def test_the_summary_of_what_the_operator_did_not_want(run: Run, policy: Path, host: FakeHost) -> None:
    line = last_line(run("apply", "--json", "--policy", policy))
    assert (line["type"], line["rounds"], line["freed_bytes"], line["complete"]) == ("summary", 0, 0, False)
    assert line["host"]["available_after_bytes"] == host.available_bytes // KIB * KIB


def test_the_summary_of_nothing_to_do(run: Run, policy: Path, host: FakeHost) -> None:
    host.guests.clear()
    ended = run("apply", "--yes", "--json", "--policy", policy)
    line = json.loads(ended.out)
    assert (ended.status, line["type"], line["rounds"], line["complete"]) == (0, "summary", 0, True)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("left", "status"), [((), 0), (("balloon of web: hung",), IN_PART)])
def test_what_guests_still_take_back_is_no_failure_of_restore(
    run: Run, mocker: MockerFixture, left: tuple[str, ...], status: int
) -> None:
    way = "balloon of free on its way back: 1.00 GiB of 2.00 GiB so far"
    mocker.patch(
        "overcommit.control.restoring.put_back", return_value=Restored(done=(), left=left, under_way=(way,))
    )
    ended = run("restore")
    assert ended.status == status
    assert f"  {way}; it continues by itself" in ended.out
    assert "Nothing to restore" not in ended.out
    (restored,) = events(run)
    assert restored["status"] == "partial"
    assert way in restored["detail"]
    assert json.loads(run("restore", "--json").out)["under_way"] == [way]
