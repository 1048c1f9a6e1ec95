"""Guests and hosts that are left alone, and input that makes no sense: reason, hint, exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from integration.lab.guests import GuestSpec
from integration.suite.host import MIB, REMOTE_POLICY, Host, domain_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick("6.12")

REFUSED, UNSUPPORTED, USAGE = 4, 5, 64
SHORT = ("--observe-for", "8s")


@pytest.fixture(scope="module")
def guests(host: Host) -> Iterator[None]:
    """One guest without the balloon driver, one without the device."""
    host.lab.guest_add(GuestSpec("nodriver", memory="256M", balloon="nodriver"))
    host.lab.guest_add(GuestSpec("nodevice", memory="256M", balloon="none"))
    yield
    for name in host.lab.guests.ours():
        host.lab.guest_remove(name)


@pytest.mark.usefixtures("guests")
def test_each_guest_that_cannot_is_named_with_the_reason(host: Host) -> None:
    """No driver, no device, paused: three verdicts, and no balloon action for any of them."""
    host.shell("virsh suspend nodevice")
    try:
        plan = json.loads(host.plan("--json", *SHORT).stdout)
    finally:
        host.shell("virsh resume nodevice")
    assert "never answered" in domain_of(plan, "nodriver")["eligible"]["balloon"]["reason"]
    assert "no balloon device" in domain_of(plan, "nodevice")["eligible"]["balloon"]["reason"]
    paused = domain_of(plan, "nodevice")["eligible"]["pageout"]
    assert (paused["reason"], paused["remedy"]) == ("the domain is paused", "virsh resume nodevice")
    assert [a for a in plan["actions"] if a["kind"] == "balloon"] == []


def test_a_guest_destroyed_between_plan_and_apply_refuses_the_whole_plan(host: Host) -> None:
    """Applied exactly or refused: the other action of the same plan is not carried out either."""
    for name in ("stays", "leaves"):
        settings = {"total": "160M", "after": "1"}
        spec = GuestSpec(name, "256M", "freed", settings, free_page_reporting=False)
        host.lab.guest_add(spec)
        host.await_workload(name, "freed")
    planned = json.loads(
        host.plan("--json", "--domain", "stays", "--domain", "leaves", "-o", "/var/tmp/p.plan", *SHORT).stdout
    )
    assert {a["domain"]["name"] for a in planned["actions"]} == {"stays", "leaves"}
    before = host.damon()
    host.shell("virsh destroy leaves")

    refused = host.ctl("apply", "--take-over", "--policy", REMOTE_POLICY, "/var/tmp/p.plan")

    assert refused.returncode == REFUSED
    assert "domain leaves is not running any more" in refused.stderr
    assert "hint:" in refused.stderr
    assert host.balloon_bytes("stays") == pytest.approx(256 * MIB, abs=MIB)
    assert host.damon() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read the policy"),
        ("version: 1\nclasses:\n  a: {flor: 50%}\ndefault_class: a\n", ":3:7: unknown key classes.a.flor"),
        ("version: 1\nclasses: {a: {}}\ndefault_class: b\n", ":3:16: no class 'b'"),
        ("version: [", "bad-policy.yaml:2:1: "),
    ],
)
def test_a_bad_policy_is_refused_with_its_position(host: Host, text: str | None, says: str) -> None:
    """One line per fault, before anything is looked at."""
    host.shell("rm -f /var/tmp/bad-policy.yaml")
    if text is not None:
        host.lab.run("cat > /var/tmp/bad-policy.yaml", stdin=text)
    refused = host.plan(policy="/var/tmp/bad-policy.yaml")
    assert refused.returncode == USAGE
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unknown_domain_is_a_usage_error_with_a_suggestion(host: Host) -> None:
    """A typo in a name is answered with the name meant."""
    refused = host.plan("--domain", "stay", *SHORT)
    assert (refused.returncode, "did you mean stays?" in refused.stderr) == (USAGE, True)


def test_a_libvirt_that_cannot_be_reached_is_unsupported_not_a_traceback(host: Host) -> None:
    """And nothing of DAMON was touched on the way."""
    before = host.damon()
    refused = host.plan("--connect", "qemu:///embed?root=/nowhere", *SHORT)
    assert refused.returncode == UNSUPPORTED
    assert "cannot connect to libvirt" in refused.stderr
    assert "hint:" in refused.stderr
    assert host.damon() == before


@pytest.mark.parametrize("verb", ["plan", "apply", "status", "restore"])
def test_not_root_is_said_in_one_line(host: Host, verb: str) -> None:
    """An ordinary user learns that root is needed, and nothing more happens."""
    refused = host.lab.run(
        f"setpriv --reuid 65534 --regid 65534 --clear-groups overcommitctl {verb}", check=False
    )
    assert refused.returncode == UNSUPPORTED
    assert "root" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_kernel_without_damon_is_named(host: Host) -> None:
    """The interface hidden under an empty mount looks like a kernel built without it."""
    host.shell("mount -t tmpfs none /sys/kernel/mm/damon")
    try:
        refused = host.plan(*SHORT)
        doctor = host.ctl("doctor")
    finally:
        host.shell("umount /sys/kernel/mm/damon")
    assert refused.returncode == doctor.returncode == UNSUPPORTED
    assert "no DAMON sysfs interface" in refused.stderr
    assert "no DAMON sysfs interface" in doctor.stdout
