"""The verbs on a host where a daemon is at work: what they ask of it, and what they leave to it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from overcommit.cli.status import _text as status_text
from overcommit.cli.tables import plain_lines
from overcommit.control.status import Mode, Service, Standing, status_document
from overcommit.errors import HostError
from overcommit.model.action import PageoutAction
from overcommit.model.heat import ColdPiece
from overcommit.model.moments import Wall
from overcommit.model.past import Past, Quarantine, Reservation
from overcommit.model.policy import Actuator, PageoutActor
from overcommit.observe.facts import observe
from overcommit.plan import document
from overcommit.plan.planner import make_plan
from overcommit.policy import loader
from overcommit.policy.files import default_path
from overcommit.records.journal import GenerationSummary
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import GIB, MIB
from overcommit.wire import client
from overcommit.wire.peers import Group, Peer
from overcommit.wire.protocol import Verb
from overcommit.wire.server import ControlServer, Order
from tests.cli.conftest import Run
from tests.installed_fakes import Unforked

POLICY = "version: 1\nclasses: {all: {floor: 20%, cold_after: 20s}}\ndefault_class: all\n"
ROOT, STRANGER = Peer(1, 0, frozenset({0})), Peer(2, 1000, frozenset({1000}))
IN_PART, REFUSED, FAILED, USAGE = 3, 4, 1, 64
PID = os.getpid()


class Daemon:
    """A control socket behind which orders are answered as a test says, and noted."""

    def __init__(self, directory: Path, host: FakeHost) -> None:
        self.host = host
        self.peer = ROOT
        self.answers: dict[Verb, Callable[[Order], None]] = {
            Verb.TICK: lambda order: order.reply({"tick": 8, "sentence": "planned"})
        }
        self.heard: list[tuple[Verb, dict[str, Any]]] = []
        self.server = ControlServer(
            directory / "control.sock", Group("operators", 42), self._work, credentials=lambda _: self.peer
        )
        clock = FakeClock(host)
        self.policy = loader.parse(POLICY, "policy.yaml")
        self.snapshot = observe(FakeKernel(host), FakeHypervisor(host), clock)
        self.plan = make_plan(self.snapshot, {}, self.policy)

    def _work(self) -> None:
        for order in self.server.orders():
            self.heard.append((order.verb, dict(order.arguments)))
            self.answers[order.verb](order)

    def publish(self, mode: Mode = Mode.ACTIVE, *, of_idle: Standing | None = None, **service: Any) -> None:
        idle, web = (domain.incarnation for domain in self.snapshot.domains)
        past = Past(
            reservations=(
                Reservation(id=3, purpose="new", size_bytes=GIB, expires_at=self.snapshot.taken_at + 600),
            ),
            quarantines=(
                Quarantine(
                    domain=idle,
                    actuator=Actuator.BALLOON,
                    reason="it lies",
                    until=self.snapshot.taken_at + 60,
                ),
            ),
        )
        boot_id = self.snapshot.host.boot_id
        at = Wall(0)
        generations = (
            GenerationSummary(number=5, command="apply", started_at=at, boot_id="the last", outstanding=1),
            GenerationSummary(number=6, command="plan", started_at=at, boot_id=boot_id, outstanding=0),
            GenerationSummary(number=7, command="overcommitd", started_at=at, boot_id=boot_id, outstanding=2),
        )
        seen = status_document(
            self.snapshot,
            self.policy,
            past,
            generations,
            service=Service(pid=PID, mode=mode, tick=7, sentence="took 64 MiB from web", **service),
            standings={
                web: Standing(
                    target_bytes=64 * MIB,
                    reclaimed_bytes=32 * MIB,
                    promotion_rate_per_minute=0.0005,
                    slo_promotion_rate_per_minute=0.002,
                    cold_after_seconds=40,
                    doing="page-out of 16 MiB",
                ),
                idle: of_idle or Standing(why_not="it reads back too much"),
            },
        )
        sums = self.plan.without_addresses()
        self.server.publish(
            json.dumps(seen).encode(), document.dumps(self.plan).encode(), document.dumps(sums).encode()
        )


@pytest.fixture
def host(mocker: MockerFixture) -> FakeHost:
    host = FakeHost(
        [
            FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(100)), hot=set(range(16))),
            FakeGuest("idle", "uuid-2", 502, 128 * MIB, set(range(100)), free=set(range(25, 100))),
        ],
        total_bytes=2 * GIB,
    )
    mocker.patch("overcommit.cli.session.DamonWorker", return_value=Unforked(host))
    mocker.patch("overcommit.cli.session.SystemClock", return_value=FakeClock(host))
    mocker.patch("overcommit.cli.session.LibvirtClient", side_effect=AssertionError("a second look"))
    return host


@pytest.fixture
def daemon(state: Path, host: FakeHost) -> Iterator[Daemon]:
    daemon = Daemon(state.parent / "run", host)
    daemon.publish()
    yield daemon
    daemon.server.close()


@pytest.fixture
def as_anybody(daemon: Daemon, mocker: MockerFixture) -> Daemon:
    mocker.patch("os.geteuid", return_value=1000)
    daemon.peer = STRANGER
    return daemon


@pytest.mark.usefixtures("as_anybody")
def test_status_is_the_daemon_s_for_everybody(run: Run) -> None:
    ended = run("status")
    assert (ended.status, ended.err) == (0, "")
    said = [line for line in ended.out.splitlines() if not line.startswith(("  left out: ", "  swap: "))]
    head, sentence, host, budget, table, idle, web, *more = said
    assert head == f"overcommitd (pid {PID}) is active"
    assert sentence == "took 64 MiB from web"
    assert host == (
        "fakehost: 2 domains, 256 MiB promised of 2.0 GiB, 1.8 GiB available, swap 0 B of 4.0 GiB, "
        "660 MiB above the reserve of 164 MiB and 1.0 GiB reserved"
    )
    assert budget == "swap budget: not known yet; memory pressure of the host: 0.0%"
    assert table.split("resident")[1].split() == ["taken", "read", "back/min", "cold", "after"]
    assert web.split()[-6:] == ["32.0", "MiB", "0.05%", "of", "0.2%", "40s"]
    assert idle.split()[-3:] == ["?", "?", "?"]
    assert more[:2] == ["  idle: nothing is taken: it reads back too much", "  web: page-out of 16 MiB"]
    assert more[2].startswith("  reservation 3: 1.0 GiB for new until ")
    assert more[3].startswith("  idle: no balloon until ")
    assert more[4:] == [
        "      to end it: overcommitctl release idle",
        "  generation 7 (overcommitd): 2 changes in force; stop overcommitd to undo",
    ]


@pytest.mark.usefixtures("as_anybody")
def test_status_beside_a_daemon_fits_eighty_columns_and_has_the_rest_on_demand(run: Run) -> None:
    seen = json.loads(run("status", "--json").out)
    for domain in seen["domains"]:
        domain |= {"name": "web-front-1", "class": "standard", "state": "running"}
        domain |= {"promotion_rate_per_minute": 0.0015, "slo_promotion_rate_per_minute": 0.002}
        domain |= {name: 1023 * MIB for name, value in domain.items() if name.endswith("_bytes") and value}
        domain["cold_after_seconds"] = 600
    text = list(plain_lines(status_text(seen, seen["taken_at"]), width=80))
    assert "web-front-1  standard" in "\n".join(text), "no name is cut"
    for line in text:
        assert len(line) <= 80, line
    (more,) = [line for line in run("status", "-v").out.splitlines() if "PSI some" in line]
    for name in ("state", "swapped", "balloon", "target"):
        assert name in more
    assert "running" not in run("status").out, "what is the same for all of them"


@pytest.mark.usefixtures("as_anybody")
def test_status_for_programs_says_where_the_daemon_stands(run: Run) -> None:
    seen = json.loads(run("status", "--json").out)
    assert (seen["mode"], seen["tick"], seen["pid"]) == ("active", 7, PID)
    assert seen["outstanding_generations"] == [7]
    idle, web = seen["domains"]
    assert (web["class"], web["reclaimed_bytes"], web["cold_after_seconds"]) == ("all", 32 * MIB, 40)
    assert (idle["promotion_rate_per_minute"], idle["why_not"]) == (None, "it reads back too much")


@pytest.mark.usefixtures("as_anybody")
def test_status_of_one_domain(run: Run) -> None:
    assert [d["name"] for d in json.loads(run("status", "--json", "idle").out)["domains"]] == ["idle"]
    ended = run("status", "wbe")
    assert (ended.status, "hint:  did you mean web?" in ended.err) == (USAGE, True)


@pytest.mark.parametrize(
    ("mode", "service", "says"),
    [
        (Mode.OBSERVE, {}, "is observing: it plans and changes nothing"),
        (
            Mode.SAFE,
            {"reason": "libvirt is away"},
            "is in safe mode: it takes nothing, holds what it has, then gives it back: libvirt",
        ),
        (
            Mode.PAUSED,
            {"until": 2e9},
            "is paused: it takes nothing and gives back to guests that are short, until 20",
        ),
    ],
)
def test_status_says_how_the_daemon_works(
    run: Run, daemon: Daemon, mode: Mode, service: dict[str, Any], says: str
) -> None:
    daemon.publish(mode, **service)
    assert says in run("status").out.splitlines()[0]


@pytest.mark.usefixtures("as_anybody")
def test_status_for_programs_has_what_is_kept_free(run: Run) -> None:
    host = json.loads(run("status", "--json").out)["host"]
    assert host["reserve_bytes"] == round(0.08 * 2 * GIB)
    assert host["reserved_bytes"] == GIB
    assert host["headroom_bytes"] == host["available_bytes"] - host["reserve_bytes"] - GIB


def test_status_says_how_a_domain_is_held(run: Run, daemon: Daemon) -> None:
    held = "takes what was idle for 8min (class: 2min), 50% of a step, since it read back too much"
    daemon.publish(of_idle=Standing(held=held, outside_share=0.25))
    assert f"\n  idle: {held}\n" in run("status").out
    idle, web = json.loads(run("status", "--json").out)["domains"]
    assert (idle["held"], idle["outside_share"], web["held"]) == (held, 0.25, None)


def test_status_says_why_the_policy_on_disk_is_refused(run: Run, daemon: Daemon) -> None:
    assert json.loads(run("status", "--json").out)["policy_refused"] is None
    daemon.publish(policy_refused="policy.yaml:3:14: unknown key flor\npolicy.yaml:5:1: no")
    said = run("status").out
    assert "\n  the policy on disk is refused: policy.yaml:3:14: unknown key flor\n" in said
    assert "\n  the policy on disk is refused: policy.yaml:5:1: no\n" in said


@pytest.fixture
def libvirt(mocker: MockerFixture, host: FakeHost) -> None:
    """Doctor looks for itself, at libvirt and the domains."""
    mocker.patch("os.geteuid", return_value=0)
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(host))


@pytest.mark.usefixtures("libvirt")
def test_doctor_finds_a_host_with_a_daemon_in_order(run: Run, daemon: Daemon) -> None:
    ended = run("doctor")
    assert ended.status == 0
    said = ended.out.splitlines()
    assert f"ok       DAMON: overcommitd (pid {PID}) uses it: took 64 MiB from web" in said
    assert "ok       policy: overcommitd uses policy.yaml" in said
    undone = "2 changes in force; stop overcommitd to undo"
    assert f"ok       in force: generation 7 (overcommitd): {undone}" in said
    assert daemon.heard == []


@pytest.mark.usefixtures("libvirt")
def test_doctor_warns_of_a_daemon_that_has_lost_something(run: Run, daemon: Daemon) -> None:
    daemon.publish(Mode.SAFE, reason="libvirt is away", policy_refused="a: no\nb: no")
    said = run("doctor").out
    assert f"warn     DAMON: overcommitd (pid {PID}) uses it" in said
    assert "warn     policy: overcommitd refuses the policy on disk: a: no; b: no" in said
    assert "fix: overcommitctl validate policy.yaml\n" in said, "the daemon's, not the host's own"
    source = str(default_path())
    daemon.policy = dataclasses.replace(daemon.policy, source=source)
    daemon.publish(policy_refused="a: no")
    assert "fix: overcommitctl validate\n" in run("doctor").out


@pytest.mark.usefixtures("libvirt", "daemon")
def test_doctor_probes_nothing_beside_a_daemon(run: Run) -> None:
    ended = run("doctor", "--probe")
    assert (ended.status, ended.out) == (REFUSED, "")
    assert ended.err.splitlines()[0] == (
        f"error: overcommitd is running (pid {PID}): --probe needs a kdamond slot of its own"
    )
    assert "hint:  run doctor without --probe" in ended.err


@pytest.mark.usefixtures("libvirt")
def test_doctor_and_a_daemon_that_says_nothing(run: Run, daemon: Daemon, mocker: MockerFixture) -> None:
    mocker.patch.object(client.Daemon, "ask", side_effect=HostError("it hangs", hint="look there"))
    ended = run("doctor")
    assert ended.status == REFUSED
    assert "conflict overcommitd: it hangs" in ended.out
    assert daemon.heard == []


def test_status_that_is_old_is_said_to_be(run: Run, daemon: Daemon) -> None:
    daemon.host.advance(90)
    ended = run("status")
    assert ended.err == f"overcommitd (pid {PID}) is late: it last looked at the host 1min 30s ago\n"
    assert ended.status == 0


def test_plan_is_the_daemon_s_and_new(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    ended = run("plan", "-o", tmp_path / "p.json", "--json", "--detailed-exitcode")
    assert ended.status == (2 if daemon.plan.runnable else 0)
    assert ended.out == document.dumps(daemon.plan)
    assert (tmp_path / "p.json").read_text() == ended.out
    assert f"planned by overcommitd (pid {PID}) 0s ago, from its own watch\n" in ended.err
    assert "overcommitd applies its plans itself" in ended.err
    assert daemon.heard == [(Verb.TICK, {})]


def test_plan_for_who_may_not_give_orders_is_the_latest(run: Run, as_anybody: Daemon) -> None:
    as_anybody.host.advance(4)
    ended = run("plan")
    assert ended.status == 0
    assert "2 domains, 2.0 GiB RAM" in ended.out
    assert "4s ago" in ended.err
    assert as_anybody.heard == []


@pytest.mark.usefixtures("as_anybody")
def test_explain_shows_one_domain_of_its_plan(run: Run) -> None:
    ended = run("explain", "idle")
    assert ended.status == 0
    assert ended.out.startswith("idle  (class all, uuid uuid-2, pid 502)\n")
    assert "web" not in ended.out
    assert [d["name"] for d in json.loads(run("explain", "idle", "--json").out)["domains"]] == ["idle"]
    assert run("explain", "idel").status == USAGE


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["plan", "--observe-for", "30s"], "--observe-for"),
        (["plan", "--take-over", "--domain", "web"], "--domain, --take-over"),
        (["plan", "--policy", "p.yaml"], "--policy"),
        (["explain", "web", "--observe-for", "30s"], "--observe-for"),
        (["status", "--policy", "p.yaml"], "--policy"),
        (["reserve", "1GiB", "--take-over"], "--take-over"),
    ],
    ids=" ".join,
)
def test_options_that_need_a_watch_of_their_own(
    run: Run, daemon: Daemon, arguments: list[str], named: str
) -> None:
    ended = run(*arguments)
    assert (ended.status, ended.out) == (USAGE, "")
    assert ended.err.startswith(f"error: {named}: not possible while overcommitd is running (pid {PID})")
    assert "hint:  overcommitctl " in ended.err
    assert daemon.heard == []


def test_the_command_that_is_named_instead_means_the_same_domain(run: Run, daemon: Daemon) -> None:
    for name in ("-web", "a b", "--help"):
        daemon.plan = dataclasses.replace(
            daemon.plan,
            domains=tuple(
                dataclasses.replace(d, incarnation=dataclasses.replace(d.incarnation, name=name))
                for d in daemon.plan.domains[:1]
            ),
            actions=(),
        )
        daemon.publish()
        refused = run("explain", "--observe-for", "30s", "--", name)
        assert refused.status == USAGE
        (hint,) = re.findall("hint:  overcommitctl (.*)", refused.err)
        assert run(*shlex.split(hint)).out.startswith(f"{name}  (class")


@pytest.mark.parametrize(("arguments", "sent"), [([], {}), (["--for", "1h"], {"seconds": 3600.0})])
def test_pause_and_resume(run: Run, daemon: Daemon, arguments: list[str], sent: dict[str, Any]) -> None:
    daemon.answers[Verb.PAUSE] = lambda order: order.reply(
        {"mode": "paused", "sentence": "paused until resume"}
    )
    daemon.answers[Verb.RESUME] = lambda order: order.reply({"mode": "active", "sentence": "at work"})
    assert run("pause", *arguments).out == "paused until resume\n"
    assert json.loads(run("resume", "--json").out) == {
        "kind": "resume",
        "mode": "active",
        "sentence": "at work",
    }
    assert daemon.heard == [(Verb.PAUSE, sent), (Verb.RESUME, {})]


@pytest.mark.parametrize("verb", [["pause"], ["resume"], ["reserve", "1GiB"], ["release", "idle"]])
def test_orders_of_who_may_not_give_them(run: Run, as_anybody: Daemon, verb: list[str]) -> None:
    ended = run(*verb)
    assert (ended.status, ended.out) == (REFUSED, "")
    assert ended.err.splitlines() == [
        f"error: {verb[0]} is allowed for root and the group operators, not for uid 1000",
        "hint:  try sudo, or be a member of operators",
    ]
    assert as_anybody.heard == []


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.usefixtures("host")
def test_where_no_daemon_is_at_work(run: Run, verb: str) -> None:
    ended = run(verb)
    assert ended.status == REFUSED
    assert ended.err.splitlines() == [
        f"error: overcommitd is not running: there is nothing to {verb}",
        "hint:  systemctl start overcommitd",
    ]


def granted(order: Order) -> None:
    order.progress({"sentence": "512 MiB are missing"})
    reservation = {"id": 5, "for": "new", "size_bytes": GIB, "expires_at": 2e9}
    order.reply({"granted": True, "reservation": reservation, "freed_bytes": 512 * MIB})


def refused(order: Order, *, changed: bool) -> None:
    order.reply(
        {
            "granted": False,
            "missing_bytes": 256 * MIB,
            "freed_bytes": 64 * MIB if changed else 0,
            "obstacles": ["web gives nothing"],
            "changed": changed,
        }
    )


def test_reserve_is_done_by_the_daemon_for_its_group_too(run: Run, as_anybody: Daemon) -> None:
    as_anybody.peer = Peer(3, 1000, frozenset({42}))
    as_anybody.answers[Verb.RESERVE] = granted
    ended = run("reserve", "1GiB", "--for", "new", "--hold", "1h", "--timeout", "5min")
    assert ended.status == 0
    assert ended.out.startswith("reservation 5: 1.0 GiB for new until 2033-05-18T")
    assert ended.err.splitlines()[0] == "512 MiB are missing"
    arguments = {"size_bytes": GIB, "purpose": "new", "hold_seconds": 3600.0, "timeout_seconds": 300.0}
    assert as_anybody.heard == [(Verb.RESERVE, arguments)]
    lines = [json.loads(line) for line in run("reserve", "1GiB", "--json").out.splitlines()]
    assert [(line["type"], line.get("id")) for line in lines] == [("progress", None), ("reservation", 5)]
    assert "purpose" not in as_anybody.heard[-1][1]


def test_what_was_promised_is_listed_and_taken_back_by_the_daemon_for_its_group_too(
    run: Run, as_anybody: Daemon
) -> None:
    reservation = {"id": 5, "for": "new", "size_bytes": GIB, "expires_at": 2e9}
    as_anybody.answers[Verb.CANCEL] = lambda order: order.reply({"reservation": reservation})
    assert run("reserve", "--list").out.startswith("reservation 3: 1.0 GiB for new until ")
    assert [r["id"] for r in json.loads(run("reserve", "--list", "--json").out)["reservations"]] == [3]
    assert as_anybody.heard == [], "everybody may look"
    as_anybody.peer = Peer(3, 1000, frozenset({42}))
    assert run("reserve", "--cancel", "5").out == "reservation 5 of 1.0 GiB ended.\n"
    ended = json.loads(run("reserve", "--cancel", "5", "--json").out)
    assert ended == {"kind": "cancel", "reservation": reservation}
    assert as_anybody.heard == [(Verb.CANCEL, {"id": 5})] * 2


def test_a_promise_that_has_ended_since_the_daemon_looked_is_not_listed(run: Run, daemon: Daemon) -> None:
    daemon.host.advance(601.0)
    assert run("reserve", "--list").out == "Nothing is reserved.\n"


def test_a_quarantine_is_ended_by_the_daemon_for_its_group_too(run: Run, as_anybody: Daemon) -> None:
    as_anybody.peer = Peer(3, 1000, frozenset({42}))
    quarantine = {
        "domain": "idle",
        "uuid": "uuid-2",
        "actuator": "balloon",
        "reason": "it lies",
        "until": 2e9,
    }
    as_anybody.answers[Verb.RELEASE] = lambda order: order.reply({"released": [quarantine]})
    assert (
        run("release", "idle").out
        == "idle: balloon can be used again. It was in quarantine because it lies\n"
    )
    assert json.loads(run("release", "idle", "--json").out) == {"kind": "release", "released": [quarantine]}
    as_anybody.answers[Verb.RELEASE] = lambda order: order.reply({"released": []})
    assert run("release", "web").out == "web is not in quarantine.\n"
    assert as_anybody.heard[-1] == (Verb.RELEASE, {"domain": "web"})
    slip = run("release", "wbe")
    assert (slip.status, slip.out) == (USAGE, "")
    assert "no running domain 'wbe'" in slip.err
    assert "did you mean web?" in slip.err


@pytest.mark.parametrize(("changed", "status"), [(True, IN_PART), (False, REFUSED)])
def test_reserve_that_is_not_granted(run: Run, daemon: Daemon, changed: bool, status: int) -> None:
    daemon.answers[Verb.RESERVE] = lambda order: refused(order, changed=changed)
    ended = run("reserve", "1GiB")
    assert (ended.status, ended.out) == (status, "")
    assert "error: 1.0 GiB is not reserved: 256 MiB is missing" in ended.err
    assert "hint:  web gives nothing" in ended.err
    assert json.loads(run("reserve", "1GiB", "--json").out)["granted"] is False


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["apply", "--yes"], "it applies its plans itself"),
        (["apply", "p.json"], "it applies its plans itself"),
        (["restore"], "the changes in force are its own"),
    ],
    ids=" ".join,
)
def test_what_is_the_daemon_s_own_business(
    run: Run, daemon: Daemon, mocker: MockerFixture, arguments: list[str], why: str
) -> None:
    mocker.patch("os.geteuid", return_value=0)
    ended = run(*arguments)
    assert (ended.status, ended.out) == (REFUSED, "")
    assert ended.err.splitlines()[0] == f"error: overcommitd is running (pid {PID}): {why}"
    assert "systemctl stop overcommitd" in ended.err
    assert daemon.heard == []


def test_an_error_of_the_daemon_is_told_as_its_own(run: Run, daemon: Daemon) -> None:
    daemon.answers[Verb.PAUSE] = lambda order: order.fail("the disk is full", "free some", exit_code=FAILED)
    ended = run("pause")
    assert (ended.status, ended.err) == (FAILED, "error: the disk is full\nhint:  free some\n")


def test_a_daemon_that_hangs(daemon: Daemon) -> None:
    daemon.answers[Verb.PAUSE] = lambda _order: None
    found = client.find_daemon()
    assert found is not None
    with pytest.raises(HostError, match=rf"overcommitd \(pid {PID}\) has not answered for 50ms"):
        found.ask(Verb.PAUSE, seconds=0.05)


def test_a_daemon_that_ends_in_the_middle(daemon: Daemon) -> None:
    found = client.find_daemon()
    assert found is not None
    daemon.server.close()
    with pytest.raises(HostError, match="closed the connection"):
        found.ask(Verb.STATUS)


@pytest.mark.parametrize("said", [b"", b"half a li", b"hello\n", b'{"version": 2, "result": {}}\n'])
def test_somebody_else_at_the_socket(state: Path, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(state.parent))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(state.parent / "control.sock"))
        listener.listen()
        found = client.find_daemon()
        assert found is not None
        listener.accept()[0].close()
        asked = _ask_in_turn(found, listener, said)
    assert asked.startswith(f"overcommitd (pid {PID})")


def _ask_in_turn(found: client.Daemon, listener: socket.socket, said: bytes) -> str:
    """What the client makes of these bytes; they are in its socket before it reads."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(said)

    server = threading.Thread(target=serve)
    server.start()
    try:
        with pytest.raises(HostError) as caught:
            found.ask(Verb.STATUS, seconds=30)
    finally:
        server.join()
    return str(caught.value)


def test_a_socket_that_lets_nobody_in(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(state.parent / ("x" * 120)))
    with pytest.raises(HostError, match="refuses connections"):
        client.find_daemon()


def test_a_crowd_at_the_door_is_waited_for(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket's backlog is full: a client waits for its turn, up to its patience."""
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(state.parent))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.ExitStack() as crowd:
        listener.bind(str(state.parent / "control.sock"))
        listener.listen(0)
        waiting = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        waiting.connect(str(state.parent / "control.sock"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as impatient:
            impatient.setblocking(False)
            with pytest.raises(BlockingIOError):
                impatient.connect(str(state.parent / "control.sock"))
        monkeypatch.setattr(client, "_CONNECT_SECONDS", 30)
        door = threading.Timer(0.05, lambda: crowd.enter_context(listener.accept()[0]))
        door.start()
        try:
            assert client.find_daemon() is not None
        finally:
            door.join()


@pytest.mark.parametrize("verb", ["plan", "explain"])
def test_who_may_only_read_sees_no_addresses(
    run: Run, daemon: Daemon, mocker: MockerFixture, verb: str
) -> None:
    pieces = (ColdPiece(0x7F12_3456_0000, 0x7F12_3476_0000, 2 * MIB, 120.0),)
    web = next(d for d in daemon.plan.domains if d.incarnation.name == "web")
    action = PageoutAction(
        id="1",
        before_bytes=100 * MIB,
        after_bytes=98 * MIB,
        expected_bytes=2 * MIB,
        reason="idle",
        because="it is idle",
        risk="none",
        domain=web.incarnation,
        actor=PageoutActor.DAMOS_FVADDR,
        cold_after_seconds=60,
        max_bytes_per_second=MIB,
        psi_some_limit=0.1,
        promotions_limit=0.1,
        working_set_bytes=MIB,
        expected_promotions_per_minute=0,
        pieces=pieces,
    )
    daemon.plan = dataclasses.replace(daemon.plan, actions=(action,))
    daemon.publish()
    who = ("web",) if verb == "explain" else ()
    assert str(pieces[0].start) in run(verb, *who, "--json").out, "root sees them"
    mocker.patch("os.geteuid", return_value=1000)
    daemon.peer = STRANGER
    ended = run(verb, *who, "--json")
    (seen,) = json.loads(ended.out)["actions"]
    assert (ended.status, seen["pieces"], seen["expected_bytes"]) == (0, [], 2 * MIB)
    assert str(pieces[0].start) not in ended.out
    assert "frees 2.0 MiB" in run(verb, *who).out
