"""The commands that are printed are run as printed: on the same host, by the same policy, to the same end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.cli.main import overcommitctl
from overcommit.commands import Invocation
from overcommit.testing import FakeGuest, FakeHost, FakeHypervisor
from overcommit.units import MIB
from overcommit.wire.client import Daemon
from tests.cli.conftest import Ended, Run
from tests.installed_fakes import put_in_place, two_guests
from tests.printed_commands import PLACE, printed_commands

POLICY = """
version: 1
host: {reserve: 8%, reclaim: proactive, swap: {max_used: 60%, max_write: 50MiB/s}}
classes: {all: {floor: 20%, cold_after: 20s}}
default_class: all
"""
REFUSED, USAGE = 4, 64


@pytest.fixture
def host(mocker: MockerFixture) -> FakeHost:
    host = two_guests("cold;id", "-free")
    mocker.patch("os.geteuid", return_value=0)
    put_in_place(mocker, host)
    return host


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a directory that a shell would take for several; verbs run there."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my policies" / "a policy.yaml"
    path.parent.mkdir()
    path.write_text(POLICY)
    return path


def printed(ended: Ended) -> list[list[str]]:
    """The commands of ours that a run printed, as a shell reads them."""
    found = []
    for line in (ended.out + ended.err).splitlines():
        for match in re.finditer(r"\bovercommitctl ((?:'[^']*'|\"[^\"]*\"|[^;,'\"])*)", line):
            words = shlex.split(match[1])
            if words[0] in overcommitctl.commands and "FILE" not in words:
                found.append(words)
    return found


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", ["p.json", "a plan.json", "-p.json", "$(id).json", "it's.json"])
def test_after_a_plan_comes_exactly_its_apply(run: Run, policy: Path, name: str) -> None:
    uri = "qemu+unix:///system"
    made = run("plan", "--connect", uri, "--policy", policy, "--take-over", f"--output={name}")
    assert made.status == 0, made.err
    (words,) = printed(made)
    assert words[0] == "apply"
    assert {"--policy", str(policy), "--take-over", uri} <= set(words)
    ended = run(*words)
    assert ended.status == 0, ended.err
    assert "Freed" in ended.out
    (undo,) = printed(ended)
    assert undo == ["restore", "--connect", uri]
    assert run(*undo).status == 0


@pytest.mark.usefixtures("host")
def test_the_plan_that_is_not_saved_says_how_it_would_be(run: Run, policy: Path) -> None:
    made = run("plan", "--policy", policy, "--domain", "cold;id", "--observe-for", "30s")
    save, apply = printed(made)
    assert {"--policy", str(policy)} <= set(save)
    assert {"cold;id", "--observe-for", "30s"} <= set(save), "exactly that"
    assert run(*save).status == 0
    ended = run(*apply)
    assert ended.status == 0, ended.err
    assert "cold;id" in ended.out
    assert "-free" not in ended.out


@pytest.mark.parametrize("why", ["stale", "changed", "old"])
def test_a_refused_plan_is_made_anew_as_it_was(run: Run, policy: Path, host: FakeHost, why: str) -> None:
    saved = Path("my plan.json")
    (words,) = printed(run("plan", "--policy", policy, "--take-over", "-o", saved))
    if why == "stale":
        host.guests[1].balloon_target_bytes = 100 * MIB
        host.advance(60)
    elif why == "changed":
        saved.write_text(saved.read_text().replace('"emergency": false', '"emergency": true'))
    else:
        host.advance(86400)
    ended = run(*words)
    assert ended.status == REFUSED, ended.err
    (again,) = printed(ended)
    assert again[0] == "plan"
    assert {"--policy", str(policy), "--take-over", "my plan.json"} <= set(again)
    renewed = run(*again)
    assert renewed.status == 0
    assert printed(renewed) == [words]
    assert run(*words).status == 0


@pytest.mark.usefixtures("host")
def test_a_saved_plan_that_is_not_waited_for_is_applied_by_what_is_printed(run: Run, policy: Path) -> None:
    run("plan", "--policy", policy, "--take-over", "-o", "p.json")
    ended = run("apply", "p.json", "--wait", "--policy", policy, "--take-over")
    assert ended.status == USAGE
    first, then = printed(ended)
    for words in (first, then):
        assert {"--policy", str(policy), "--take-over"} <= set(words)
    assert run(*first).status == 0
    assert run(*then, "--yes").status == 0


@pytest.mark.usefixtures("host")
def test_a_promise_is_taken_back_by_what_was_printed(run: Run, policy: Path) -> None:
    granted = run("reserve", "1GiB", "--policy", policy)
    (words,) = printed(granted)
    assert run(*words).out.endswith("ended.\n")


@pytest.mark.usefixtures("host")
def test_doctor_s_next_step_is_by_its_policy(run: Run, policy: Path) -> None:
    ended = run("doctor", "--policy", policy)
    words = printed(ended)[-1]
    assert words == ["plan", "--policy", str(policy)]
    assert run(*words).status == 0


@pytest.mark.usefixtures("host")
def test_who_is_not_root_is_told_to_become_it_for_the_same(
    run: Run, policy: Path, mocker: MockerFixture
) -> None:
    mocker.patch("os.geteuid", return_value=1000)
    ended = run("doctor", "--policy", policy)
    (fix,) = re.findall("fix: sudo overcommitctl (.*)", ended.out)
    assert shlex.split(fix) == ["doctor", "--policy", str(policy)]


def test_a_quarantined_domain_is_released_by_what_is_printed(
    run: Run, policy: Path, host: FakeHost, mocker: MockerFixture
) -> None:
    mocker.patch.object(FakeHypervisor, "set_balloon", return_value=None)
    run("apply", "--yes", "--policy", policy)
    (word,) = re.findall(r"to end it: overcommitctl release (\S+)\n", run("status").out)
    assert word == host.guests[1].uuid, "its name would be an option"
    assert "can be used again" in run("release", word).out


@pytest.fixture
def placed(run: Run, host: FakeHost, policy: Path, mocker: MockerFixture) -> None:
    """What the printed commands are about: domain, generation and reservation 1, and files named so."""
    host.guests.append(FakeGuest(PLACE, "uuid-3", 503, 128 * MIB, resident=set(range(100))))
    mocker.patch("overcommit.cli.service.DIRECTORY", Path("units"))
    mocker.patch("overcommit.cli.service.unit", return_value="[Service]\n")
    mocker.patch("overcommit.cli.apply.require_somebody_to_ask")
    mocker.patch("overcommit.cli.apply.agreed", return_value=True)
    libvirt = FakeHypervisor(host)
    libvirt.persistent["uuid-3"] = f"<domain><name>{PLACE}</name><devices/></domain>"
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=libvirt)
    assert run("reserve", "1MiB", "--policy", policy).status == 0
    assert run("plan", "-o", "plan.json", "--policy", policy).status == 0


@pytest.mark.usefixtures("placed")
@pytest.mark.parametrize(
    "words",
    sorted({tuple(words[1:]) for _, words in printed_commands() if words[0] == "overcommitctl"}),
    ids=" ".join,
)
def test_each_command_that_the_program_can_print_runs(run: Run, policy: Path, words: tuple[str, ...]) -> None:
    """It may be refused, by this host or for what was done before; it is never typed wrongly."""
    uri = "qemu+unix:///system"
    Path(PLACE).write_text(Path("plan.json").read_text() if words[0] == "apply" else POLICY)
    line = Invocation(connect_uri=uri, policy=str(policy)).complete(shlex.join(("overcommitctl", *words)))
    ended = run(*shlex.split(line)[1:])
    assert ended.status != USAGE, f"{line}: {ended.err}"
    assert "unexpected" not in ended.err


@pytest.mark.parametrize("options", [(), ("--connect", "qemu+unix:///system")], ids=["default", "other"])
def test_what_is_printed_deep_inside_is_completed(
    run: Run, policy: Path, host: FakeHost, options: tuple[str, ...]
) -> None:
    """A verdict of the plan's, and an error of the layer that reads saved plans."""
    host.guests[0].paused = True
    uri = options[1] if options else "qemu:///system"
    for verb in (("explain", "cold;id"), ("doctor",)):
        assert f"fix: virsh -c {uri} resume 'cold;id'" in run(*verb, "--policy", policy, *options).out
    Path("junk").write_text("{}")
    ended = run("apply", "junk", "--take-over", "--policy", policy, *options)
    assert ended.status == USAGE
    (again,) = printed(ended)
    assert again == ["plan", *options, "--policy", str(policy), "--take-over", "-o", "plan.json"]


def test_what_is_said_beside_a_daemon_leaves_out_what_it_refuses(
    run: Run, policy: Path, mocker: MockerFixture
) -> None:
    mocker.patch("overcommit.cli.plan.find_daemon", return_value=Daemon(path=Path("/nowhere"), pid=17))
    ended = run("plan", "--policy", policy)
    assert (ended.status, ended.err.splitlines()[-1]) == (USAGE, "hint:  overcommitctl plan -v")
