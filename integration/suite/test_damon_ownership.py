"""DAMON has one user at a time: others are named and left alone; a dead controller leaves no trace."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import REMOTE_POLICY, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick("7.3")

REFUSED = 4
SHORT = ("--observe-for", "8s")


@pytest.fixture(scope="module")
def guest(host: Host) -> Iterator[str]:
    """Something to watch."""
    host.lab.guest_add(GuestSpec("watched", memory="256M"))
    yield "watched"
    host.lab.guest_remove("watched")


@pytest.mark.usefixtures("guest")
def test_damon_stat_is_named_and_comes_back_after_take_over(host: Host) -> None:
    """The first thing a new user of a recent kernel meets: a refusal with the remedy, not EBUSY."""
    found = host.damon()
    plain = host.ctl("plan", "-q", "--policy", REMOTE_POLICY, *SHORT)
    if found.damon_stat == "Y":
        assert plain.returncode == REFUSED
        assert "damon_stat" in plain.stderr
        assert "--take-over" in plain.stderr
    else:
        assert plain.returncode == 0, plain.stderr
    assert host.damon() == found
    assert host.plan(*SHORT).returncode == 0
    assert host.damon() == found


@pytest.mark.usefixtures("guest")
def test_damon_reclaim_is_named_and_comes_back_with_its_settings(host: Host) -> None:
    """Another module that keeps everybody out, turned on by an administrator."""
    found = host.damon()
    parameters = "/sys/module/damon_reclaim/parameters"
    usual = host.shell(f"cat {parameters}/min_age")
    if found.damon_stat == "Y":
        host.shell("echo N > /sys/module/damon_stat/parameters/enabled")
    host.shell(f"echo 300000000 > {parameters}/min_age; echo Y > {parameters}/enabled")
    try:
        refused = host.ctl("plan", "-q", "--policy", REMOTE_POLICY, *SHORT)
        assert refused.returncode == REFUSED
        assert "damon_reclaim" in refused.stderr
        assert host.plan(*SHORT).returncode == 0
        assert host.shell(f"cat {parameters}/enabled {parameters}/min_age").split() == ["Y", "300000000"]
    finally:
        host.shell(f"echo N > {parameters}/enabled; echo {usual} > {parameters}/min_age")
        if found.damon_stat == "Y":
            host.shell("echo Y > /sys/module/damon_stat/parameters/enabled")
    assert host.damon() == found


@pytest.mark.usefixtures("guest")
def test_another_tools_kdamond_is_named_and_keeps_running(host: Host) -> None:
    """Not even --take-over stops somebody else's running kdamond."""
    found = host.damon()
    if found.damon_stat == "Y":
        host.shell("echo N > /sys/module/damon_stat/parameters/enabled")
    host.shell("damo start --ops paddr >/dev/null 2>&1")
    theirs = host.damon()
    try:
        assert theirs.running == 1
        refused = host.plan(*SHORT)
        assert refused.returncode == REFUSED
        assert "started by another tool" in refused.stderr
        assert host.damon() == theirs
    finally:
        host.shell("damo stop >/dev/null 2>&1; echo 0 > /sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds")
        if found.damon_stat == "Y":
            host.shell("echo Y > /sys/module/damon_stat/parameters/enabled")
    assert host.damon() == found


@pytest.mark.usefixtures("guest")
def test_two_controllers_exclude_each_other_and_a_killed_one_is_cleaned_up(host: Host) -> None:
    """SIGKILL in the middle of a watch: restore stops our kdamonds and gives DAMON back."""
    found = host.damon()
    start = f"overcommitctl plan -q --take-over --policy {REMOTE_POLICY} --observe-for 600s"
    pid = host.shell(f"setsid {start} >/dev/null 2>&1 & echo $!")
    try:
        deadline = time.monotonic() + 240
        while host.damon().running == 0:
            assert time.monotonic() < deadline, "the first controller never started to watch"
            time.sleep(0.5)

        second = host.plan(*SHORT)
        assert second.returncode == REFUSED
        assert "another controller is running" in second.stderr
    finally:
        host.shell(f"kill -9 {pid}")
    assert host.damon().running > 0, "the kernel keeps a dead controller's monitor running"
    restored = host.ctl("restore")
    assert restored.returncode == 0, restored.stderr
    assert "stopped kdamond" in restored.stdout
    assert host.damon() == found
