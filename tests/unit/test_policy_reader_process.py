"""A policy that another process reads: the same answers, and none where it fails."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.daemon.policy_file import PolicyFile
from overcommit.errors import PolicyError, UsageError
from overcommit.policy import loader, reader_process

GOOD = "version: 1\nclasses: {all: {floor: 20%, cold_after: 20s}}\ndefault_class: all\n"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    return path


def children() -> int:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return len(listed.split())


def test_it_is_the_same_policy(policy: Path) -> None:
    assert reader_process.Reader(policy).policy() == loader.load(policy)
    assert reader_process.Reader(None).policy() == loader.load(None)


def test_the_same_faults_are_found(policy: Path) -> None:
    policy.write_text("version: 1\nfoo: 2\n")
    with pytest.raises(PolicyError) as apart_from_us:
        reader_process.Reader(policy).policy()
    with pytest.raises(PolicyError) as by_us:
        loader.load(policy)
    assert apart_from_us.value.faults == by_us.value.faults
    assert str(apart_from_us.value) == str(by_us.value)


def test_a_file_that_is_not_there_is_named(policy: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml") as error:
        reader_process.Reader(policy.with_name("none.yaml")).policy()
    assert error.value.hint


@pytest.mark.parametrize(
    "program", ["import os; os.kill(os.getpid(), 9)", "raise SystemExit(1)", "print('x' * 100)"]
)
def test_a_reader_that_fails_leaves_the_old_policy_in_force(
    policy: Path, mocker: MockerFixture, program: str
) -> None:
    file = PolicyFile(policy, reader_process.Reader)
    before, others = file.policy, children()
    failing = policy.with_name("failing.py")
    failing.write_text(program)
    mocker.patch.object(sys, "executable", _interpreter_of(failing))
    file.begin()
    assert not file.read_again()
    assert "reader" in (file.refused or "")
    assert file.policy is before
    assert children() == others


def test_a_reader_that_hangs_is_not_waited_for(policy: Path, mocker: MockerFixture) -> None:
    hanging = policy.with_name("hanging.py")
    hanging.write_text("import time; time.sleep(60)")
    mocker.patch.object(sys, "executable", _interpreter_of(hanging))
    mocker.patch.object(reader_process, "DEADLINE_SECONDS", 0.2)
    others, began = children(), time.monotonic()
    with pytest.raises(UsageError):
        reader_process.Reader(policy).policy()
    assert time.monotonic() - began < 10.0
    assert children() == others


def test_nobody_waits_while_it_reads_and_one_that_is_out_of_date_is_ended(
    policy: Path, mocker: MockerFixture
) -> None:
    file = PolicyFile(policy, reader_process.Reader)
    hanging = policy.with_name("hanging.py")
    hanging.write_text("import time; time.sleep(60)")
    python, others = sys.executable, children()
    mocker.patch.object(sys, "executable", _interpreter_of(hanging))
    began = time.monotonic()
    file.begin()
    assert not file.ready()
    assert time.monotonic() - began < 5.0
    assert children() == others + 1
    policy.write_text(GOOD.replace("20%", "30%"))
    mocker.patch.object(sys, "executable", python)
    file.begin()
    assert file.read_again()
    assert (file.policy.classes["all"].floor, children()) == (0.3, others)


def test_a_host_without_room_for_a_process_reads_none(policy: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(os, "posix_spawn", side_effect=BlockingIOError(11, "try again"))
    with pytest.raises(UsageError, match="no process"):
        reader_process.Reader(policy).policy()


def _interpreter_of(script: Path) -> str:
    """What runs that script, whatever it is told to run."""
    wrapper = script.with_suffix("")
    wrapper.write_text(f"#!/bin/sh\nexec {sys.executable} {script}\n")
    wrapper.chmod(0o755)
    return str(wrapper)
