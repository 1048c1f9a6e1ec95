"""Merging equal pages: the whole job, who else has a hand in it, and what goes wrong on the way."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from overcommit.cli.accounts import Finding
from overcommit.cli.doctor import _ksm
from overcommit.errors import StalePlan
from overcommit.host.ksm import DIRECTORY, read_ksm
from overcommit.model.action import KsmAction, name_of
from overcommit.model.outcome import Outcome, Status
from overcommit.model.plan import Plan
from overcommit.observe.facts import observe_host
from overcommit.policy import loader
from overcommit.records.journal import Journal, KsmStarted
from overcommit.testing import FakeGuest, FakeHost, FakeKernel
from overcommit.units import MIB, PAGE_SIZE
from tests.faults.conftest import Installation, Killed, Killer

POLICY = """
version: 1
host: {reserve: 8%, ksm: true}
classes: {all: {floor: 20%, cold_after: 20s, actuators: [free_page_reporting]}}
default_class: all
"""
COMMON = 60
BASELINES: dict[str, dict[str, str | None]] = {
    "advisor": {"pages_to_scan": "250"},
    "no advisor": {"pages_to_scan": "250", "advisor_mode": None, "advisor_target_scan_time": None},
    "advised already": {"advisor_mode": "scan-time", "pages_to_scan": "640"},
}
"""What a host has before we come: a kernel with an advisor or without, somebody's own pace."""


def two_guests(directory: Path, baseline: str = "advisor", policy: str = POLICY) -> Installation:
    """Two that have 60 MiB in common."""
    host = FakeHost(
        [
            FakeGuest(
                name=name,
                uuid=f"00000000-0000-0000-0000-00000000000{number}",
                pid=500 + number,
                memory_bytes=128 * MIB,
                resident=set(range(100)),
                hot=set(range(80, 96)),
                common=set(range(COMMON)),
            )
            for number, name in enumerate(("one", "two"), start=1)
        ]
    )
    kernel = FakeKernel(host)
    for name, value in BASELINES[baseline].items():
        if value is None:
            del kernel.ksm.settings[name]
        else:
            kernel.ksm.settings[name] = value
    return Installation(host, kernel, directory, loader.parse(policy, "policy.yaml"))


@pytest.fixture(params=BASELINES)
def baseline(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return two_guests(tmp_path / "state")


def only_outcome(installation: Installation) -> Outcome:
    (outcome,) = installation.apply(installation.plan()).outcomes
    assert isinstance(outcome.action, KsmAction)
    return outcome


def ksm_notes(plan: Plan) -> list[str]:
    return [note for note in plan.notes if "KSM" in note]


def refuse(installation: Installation, name: str, number: int, times: float = float("inf")) -> None:
    """Have the kernel refuse writes of a file so often."""
    left = iter(itertools.count())

    def on_write(path: str, _value: str) -> None:
        if path == f"{DIRECTORY}/{name}" and next(left) < times:
            raise OSError(number, os.strerror(number), path)

    installation.host.on_write = on_write


def test_the_whole_job_on_the_fakes(tmp_path: Path, baseline: str) -> None:
    installation = two_guests(tmp_path / "state", baseline)
    host, found = installation.host, installation.baseline()
    plan = installation.plan()
    assert installation.baseline() == found
    (action,) = plan.runnable
    assert isinstance(action, KsmAction)
    assert (action.mergeable_bytes, plan.expected_bytes) == (200 * MIB, 0)

    available = host.available_bytes
    report = installation.apply(plan)

    (outcome,) = report.outcomes
    assert (outcome.status, outcome.freed_bytes, report.freed_bytes) == (Status.DONE, 0, 0)
    profit = int(installation.kernel.read(f"{DIRECTORY}/general_profit"))
    assert outcome.merged_bytes == profit > 50 * MIB, "what the kernel says, and no more"
    assert host.available_bytes - available == COMMON * MIB
    assert all(len(guest.resident) == 100 for guest in host.guests), "each guest holds what it held"
    assert installation.kernel.ksm.settings["run"] == "1"

    again = installation.plan()
    assert again.actions == ()
    (note,) = ksm_notes(again)
    assert note.startswith("KSM runs since generation 1: 60.0 MiB saved in ")
    assert installation.kernel.ksm.settings["run"] == "1", "planning again stops nothing"

    result = installation.restore()
    assert installation.baseline() == found
    assert "60.0 MiB stays saved until guests write to those pages" in result.done[0]
    assert host.available_bytes - available == COMMON * MIB, "nothing is unmerged"
    assert installation.restore().done == ()
    assert installation.outstanding == 0


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_restore_brings_the_baseline_back(
    tmp_path: Path, baseline: str, killer: Killer, after: bool
) -> None:
    for write in itertools.count(1):
        installation = two_guests(tmp_path / str(write), baseline)
        found = installation.baseline()
        plan = installation.plan()
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
        assert installation.outstanding == 0
        if survived:
            assert write > 4, "the job has fewer writes than it had"
            return


@pytest.mark.parametrize("after", [False, True])
def test_a_restore_that_is_killed_is_finished_by_the_next(
    tmp_path: Path, baseline: str, killer: Killer, after: bool
) -> None:
    for write in itertools.count(1):
        installation = two_guests(tmp_path / str(write), baseline)
        found = installation.baseline()
        assert only_outcome(installation).status is Status.DONE
        killer.aim(installation.host, write, after=after)
        try:
            installation.restore()
        except Killed:
            survived = False
        else:
            survived = True
        killer.revive()
        assert installation.restore().left == ()
        assert installation.baseline() == found
        if survived:
            assert write > 3, "restore has fewer writes than it had"
            return


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ENOENT, errno.EINVAL])
@pytest.mark.parametrize("name", ["advisor_target_scan_time", "advisor_mode", "run"])
def test_what_the_kernel_refuses_leaves_nothing_behind(
    installation: Installation, name: str, number: int
) -> None:
    found = installation.baseline()
    plan = installation.plan()
    refuse(installation, name, number)
    (outcome,) = installation.apply(plan).outcomes
    assert outcome.status is Status.FAILED
    assert outcome.detail == f"{DIRECTORY}/{name}: {os.strerror(number)}; everything was put back"
    assert installation.baseline() == found
    assert installation.outstanding == 0


def test_what_cannot_be_put_back_at_once_stays_in_the_journal(installation: Installation) -> None:
    found = installation.baseline()
    plan = installation.plan()
    written: list[str] = []

    def on_write(path: str, _value: str) -> None:
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)

    installation.host.on_write = on_write
    (outcome,) = installation.apply(plan).outcomes
    assert outcome.status is Status.FAILED
    assert outcome.detail.endswith("to try again: overcommitctl restore")
    assert installation.outstanding == 1
    refused = installation.restore()
    assert (len(refused.left), refused.done) == (1, ())
    installation.host.on_write = lambda _path, _value: None
    assert installation.restore().left == ()
    assert installation.baseline() == found


def test_it_is_recorded_before_it_is_done(installation: Installation) -> None:
    plan = installation.plan()
    seen: list[object] = []

    def on_write(_path: str, _value: str) -> None:
        seen.extend(entry.record for entry in Journal(installation.directory).outstanding())

    installation.host.on_write = on_write
    installation.apply(plan)
    assert seen[0] == KsmStarted(
        before={
            "advisor_target_scan_time": "200",
            "pages_to_scan": "250",
            "advisor_mode": "none",
            "run": "0",
        },
        after={
            "advisor_target_scan_time": "750",
            "pages_to_scan": "100",
            "advisor_mode": "scan-time",
            "run": "1",
        },
    )


def test_it_comes_after_what_is_taken_from_guests(tmp_path: Path) -> None:
    installation = two_guests(
        tmp_path / "state", policy=POLICY.replace(", actuators: [free_page_reporting]", "")
    )
    report = installation.apply(installation.plan())
    assert [name_of(o.action) for o in report.outcomes] == ["pageout", "pageout", "ksm"]


def test_a_plan_is_refused_when_somebody_was_quicker(installation: Installation) -> None:
    plan = installation.plan()
    installation.kernel.write(f"{DIRECTORY}/run", "1")
    with pytest.raises(StalePlan, match="KSM can no longer be started: it runs already"):
        installation.apply(plan)
    assert installation.restore().done == ()
    assert installation.kernel.ksm.settings["run"] == "1"


def test_one_who_comes_in_between_keeps_it(installation: Installation) -> None:
    """After the plan was found fresh, before our turn."""
    plan = installation.plan()
    asked = itertools.count()

    def on_read(path: str) -> None:
        if path == f"{DIRECTORY}/run" and next(asked) == 1:
            installation.kernel.ksm.settings["run"] = "1"

    installation.host.on_read = on_read
    (outcome,) = installation.apply(plan).outcomes
    assert outcome.status is Status.FAILED
    assert outcome.detail == "KSM is running, not stopped: somebody else controls it"
    assert installation.outstanding == 0
    assert installation.kernel.ksm.settings["run"] == "1"


def test_one_who_stops_it_while_we_look_has_the_last_word(installation: Installation) -> None:
    plan = installation.plan()
    installation.host.workers.append(lambda _: installation.kernel.ksm.settings.update(run="0"))
    (outcome,) = installation.apply(plan).outcomes
    assert outcome.status is Status.PARTIAL
    assert outcome.detail == "KSM is stopped, not running: somebody else controls it"
    again = installation.plan()
    assert again.actions == ()
    assert ksm_notes(again) == [
        "KSM is not as generation 1 left it (run is 0); to end it: overcommitctl restore 1"
    ]
    assert installation.restore().left == ()
    assert any(isinstance(action, KsmAction) for action in installation.plan().actions)


def test_what_somebody_changed_since_stays_his(installation: Installation) -> None:
    assert only_outcome(installation).status is Status.DONE
    installation.kernel.write(f"{DIRECTORY}/advisor_target_scan_time", "60")
    installation.kernel.write(f"{DIRECTORY}/run", "2")
    result = installation.restore()
    (sentence,) = result.done
    assert "run stays at 2: somebody else changed it" in sentence
    assert "advisor_target_scan_time stays at 60: somebody else changed it" in sentence
    assert "advisor_mode back at none, pages_to_scan back at 250" in sentence
    settings = installation.kernel.ksm.settings
    assert (settings["run"], settings["advisor_target_scan_time"]) == ("2", "60")
    assert installation.outstanding == 0


def test_what_another_boot_started_needs_nothing(installation: Installation) -> None:
    assert only_outcome(installation).status is Status.DONE
    installation.host.boot_id = "another"
    installation.kernel.ksm.settings.update(run="1", pages_to_scan="9")
    assert ksm_notes(installation.plan())[0].startswith("somebody else runs KSM; overcommit leaves it alone")
    assert installation.restore().done == ()
    assert installation.kernel.ksm.settings["pages_to_scan"] == "9"
    assert installation.outstanding == 0


def test_a_policy_that_changed_its_mind_says_how_to_end_it(installation: Installation) -> None:
    assert only_outcome(installation).status is Status.DONE
    installation.policy = loader.parse(POLICY.replace("ksm: true", "ksm: false"), "policy.yaml")
    plan = installation.plan()
    assert plan.actions == ()
    assert ksm_notes(plan) == [
        "the policy no longer allows KSM, which generation 1 started; to end it: overcommitctl restore 1"
    ]
    assert installation.kernel.ksm.settings["run"] == "1"


def test_what_page_out_takes_is_no_longer_saved(installation: Installation) -> None:
    """The fake's own account: who leaves memory shares nothing any more."""
    host = installation.host
    assert only_outcome(installation).status is Status.DONE
    one, two = host.guests
    assert installation.kernel.read(f"/proc/{one.pid}/ksm_merging_pages").strip() == str(
        COMMON * MIB // PAGE_SIZE
    )
    host.page_out(one, range(COMMON), 128 * MIB)
    host.advance(1)
    facts = read_ksm(installation.kernel)
    assert facts is not None
    assert (facts.sharing_bytes, host.saved_bytes) == (0, 0)
    assert len(two.resident) == 100


def look(installation: Installation) -> Finding:
    """Doctor's line."""
    return _ksm(observe_host(installation.kernel)[0].ksm, installation.session().ksm_generation())


def test_doctor_says_who_merges_and_what_it_brings(installation: Installation) -> None:
    def said() -> tuple[str, str, str]:
        finding = look(installation)
        return finding.level, finding.text.partition(";")[0], finding.fix

    settings = installation.kernel.ksm.settings
    assert said() == ("ok", "stopped", "")
    settings["run"] = "2"
    assert said() == ("ok", "stopped, with all pages unmerged (run is 2)", "")
    settings["run"] = "1"
    assert said() == (
        "warn",
        "runs under somebody else",
        "stop it in that tool first, if the policy is to decide (host: ksm)",
    )
    settings["run"] = "0"
    assert only_outcome(installation).status is Status.DONE
    assert said() == ("ok", "runs since generation 1 started it", "")
    work = "80.0 MiB of pages without an equal; scans 500 pages every 20ms (by advisor scan-time)"
    text = look(installation).text
    assert "60.0 MiB saved" in text
    assert text.endswith(f"60.0 MiB of merged pages, {work}")
    settings["run"] = "0"
    assert said() == (
        "warn",
        "was stopped by somebody else (run is 0) after generation 1 started it",
        "overcommitctl restore 1",
    )
    installation.kernel.ksm.present = False
    assert said() == ("ok", "this kernel has no KSM", "")


def test_a_look_that_fails_is_a_gap_and_nothing_is_started(installation: Installation) -> None:
    def on_read(path: str) -> None:
        if path == f"{DIRECTORY}/full_scans":
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    installation.host.on_read = on_read
    plan = installation.plan()
    assert plan.actions == ()
    assert [note for note in ksm_notes(plan) if note.startswith("left out: KSM: ")]
