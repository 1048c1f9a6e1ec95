"""What is remembered of host VMs, and whose they are."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pytest

from integration.lab.errors import LabError
from integration.lab.hostvm import check_name
from integration.lab.image.build import Image
from integration.lab.state import LabState, ProcessId
from integration.suite import hosts

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

SELF = ProcessId.of(os.getpid())
assert SELF is not None
KEPT = LabState("one", SELF, 22, "7.3", "key", "4G", 1, "tcg", "", 0.0)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A lab of the test's own."""
    monkeypatch.setenv("OVERCOMMIT_LAB_CACHE", str(tmp_path))
    (tmp_path / "run/one").mkdir(parents=True)


def test_a_lab_is_abandoned_when_its_run_has_ended_and_not_before() -> None:
    """Also in the eyes of another process, which has only what was written down."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as run:
        replace(KEPT, owner=ProcessId.of(run.pid)).save()
        known = LabState.load("one")
        assert known is not None
        assert not known.abandoned
        run.communicate(b"\n")
    assert known.abandoned


def test_a_lab_that_is_kept_is_nobodys_to_take_down() -> None:
    """It was started by hand, by a process that ended at once."""
    KEPT.save()
    known = LabState.load("one")
    assert known == KEPT
    assert not known.abandoned


def test_runs_beside_each_other_have_host_vms_of_different_names() -> None:
    """And modules of one run."""
    usual, second = hosts.parse("lab", "suite"), hosts.parse("lab", "second")
    names = [chosen.name("7.3", of) for chosen in (usual, second) for of in ("", "nodes")]
    assert names == ["suite-7-3", "suite-nodes-7-3", "second-7-3", "second-nodes-7-3"]
    with pytest.raises(ValueError, match="is not lab"):
        hosts.parse("vbox", "suite")


@pytest.mark.parametrize(
    ("of", "kernel", "lacks"),
    [
        ("leaves", "7.3", ""),
        ("arrives", "7.3", 'there is no host2: make vagrant-test MACHINES="host1 host2"'),
        ("leaves", "6.12", "needs a host VM of its own making: --host lab"),
        ("six", "7.3", "needs a host VM of its own making: --host lab"),
    ],
)
def test_vagrants_pair_of_machines_is_there_for_who_needs_two_hosts(
    of: str, kernel: str, lacks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once they are made, also where one has died since; without them the reason says how to have them."""
    vagrant = tmp_path / "vagrant"
    vagrant.write_text(
        '#!/bin/sh\n[ "$1 $2" = "status --machine-readable" ] || exit 1\n'
        'case $3 in host1) state=shutoff ;; *) state=not_created ;; esac\necho "1,$3,state,$state"\n'
    )
    vagrant.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert hosts.parse("vagrant", "suite").lacks_own(of, kernel) == lacks


def test_vagrants_machines_are_called_by_their_names() -> None:
    chosen = hosts.parse("vagrant", "suite")
    assert [chosen.name("7.3", of) for of in ("", "leaves", "arrives")] == [
        "vagrant-7-3",
        "vagrant-host1",
        "vagrant-host2",
    ]


def test_a_given_host_with_domains_of_others_is_refused() -> None:
    """They would lose libvirtd and swap; guests that an earlier run left are ended."""

    class Guests:
        left: ClassVar = ["stray"]

        def ours(self) -> list[str]:
            return list(self.left)

        def names(self) -> list[str]:
            return [*self.left, "mail"]

    class Given:
        name, guests = "given", Guests()

        def guest_remove(self, name: str) -> None:
            self.guests.left.remove(name)

    given = Given()
    with pytest.raises(LabError, match="given runs mail"):
        hosts._check_nobody_lives_there(given)  # type: ignore[arg-type]
    assert given.guests.left == []


def test_a_given_host_is_left_as_it_was_found_and_is_worked_on_by_one_run_at_a_time(
    mocker: MockerFixture,
) -> None:
    given = mocker.Mock(name="given")
    given.guests.ours.return_value = given.guests.names.return_value = []
    given.run.return_value.stdout = "madvise\n"
    mocker.patch("integration.suite.hosts.Lab.reach", return_value=given)
    chosen = hosts.parse("ssh:root@given", "suite")
    with chosen.host("7.3", print):
        given.guests.ours.return_value = ["web"]
        with pytest.raises(LabError, match="is used by somebody else"), chosen.host("7.3", print):
            pass
        given.down.assert_not_called()
    assert given.mock_calls[-4:] == [
        mocker.call.guests.ours(),
        mocker.call.guest_remove("web"),
        mocker.call.run(f"echo madvise >{hosts.TRANSPARENT}"),
        mocker.call.down(),
    ]


def test_hosts_that_are_spelt_alike_are_told_apart() -> None:
    alike = ("ssh:root@a.b", "ssh:root@a-b", f"ssh:root@{'long' * 9}-a", f"ssh:root@{'long' * 9}-b")
    names = {hosts.parse(text, "suite").name("7.3") for text in alike}
    assert len(names) == len(alike)
    assert [name for name in names if check_name(name) != name] == []


@pytest.mark.parametrize(
    ("newest", "wanted", "found"),
    [
        ("7.3.4", None, "7.3.4"),
        ("7.3.4", "7.3", "7.3.4"),
        ("7.4.2", "7.3", "7.4.2"),
        ("7.4.2", "6.12", "6.12.1"),
    ],
)
def test_backports_move_on(tmp_path: Path, newest: str, wanted: str | None, found: str) -> None:
    for release in ("6.12.1", newest):
        (tmp_path / "kernels" / release).mkdir(parents=True)
    assert Image(tmp_path).release(wanted) == found
    for missing in ("6.1", "7.5", "six"):
        with pytest.raises(LabError, match="no kernel"):
            Image(tmp_path).release(missing)
