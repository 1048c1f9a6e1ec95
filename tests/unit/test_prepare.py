"""``prepare``: what definitions lack, the change that adds it, and the way back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from overcommit.errors import HostError, Unreadable
from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.hypervisor.readiness import Lack, readiness
from overcommit.testing.fake_host import FakeHost
from overcommit.testing.fake_hypervisor import FakeHypervisor
from tests.cli.conftest import Run, run, state
from tests.installed_fakes import put_in_place

__all__ = ["run", "state"]
CHANGES_PENDING, IN_PART, REFUSED, USAGE = 2, 3, 4, 64
HEAD = """<domain type='kvm'>
  <name>{name}</name>
  <uuid>{name}-uuid</uuid>
  {metadata}
  <memory unit='KiB'>1048576</memory>
  <vcpu placement='static'>1</vcpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <graphics type='vnc' port='-1' passwd='s3cret'/>
    <console type='pty'>
      <target type='serial' port='0'/>
    </console>
    {balloon}
  </devices>
</domain>
"""
PLACE = "<address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/>"
BALLOON = f"<memballoon model='virtio'>\n      {PLACE}\n    </memballoon>"
LIBOSINFO = (
    "<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
    "<libosinfo:os id='http://microsoft.com/win/11'/></libosinfo:libosinfo></metadata>"
)
NOVA = (
    "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
    "<nova:name>x</nova:name></nova:instance></metadata>"
)
SYSINFO = (
    "<sysinfo type='smbios'><system>"
    "<entry name='product'>CloudStack KVM Hypervisor</entry></system></sysinfo>"
)
FOREIGN = (
    "<metadata><!-- whose: ö --><x:y xmlns:x='urn:x' b='2' a=\"1\"><memballoon model='x'/></x:y></metadata>"
)


def definition(name: str = "web", balloon: str = BALLOON, metadata: str = "<title>t</title>") -> str:
    return HEAD.format(name=name, balloon=balloon, metadata=metadata)


SIX = {
    "comments": definition(metadata="<!-- do > not ' touch -->"),
    "unknown elements": definition(balloon=f'<newdevice  odd = "a>b" />\n    {BALLOON}'),
    "another namespace": definition(metadata=FOREIGN),
    "no balloon device": definition(balloon="<rng model='virtio'/>"),
    "model none": definition(balloon="<memballoon model='none'/>"),
    "Windows": definition(metadata=LIBOSINFO),
}
EVERYTHING = (Lack.REPORTING, Lack.AUTODEFLATE, Lack.STATISTICS, Lack.AGENT)


def new_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """The lines that went and those that came; all others are there in their order."""
    import difflib

    changes = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    return [c[2:] for c in changes if c[0] == "-"], [c[2:] for c in changes if c[0] == "+"]


@pytest.mark.parametrize("kind", SIX)
def test_the_change_is_as_small_as_can_be(kind: str) -> None:
    found = readiness(SIX[kind], anyway=True)
    gone, come = new_lines(found.before, found.after)
    assert all("<memballoon" in line for line in gone), gone
    assert len(gone) <= 1
    assert all(
        any(word in line for word in ("memballoon", "<stats", "channel", "org.qemu.guest_agent"))
        for line in come
    ), come
    assert len(come) <= 7
    ready = parse_definition(found.after)
    assert (
        ready.balloon_model,
        ready.free_page_reporting,
        ready.autodeflate,
        ready.stats_period_seconds,
    ) == (("virtio", True, True, 5))
    assert ready.agent_connected is False, "there is a channel"


def test_what_a_usual_definition_lacks_is_seen_and_written_in_libvirt_s_order() -> None:
    found = readiness(definition())
    assert found.lacks == EVERYTHING
    assert "<memballoon model='virtio' autodeflate='on' freePageReporting='on'>" in found.after
    assert new_lines(found.before, found.after)[1][-2:] == [
        "    <memballoon model='virtio' autodeflate='on' freePageReporting='on'>",
        "      <stats period='5'/>",
    ]


@pytest.mark.parametrize(
    "head",
    [
        "<memballoon autodeflate='off' model='virtio' freePageReporting=\"off\"/>",
        "<memballoon freePageReporting='off' model='virtio'></memballoon>",
        "<memballoon model='virtio-transitional'\n    autodeflate='on'><stats period='0'/></memballoon>",
        "<memballoon/>",
    ],
)
def test_however_it_is_written(head: str) -> None:
    found = readiness(definition(balloon=head))
    ready = parse_definition(found.after)
    assert (ready.free_page_reporting, ready.autodeflate, ready.stats_period_seconds) == (True, True, 5)
    model = ET.fromstring(found.after).find("./devices/memballoon")
    assert model is not None
    assert model.get("model", "virtio").startswith("virtio")
    assert readiness(found.after).after == found.after


def test_a_period_that_is_there_stays() -> None:
    found = readiness(definition(balloon="<memballoon model='virtio'><stats period='30'/></memballoon>"))
    assert Lack.STATISTICS not in found.lacks
    assert "period='30'" in found.after


def test_no_balloon_by_choice_is_left_unless_anyway() -> None:
    found = readiness(SIX["model none"])
    assert found.lacks == (Lack.AGENT,)
    assert "<memballoon model='none'/>" in found.after
    assert "somebody chose to have no balloon" in found.notes[0]
    assert Lack.BALLOON in readiness(SIX["model none"], anyway=True).lacks


def test_no_balloon_at_all_is_added_and_said() -> None:
    found = readiness(SIX["no balloon device"])
    assert found.lacks[0] is Lack.BALLOON
    assert "has no balloon device" in found.notes[0]


def test_windows_is_told_of_its_driver() -> None:
    (note,) = readiness(SIX["Windows"]).notes
    assert "virtio-win" in note


@pytest.mark.parametrize(
    ("element", "why"),
    [
        ("<memoryBacking><locked/></memoryBacking>", "locked"),
        ("<launchSecurity type='sev'/>", "encrypted"),
        ("<memoryBacking><hugepages/></memoryBacking>", "huge pages"),
    ],
)
def test_where_reporting_gives_nothing_it_is_not_switched_on(element: str, why: str) -> None:
    found = readiness(definition(metadata=element))
    assert Lack.REPORTING not in found.lacks
    assert "freePageReporting" not in found.after
    assert why in found.notes[0]


@pytest.mark.parametrize(
    ("metadata", "name", "manager"),
    [
        (NOVA, "web", "OpenStack Nova"),
        ("<metadata><o:vm xmlns:o='http://ovirt.org/vm/1.0'/></metadata>", "web", "oVirt"),
        ("<metadata><kubevirt xmlns='http://kubevirt.io'/></metadata>", "web", "KubeVirt"),
        ("<metadata><a:vm xmlns:a='http://opennebula.org/xmlns/libvirt/1.0'/></metadata>", "x", "OpenNebula"),
        ("<metadata><vmtemplate xmlns='unraid' name='Linux'/></metadata>", "web", "Unraid"),
        ("", "i-2-345-VM", "Apache CloudStack"),
        (SYSINFO, "web", "Apache CloudStack"),
        (LIBOSINFO, "web", None),
        (FOREIGN, "one-more", None),
    ],
)
def test_managers_are_known_by_what_they_leave(metadata: str, name: str, manager: str | None) -> None:
    found = readiness(definition(name, metadata=metadata)).manager
    assert (found.name if found else None) == manager
    assert found is None or len(found.advice) > 30


@pytest.mark.parametrize("text", ["", "<domain>", "<domain><memory>1</memory></domain>", "<a\ud800/>"])
def test_what_is_no_definition_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        readiness(text)


def test_entities_are_refused() -> None:
    with pytest.raises(Unreadable, match="document type"):
        readiness("<!DOCTYPE domain [<!ENTITY a 'b'>]>" + definition())


BLANKS = st.sampled_from(["", " ", "\n", "\n\t  ", "  "])
QUOTES = st.sampled_from(["'", '"'])


@st.composite
def balloons(draw: st.DrawFn) -> str:
    """Balloon devices in all the ways in which XML lets one write them."""
    attributes = {
        "model": draw(st.sampled_from(["virtio", "virtio-transitional", "none"])),
        "autodeflate": draw(st.sampled_from([None, "on", "off"])),
        "freePageReporting": draw(st.sampled_from([None, "on", "off"])),
    }
    names = draw(st.permutations([name for name, value in attributes.items() if value]))
    blank = st.sampled_from([" ", "\n   ", "  "])
    head = "".join(f"{draw(blank)}{n}={(q := draw(QUOTES))}{attributes[n]}{q}" for n in names)
    stats = draw(st.sampled_from(["", "<stats period='0'/>", '<stats  period = "7" />', "<stats/>"]))
    inner = f"{draw(BLANKS)}{stats}{draw(st.sampled_from(['', PLACE, '<!-- > -->']))}{draw(BLANKS)}"
    if not inner.strip():
        return draw(st.sampled_from([f"<memballoon{head}/>", f"<memballoon{head} ></memballoon>", ""]))
    return f"<memballoon{head}{draw(BLANKS)}>{inner}</memballoon>"


@given(
    balloon=balloons(), kind=st.sampled_from([FOREIGN, LIBOSINFO, "<!-- < -->", "<title>&amp;ß 日</title>"])
)
def test_all_else_stays_twice_is_once_and_nothing_is_lacking_then(balloon: str, kind: str) -> None:
    text = definition(balloon=balloon, metadata=kind)
    found = readiness(text, anyway=True)
    again = readiness(found.after, anyway=True)
    assert (again.lacks, again.after) == ((), found.after)
    start = text.index(balloon) if balloon else text.index("\n    \n  </devices>")
    assert found.after.startswith(text[: text.index("</console>")])
    assert found.after.endswith(text[start + len(balloon) :].lstrip("\n "))
    assert all(line in found.after.splitlines() for line in text[:start].splitlines()[:-1])
    assert (found.after == text) == (not found.lacks)


@pytest.fixture
def libvirt(mocker: MockerFixture) -> FakeHypervisor:
    host = FakeHost([])
    hypervisor = FakeHypervisor(host)
    hypervisor.persistent = {"web-uuid": definition(), "vm-uuid": definition("vm", metadata=NOVA)}
    mocker.patch("os.geteuid", return_value=0)
    put_in_place(mocker, host, hypervisor)
    return hypervisor


def told(out: str) -> dict[str, dict[str, Any]]:
    return {domain["name"]: domain for domain in json.loads(out)["domains"]}


def test_by_default_it_shows_and_writes_nothing(run: Run, libvirt: FakeHypervisor, state: Path) -> None:
    before = dict(libvirt.persistent)
    shown = run("prepare")
    assert shown.status == 0
    assert "+    <memballoon model='virtio' autodeflate='on' freePageReporting='on'>" in shown.out
    assert "s3cret" not in shown.out
    assert "OpenStack Nova owns this definition" in shown.out
    assert "overcommitctl prepare --apply web" in shown.err
    assert libvirt.persistent == before
    assert not (state / "definitions").exists()
    assert run("prepare", "--dry-run", "web").status == 0
    assert run("prepare", "--detailed-exitcode").status == CHANGES_PENDING
    assert run("prepare", "--apply", "--dry-run").status == USAGE
    unknown = run("prepare", "wbe")
    assert (unknown.status, "did you mean web?" in unknown.err) == (USAGE, True)


def test_apply_writes_with_its_secrets_and_restore_puts_back_every_byte(
    run: Run, libvirt: FakeHypervisor, state: Path
) -> None:
    before = dict(libvirt.persistent)
    applied = run("prepare", "--apply")
    assert applied.status == 0, applied.err
    assert "next power cycle" in applied.out
    assert libvirt.persistent["vm-uuid"] == before["vm-uuid"], "Nova's"
    assert libvirt.persistent["web-uuid"] == readiness(before["web-uuid"]).after
    assert "passwd='s3cret'" in libvirt.persistent["web-uuid"]
    (journal,) = (state / "definitions").glob("generation-*")
    assert journal.stat().st_mode & 0o077 == 0, "it has passwords"
    assert run("prepare", "web", "--detailed-exitcode").status == 0, "nothing is lacking"
    stopped = run("restore")
    assert libvirt.persistent["web-uuid"] != before["web-uuid"], (
        "the end of a controller is not the operator's"
    )
    assert "overcommitctl restore --definitions" in stopped.out
    undone = run("restore", "--definitions")
    assert undone.status == 0, undone.err
    assert "as it was before prepare" in undone.out
    assert libvirt.persistent == before
    assert "prepare has changed no definition" in run("restore", "--definitions").out


def test_what_libvirt_adds_to_a_new_device_does_not_keep_restore_from_its_work(
    run: Run, libvirt: FakeHypervisor
) -> None:
    before = dict(libvirt.persistent)
    libvirt.as_printed = as_libvirt_does
    assert run("prepare", "web", "--apply").status == 0
    assert "virtio-serial" in libvirt.persistent["web-uuid"]
    assert run("restore", "--definitions", "--domain", "web").status == 0
    assert libvirt.persistent == before


def as_libvirt_does(xml: str) -> str:
    """A new device gets its place, and the bus for it."""
    if "guest_agent" not in xml:
        return xml
    target = "<target type='virtio' name='org.qemu.guest_agent.0'/>\n"
    bus = "    <controller type='virtio-serial' index='0'>\n      <address type='pci'/>\n    </controller>\n"
    placed = xml.replace(target, f"{target}      <address type='virtio-serial' port='1'/>\n")
    return placed.replace("    <graphics", f"{bus}    <graphics")


@pytest.mark.parametrize("printed", [str, as_libvirt_does])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_the_write_all_can_be_put_back(
    run: Run, libvirt: FakeHypervisor, when: str, printed: Any
) -> None:
    before = dict(libvirt.persistent)
    libvirt.as_printed = printed

    def die(path: str, _value: str) -> None:
        if path == "definition/web-uuid":
            raise KeyboardInterrupt

    host = libvirt._host
    hook = "on_write" if when == "before" else "after_write"
    setattr(host, hook, die)
    assert run("prepare", "web", "--apply").status == 130
    assert (libvirt.persistent == before) == (when == "before")
    setattr(host, hook, lambda _path, _value: None)
    assert run("restore", "--definitions").status == 0
    assert libvirt.persistent == before


def test_what_somebody_changed_since_stays_and_is_said(run: Run, libvirt: FakeHypervisor) -> None:
    run("prepare", "web", "--apply")
    changed = libvirt.persistent["web-uuid"].replace(
        "<vcpu placement='static'>1", "<vcpu placement='static'>2"
    )
    libvirt.persistent["web-uuid"] = changed
    ended = run("restore", "--definitions")
    assert "somebody changed it since" in ended.out
    assert libvirt.persistent["web-uuid"] == changed


def test_a_manager_s_domain_is_written_only_anyway(run: Run, libvirt: FakeHypervisor) -> None:
    before = dict(libvirt.persistent)
    ended = run("prepare", "vm", "--apply")
    assert ended.status == REFUSED
    assert "OpenStack Nova owns its definition" in ended.err
    assert "nova.conf" in ended.out
    assert libvirt.persistent == before
    both = run("prepare", "vm", "web", "--apply", "--json")
    assert both.status == IN_PART
    assert {name: one["written"] for name, one in told(both.out).items()} == {"vm": False, "web": True}
    assert run("prepare", "vm", "--apply", "--anyway").status == 0
    assert "freePageReporting='on'" in libvirt.persistent["vm-uuid"]


def test_json_says_the_same(run: Run, libvirt: FakeHypervisor) -> None:
    libvirt.persistent["bad-uuid"] = "<domain><name>bad</name></domain>"
    shown = run("prepare", "--json")
    domains = told(shown.out)
    assert domains["web"]["lacks"] == [lack.value for lack in EVERYTHING]
    assert domains["vm"]["manager"] == "OpenStack Nova"
    assert domains["vm"]["diff"] == ""
    assert (domains["bad"]["lacks"], shown.status) == (None, 1)
    assert "not a domain definition" in domains["bad"]["refused"]


def test_a_libvirt_that_leaves_out_what_it_does_not_know_is_seen(run: Run, libvirt: FakeHypervisor) -> None:
    libvirt.as_printed = lambda xml: xml.replace(" freePageReporting='on'", "")
    ended = run("prepare", "web", "--apply")
    assert ended.status == 1
    assert "libvirt did not take free page reporting" in ended.out


def test_a_definition_that_libvirt_refuses(run: Run, libvirt: FakeHypervisor, mocker: MockerFixture) -> None:
    mocker.patch.object(libvirt, "define", side_effect=HostError("libvirt could not change a definition: no"))
    ended = run("prepare", "web", "--apply")
    assert (ended.status, "could not change" in ended.err) == (1, True)
