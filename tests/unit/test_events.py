"""Every event of the daemon's log: what its kind declares is so, and what people read of it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit.model import events
from overcommit.model.action import BalloonAction, KsmAction
from overcommit.model.events import KINDS
from overcommit.model.facts import Incarnation
from overcommit.model.log_event import Field, Kind, LogEvent
from overcommit.model.moments import Wall
from overcommit.model.outcome import Outcome, Status
from overcommit.model.past import Quarantine
from overcommit.model.policy import Actuator

CHECKOUT = Path(__file__).parents[2]
CATALOG = CHECKOUT / "overcommit/daemon/overcommit.catalog"
PAGE = CHECKOUT / "docs/events.md"
OF_ALL = {Field.EVENT, Field.REPEATED}
ORDER = (*(field for field in Field if field not in OF_ALL),)

WEB = Incarnation(uuid="00000000-0000-0000-0000-000000000001", name="web", pid=1, start_time=1)
ACTION = BalloonAction(
    id="1", domain=WEB, before_bytes=2, after_bytes=1, expected_bytes=1, reason="r", because="b", risk="r"
)
OUTCOME = Outcome(
    action=ACTION, status=Status.FAILED, freed_bytes=1, promoted_pages=0, seconds=1.0, detail="d"
)
QUARANTINE = Quarantine(domain=WEB, actuator=Actuator.BALLOON, reason="r", until=Wall(1.0))
SAMPLES: dict[str, Callable[[], LogEvent]] = {
    "started": lambda: events.started("1", "p", "active"),
    "stopping": events.stopping,
    "failed": lambda: events.failed("error: no", 1),
    "waiting": lambda: events.waiting("plan"),
    "cleaned-up": lambda: events.cleaned_up("x"),
    "state": lambda: events.state("s", "active"),
    "lost": lambda: events.lost("DAMON", "w"),
    "regained": lambda: events.regained("DAMON", 1.0),
    "giving-back": lambda: events.giving_back(["DAMON"]),
    "emergency": lambda: events.emergency(1),
    "emergency-over": lambda: events.emergency_over(1),
    "reserve-missed": lambda: events.reserve_missed(1),
    "reserve-kept": events.reserve_kept,
    "page-out-stopped": lambda: events.page_out_stopped("w"),
    "page-out-possible": events.page_out_possible,
    "policy-in-force": lambda: events.policy_in_force("p"),
    "policy-refused": lambda: events.policy_refused("w"),
    "paused": lambda: events.paused("paused", 0, 1.0),
    "resumed": lambda: events.resumed(0),
    "quarantine-released": lambda: events.quarantine_released("web", 0, [QUARANTINE]),
    "reservation-cancelled": lambda: events.reservation_cancelled(1, 0),
    "reservation-granted": lambda: events.reservation_granted(1, 1, "web"),
    "reservation-refused": lambda: events.reservation_refused(1, "web", "w"),
    "action-started": lambda: events.action_started(ACTION),
    "action-done": lambda: events.action_done(OUTCOME),
    "action-failed": lambda: events.action_failed(OUTCOME),
    "action-interrupted": lambda: events.action_interrupted(ACTION, "w"),
    "action-held": lambda: events.action_held(ACTION, "w"),
    "domain-fault": lambda: events.domain_fault(WEB, "w", 1.0),
    "domain-rests": lambda: events.domain_rests(WEB, "w"),
    "domain-rests-no-more": lambda: events.domain_rests_no_more(WEB),
    "domain-arrived": lambda: events.domain_arrived(WEB, 1, "balloon"),
    "domain-leaves": lambda: events.domain_leaves(WEB, "s"),
    "quarantine-began": lambda: events.quarantine_began(QUARANTINE),
    "quarantine-over": lambda: events.quarantine_over(QUARANTINE),
    "history-fault": lambda: events.history_fault("w"),
    "record-fault": lambda: events.record_fault("w"),
    "pressure-fault": lambda: events.pressure_fault("w"),
    "socket-fault": lambda: events.socket_fault("w"),
    "socket-silent": lambda: events.socket_silent("w"),
    "log-lost": lambda: events.log_lost(1),
}


def name_of(kind: Kind) -> str:
    return kind.name


def entries() -> dict[str, dict[str, list[str]]]:
    """The catalog by MESSAGE_ID: its headers, and the text as ``text``."""
    found = {}
    for entry in re.split(r"^-- ", CATALOG.read_text(), flags=re.MULTILINE)[1:]:
        head, _, text = entry.partition("\n\n")
        message_id, *headers = head.splitlines()
        assert message_id not in found
        found[message_id] = {"text": [text]}
        for header in headers:
            name, _, value = header.partition(": ")
            found[message_id].setdefault(name, []).append(value)
    return found


def test_each_kind_is_one_of_its_own() -> None:
    assert len({kind.name for kind in KINDS}) == len({kind.message_id for kind in KINDS}) == len(KINDS)
    assert set(SAMPLES) == {kind.name for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_an_event_has_the_fields_that_its_kind_declares(kind: Kind) -> None:
    event = SAMPLES[kind.name]()
    assert event.kind is kind
    assert set(event.fields) == set(kind.fields)
    assert re.fullmatch("[0-9a-f]{32}", kind.message_id)
    assert event.sentence
    assert None not in event.fields.values()
    assert event.values["OVERCOMMIT_EVENT"] == kind.name
    assert "OVERCOMMIT_REPEATED" not in event.values


def test_what_is_not_of_a_domain_names_none() -> None:
    action = KsmAction(
        id="1",
        before_bytes=0,
        after_bytes=0,
        expected_bytes=1,
        reason="r",
        because="b",
        risk="r",
        mergeable_bytes=1,
        settings=(),
    )
    values = events.action_started(action).values
    assert values["OVERCOMMIT_MECHANISM"] == "ksm"
    assert not any("DOMAIN" in name for name in values)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_the_catalog_says_what_it_means_what_to_look_at_and_what_to_do(kind: Kind) -> None:
    entry = entries()[kind.message_id]
    assert len(entry["Subject"]) == len(entry["Defined-By"]) == 1
    text = entry["text"][0]
    meaning, look, do = re.fullmatch(r"(.*)\n\nLook at: (.*)\nWhat to do: (.*?)\s*", text, re.DOTALL).groups()  # type: ignore[union-attr]
    assert meaning
    assert look
    assert do
    named = set(re.findall(r"@(\w+)@", entry["Subject"][0] + text))
    assert named <= {field.journal_name for field in kind.fields}
    # A command is pasted: a domain's name may hold what a shell obeys.
    assert "@OVERCOMMIT_DOMAIN@" not in text
    for link in entry["Documentation"]:
        page = re.fullmatch(r"file:///usr/share/doc/overcommit/runbooks/(.*)", link)
        assert link.startswith("man:") or (page and (CHECKOUT / "docs/runbooks" / page[1]).exists()), link


def test_the_catalog_has_no_other() -> None:
    assert set(entries()) == {kind.message_id for kind in KINDS}
    assert all(len(line) <= 80 for line in CATALOG.read_text().splitlines())


def row(kind: Kind) -> str:
    """Of the page that lists them."""
    subject = re.sub(r"@OVERCOMMIT_(\w+)@", r"\1", entries()[kind.message_id]["Subject"][0])
    fields = ", ".join(f"`{field.value}`" for field in ORDER if field in kind.fields) or "–"
    once, priority = "yes" if kind.once else "–", kind.priority.name.lower()
    return f"| `{kind.name}` | {priority} | {subject} | {fields} | {once} | `{kind.message_id}` |"


def test_the_page_lists_them_all_as_they_are() -> None:
    listed = re.findall(r"^\| `[a-z-]+` \|.*$", PAGE.read_text(), re.MULTILINE)
    assert listed == [row(kind) for kind in KINDS]


def test_the_page_says_what_each_field_is() -> None:
    said = re.findall(r"^\| `OVERCOMMIT_([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert said == [field.value for field in Field]


def test_the_package_installs_the_catalog_and_what_it_refers_to() -> None:
    debian = CHECKOUT / "debian"
    installed = (debian / "overcommit.install").read_text().splitlines()
    assert "overcommit/daemon/overcommit.catalog usr/lib/systemd/catalog/" in installed
    assert "docs/runbooks" in (debian / "overcommit.docs").read_text().splitlines()


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="no systemd here")
def test_systemd_takes_the_catalog(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    shutil.copy(CATALOG, folder)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    journalctl = ["journalctl", f"--root={tmp_path}"]
    subprocess.run([*journalctl, "--update-catalog"], check=True)
    listed = subprocess.run(
        [*journalctl, "--list-catalog"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {line.split()[0] for line in listed} == {kind.message_id for kind in KINDS}


def test_the_unit_lets_the_daemon_reach_the_journal() -> None:
    """Its socket is a file below /run/systemd, reached without the network; stderr stays the journal's."""
    unit = (CHECKOUT / "overcommit/daemon/overcommitd.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    assert "AF_UNIX" in settings["RestrictAddressFamilies"].split()
    assert not {"StandardError", "LogNamespace", "InaccessiblePaths", "TemporaryFileSystem"} & set(settings)
