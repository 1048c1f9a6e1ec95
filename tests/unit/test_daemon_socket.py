"""The control socket on a real one: who may do what, and clients that behave badly."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from overcommit.errors import Conflict, HostError, Refused, UsageError
from overcommit.wire.admission import LINGERING_SECONDS, MOST_CONNECTIONS, MOST_OF_ONE_USER
from overcommit.wire.client import find_daemon
from overcommit.wire.peers import Group, Peer, find_group, peer_of
from overcommit.wire.protocol import MOST_REQUEST_BYTES, Reply, ReplyKind, Request, Verb
from overcommit.wire.server import MOST_OF_ONE_AT_ONCE, ControlServer, Order

OPERATORS = Group("operators", 4242)
ROOT = Peer(1, 0, frozenset({0}))
MEMBER = Peer(2, 1000, frozenset({1000, OPERATORS.gid}))
STRANGER = Peer(3, 1001, frozenset({1001}))
LONG = 30.0
"""Patience that a test does not outlast."""


@dataclass
class Served:
    """A server, who its next clients are in turn, and what wakes the loop."""

    path: Path
    peers: queue.SimpleQueue[Peer] = field(default_factory=queue.SimpleQueue)
    woken: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)
    server: ControlServer | None = None
    said: list[str] = field(default_factory=list)

    def start(self, patience_seconds: float = LONG, group: Group | None = OPERATORS) -> ControlServer:
        self.server = ControlServer(
            self.path,
            group,
            lambda: self.woken.put(None),
            say=self.said.append,
            credentials=lambda _connection: ROOT if self.peers.empty() else self.peers.get(),
            patience_seconds=patience_seconds,
        )
        return self.server

    def connect(self, peer: Peer = ROOT) -> socket.socket:
        self.peers.put(peer)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(LONG)
        client.connect(str(self.path))
        return client

    def ask(self, verb: Verb, peer: Peer = ROOT, **arguments: Any) -> socket.socket:
        client = self.connect(peer)
        with contextlib.suppress(BrokenPipeError):  # refused before it asked
            client.sendall(Request(verb=verb, arguments=arguments).encode())
        return client

    def order(self) -> Order:
        """The next one, once it has come."""
        assert self.server is not None
        self.woken.get(timeout=LONG)
        (order,) = self.server.orders()
        return order


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "run" / "control.sock")
    yield served
    if served.server is not None:
        served.server.close()


def replies(client: socket.socket) -> list[Reply]:
    """All that comes up to the last line; a server that did not want all that we sent then resets."""
    found: list[Reply] = []
    with client, client.makefile("rb") as lines:
        while not found or not found[-1].final:
            found.append(Reply.parse(lines.readline()))
    return found


def answer(client: socket.socket) -> Reply:
    (only,) = replies(client)
    return only


def closed(client: socket.socket) -> bool:
    """Whether the server closes the connection without a word."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_everybody_reads_what_was_published_last(served: Served) -> None:
    server = served.start()
    for peer in (ROOT, MEMBER, STRANGER):
        assert (
            answer(served.ask(Verb.STATUS, peer)).body["message"]
            == "overcommitd has not looked at the host yet"
        )
    server.publish(b'{"tick": 1}', None, None)
    assert answer(served.ask(Verb.STATUS, STRANGER)).body == {"tick": 1}
    assert answer(served.ask(Verb.PLAN, STRANGER)).body["message"] == "overcommitd has not made a plan yet"
    server.publish(b'{\n "tick": 2\n}\n', b'{"kind": "plan"}\n', b'{"kind":\n"sums"}')
    assert answer(served.ask(Verb.STATUS, STRANGER)).body == {"tick": 2}
    assert answer(served.ask(Verb.PLAN, STRANGER)).body == {"kind": "sums"}
    for peer in (ROOT, MEMBER):
        assert answer(served.ask(Verb.PLAN, peer)).body == {"kind": "plan"}
    assert server.orders() == []


def test_a_document_is_made_when_somebody_asks_and_once_for_all(served: Served) -> None:
    server = served.start()
    made: list[str] = []

    def document(name: str) -> Callable[[], bytes]:
        def make() -> bytes:
            made.append(name)
            return json.dumps({"name": name}).encode()

        return make

    for tick in range(3):
        server.publish(document(f"status {tick}"), document("plan"), document("sums"))
    for _ in range(2):
        assert answer(served.ask(Verb.STATUS, STRANGER)).body == {"name": "status 2"}
        assert answer(served.ask(Verb.PLAN, STRANGER)).body == {"name": "sums"}
    assert made == ["status 2", "sums"]


def test_one_that_cannot_be_made_costs_who_asks_for_it_and_nobody_else(served: Served) -> None:
    server = served.start()
    server.publish(lambda: json.dumps({"a": object()}).encode(), b'{"kind": "plan"}', None)
    with served.ask(Verb.STATUS, ROOT) as client:
        assert closed(client)
    assert answer(served.ask(Verb.PLAN, ROOT)).body == {"kind": "plan"}


@pytest.mark.parametrize("peer", [ROOT, MEMBER])
def test_an_order_is_done_by_the_loop(served: Served, peer: Peer) -> None:
    served.start()
    client = served.ask(Verb.PAUSE, peer, seconds=60)
    order = served.order()
    assert (order.verb, order.arguments, order.peer, order.gone) == (Verb.PAUSE, {"seconds": 60}, peer, False)
    order.progress({"sentence": "one"})
    order.progress({"sentence": "two"})
    order.reply({"mode": "paused"})
    order.reply({"mode": "twice"})
    assert replies(client) == [
        Reply(kind=ReplyKind.PROGRESS, body={"sentence": "one"}),
        Reply(kind=ReplyKind.PROGRESS, body={"sentence": "two"}),
        Reply(kind=ReplyKind.RESULT, body={"mode": "paused"}),
    ]


def test_an_order_that_fails_says_why(served: Served) -> None:
    served.start()
    client = served.ask(Verb.TICK)
    served.order().fail("the policy has faults", "overcommitctl validate", exit_code=UsageError.exit_code)
    with pytest.raises(UsageError, match="the policy has faults") as caught:
        answer(client).raise_error()
    assert caught.value.hint == "overcommitctl validate"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        (Verb.PAUSE, {}),
        (Verb.RESUME, {}),
        (Verb.TICK, {}),
        (Verb.CANCEL, {"id": 1}),
        (Verb.RELEASE, {"domain": "web"}),
    ],
)
def test_an_order_of_a_stranger_is_refused_and_names_the_group(
    served: Served, verb: Verb, arguments: dict[str, Any]
) -> None:
    server = served.start()
    with pytest.raises(
        Refused, match=f"^{verb.value} is allowed for root and the group operators, not for uid 1001$"
    ):
        answer(served.ask(verb, STRANGER, **arguments)).raise_error()
    assert (server.orders(), served.woken.qsize()) == ([], 0)


def test_without_a_group_orders_are_root_s(served: Served) -> None:
    served.start(group=None)
    assert (
        answer(served.ask(Verb.PAUSE, MEMBER)).body["message"]
        == "pause is allowed for root, not for uid 1000"
    )
    served.ask(Verb.PAUSE, ROOT).close()


@pytest.mark.parametrize(
    "sent",
    [
        b"dance\n",
        b"\n",
        b"\0\n",
        b"\xff\xff\n",
        "{}\n".encode("utf-16"),
        b'{"version": 1, "verb": "dance"}\n',
    ],
)
def test_garbage_gets_an_answer(served: Served, sent: bytes) -> None:
    served.start()
    client = served.connect()
    client.sendall(sent)
    assert answer(client).body["exit_code"] == UsageError.exit_code


def test_a_request_may_come_in_pieces(served: Served) -> None:
    served.start().publish(b"{}", None, None)
    client = served.connect()
    for byte in Request(verb=Verb.STATUS, arguments={}).encode():
        client.sendall(bytes([byte]))
    assert answer(client).body == {}


def test_a_request_without_an_end_is_cut_off(served: Served) -> None:
    served.start()
    client = served.connect()
    with contextlib.suppress(OSError):  # it does not wait for the end
        client.sendall(b"x" * (MOST_REQUEST_BYTES * 4))
    assert answer(client).body["message"] == "the request is too long"


def test_who_says_nothing_is_let_go(served: Served) -> None:
    served.start(patience_seconds=0.05)
    with served.connect() as silent, served.connect() as slow:
        slow.sendall(b'{"version": 1, ')
        assert closed(silent)
        assert closed(slow)


def test_who_does_not_take_its_answer_is_let_go_and_nobody_waits_for_it(served: Served) -> None:
    server = served.start(patience_seconds=0.2)
    server.publish(json.dumps({"much": "x" * 4_000_000}).encode(), None, None)
    with served.ask(Verb.STATUS) as slow:
        assert len(answer(served.ask(Verb.STATUS)).body["much"]) == 4_000_000
        slow.recv(1)
        ticking = served.ask(Verb.TICK)
        served.order().reply({})
        assert answer(ticking).body == {}
        hung_up = select.poll()
        hung_up.register(slow, 0)
        assert hung_up.poll(LONG * 1000), "the server still waits for it"
    assert server.orders() == []


def test_a_second_request_on_a_connection_ends_it(served: Served) -> None:
    server = served.start()
    client = served.ask(Verb.PAUSE)
    order = served.order()
    client.sendall(Request(verb=Verb.RESUME, arguments={}).encode())
    with client:
        assert closed(client)
    assert order.gone
    order.reply({})
    assert server.orders() == []


def test_an_order_whose_client_leaves_before_it_is_taken_is_forgotten(served: Served) -> None:
    server = served.start()
    served.ask(Verb.PAUSE).close()
    served.woken.get(timeout=LONG)
    # One thread serves all in turn: when this one is answered, it has seen the other leave.
    for _ in range(2):
        answer(served.ask(Verb.STATUS))
    assert server.orders() == []


def test_a_reader_that_shuts_its_side_down_still_gets_its_answer(served: Served) -> None:
    server = served.start()
    server.publish(json.dumps({"much": "x" * 4_000_000}).encode(), None, None)
    client = served.ask(Verb.STATUS)
    client.shutdown(socket.SHUT_WR)
    assert len(answer(client).body["much"]) == 4_000_000


def is_let_in(served: Served, peer: Peer) -> bool:
    return "too many" not in answer(served.ask(Verb.STATUS, peer)).body.get("message", "")


def test_no_user_and_no_number_of_users_keep_another_out(served: Served) -> None:
    served.start().publish(b"{}", None, None)
    users = [Peer(9, uid, frozenset()) for uid in range(2000, 2000 + MOST_CONNECTIONS // MOST_OF_ONE_USER)]
    with contextlib.ExitStack() as held:
        for user in users:
            for _ in range(MOST_OF_ONE_USER):
                held.enter_context(served.connect(user))
            assert not is_let_in(served, user)
        for peer in (STRANGER, Peer(3, 1002, frozenset()), MEMBER, ROOT):
            assert is_let_in(served, peer)


def test_a_place_for_each_of_many_users_is_given_to_who_asks(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overcommit.wire.admission.LINGERING_SECONDS", 0.2)
    assert LINGERING_SECONDS > 0.2
    served.start().publish(b"{}", None, None)
    with contextlib.ExitStack() as held:
        silent = [
            held.enter_context(served.connect(Peer(9, uid, frozenset())))
            for uid in range(2000, 2000 + MOST_CONNECTIONS)
        ]
        assert not is_let_in(served, STRANGER), "they have only just come"
        time.sleep(0.3)
        assert is_let_in(served, STRANGER)
        assert "too many" in answer(silent[0]).body["message"], "who has said nothing for longest made room"


def test_the_group_cannot_keep_root_out_nor_one_of_it_another(served: Served) -> None:
    served.start().publish(b"{}", None, None)
    members = [Peer(9, uid, frozenset({OPERATORS.gid})) for uid in range(2000, 2000 + MOST_CONNECTIONS)]
    with contextlib.ExitStack() as held:
        for member in members[: MOST_CONNECTIONS // MOST_OF_ONE_USER]:
            for _ in range(MOST_OF_ONE_USER):
                held.enter_context(served.connect(member))
        assert is_let_in(served, members[-1])
        assert is_let_in(served, ROOT)
        assert is_let_in(served, STRANGER)


def test_who_waits_for_an_order_is_not_sent_away(served: Served) -> None:
    server = served.start()
    waiting = served.ask(Verb.PAUSE, MEMBER)
    order = served.order()
    with contextlib.ExitStack() as held:
        for uid in range(2000, 2000 + 2 * MOST_CONNECTIONS):
            held.enter_context(served.connect(Peer(9, uid, frozenset({OPERATORS.gid}))))
        order.reply({"mode": "paused"})
        assert answer(waiting).body == {"mode": "paused"}
    assert server.orders() == []


def test_who_comes_too_often_is_turned_away_and_others_are_not(served: Served) -> None:
    served.start().publish(b"{}", None, None)
    let_in = sum(is_let_in(served, STRANGER) for _ in range(4 * MOST_OF_ONE_AT_ONCE))
    assert MOST_OF_ONE_AT_ONCE <= let_in < 3 * MOST_OF_ONE_AT_ONCE
    assert is_let_in(served, Peer(3, 1002, frozenset()))
    assert all(is_let_in(served, ROOT) for _ in range(4 * MOST_OF_ONE_AT_ONCE)), "root may come as it likes"


def test_root_does_not_wait_in_the_queue_of_all_others(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue is full of others, of whom one a second is let in."""
    monkeypatch.setattr("overcommit.wire.server.MOST_A_SECOND", 1)
    monkeypatch.setattr("overcommit.wire.server.MOST_AT_ONCE", 1)
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(served.path.parent))
    served.start().publish(b'{"looked": true}', None, None)
    with contextlib.ExitStack() as flood:
        waiting = 0
        with contextlib.suppress(BlockingIOError):
            while waiting < 1000:
                other = flood.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                other.setblocking(False)
                other.connect(str(served.path))
                waiting += 1
        assert 0 < waiting < 1000, "no more than the queue has room for"
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        began = time.monotonic()
        daemon = find_daemon()
        assert daemon is not None
        assert daemon.ask(Verb.STATUS, seconds=LONG) == {"looked": True}
        assert time.monotonic() - began < 2.0


def test_a_daemon_without_a_socket_for_root_is_found_by_root_all_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of before, or one that root sees from within a container, as somebody else."""
    served.start().publish(b"{}", None, None)
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(served.path.parent))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    served.path.with_name("root.sock").unlink()
    found = find_daemon()
    assert found is not None
    assert (found.path, found.ask(Verb.STATUS)) == (served.path, {})


@pytest.mark.parametrize("fault", [RecursionError("too deep"), ValueError("odd"), MemoryError()])
def test_a_request_that_breaks_something_ends_nobody_but_who_sent_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    server = served.start()
    server.publish(b"{}", None, None)
    really = Request.parse

    def parse(line: bytes) -> Request:
        if b"break" in line:
            raise fault
        return really(line)

    monkeypatch.setattr(Request, "parse", parse)
    client = served.connect(STRANGER)
    client.sendall(b"break\n")
    with client:
        assert closed(client)
    assert answer(served.ask(Verb.STATUS, STRANGER)).body == {}
    assert [said.partition(":")[0] for said in served.said] == ["uid 1001 is disconnected"]
    assert server.tend() is None


def test_requests_of_any_depth_are_answered(served: Served) -> None:
    served.start().publish(b"{}", None, None)
    for depth in (3, 100, 990, 2000, 3900):
        client = served.connect(ROOT)
        client.sendall(b'{"version": 1, "verb": ' + b"[" * depth + b"]" * depth + b"}\n")
        assert answer(client).body["message"] == "not a line of JSON: nested more than 2 deep"
    assert answer(served.ask(Verb.STATUS)).body == {}


def test_a_thread_that_fails_begins_anew_and_says_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overcommit.wire.server._REST_SECONDS", 0.01)
    server = served.start()
    server.publish(b"{}", None, None)
    failures = [RuntimeError("a fault of ours")]
    really = ControlServer._deliver

    def deliver(of: ControlServer) -> None:
        if failures:
            raise failures.pop()
        really(of)

    with served.connect() as present:
        assert answer(served.ask(Verb.STATUS)).body == {}, "one thread serves all in turn: it has let both in"
        monkeypatch.setattr(ControlServer, "_deliver", deliver)
        served.connect().close()
        assert closed(present)
    assert answer(served.ask(Verb.STATUS)).body == {}
    assert served.said == ["the control socket starts again: RuntimeError: a fault of ours"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_is_started_anew_when_it_is_tended(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served.start()
    server.publish(b"{}", None, None)
    dead = server._thread
    endings = [SystemExit()]
    really = ControlServer._deliver

    def deliver(of: ControlServer) -> None:
        if endings:
            raise endings.pop()
        really(of)

    monkeypatch.setattr(ControlServer, "_deliver", deliver)
    served.connect().close()
    dead.join(LONG)
    with monkeypatch.context() as context:
        context.setattr("threading.Thread.start", Mock(side_effect=RuntimeError("can't start new thread")))
        assert server.tend() == "its thread ended: can't start new thread"
    assert server.tend() is None
    assert answer(served.ask(Verb.STATUS)).body == {}
    assert served.said[-1] == "the control socket's thread ended; it starts again"


def test_a_thread_that_hangs_is_seen(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overcommit.wire.server.HUNG_SECONDS", 0.05)
    server = served.start()
    server.publish(b"{}", None, None)
    stuck, really = threading.Event(), ControlServer._deliver

    def deliver(of: ControlServer) -> None:
        stuck.wait(LONG)
        really(of)

    monkeypatch.setattr(ControlServer, "_deliver", deliver)
    served.connect().close()
    time.sleep(0.05)
    assert server.tend() is None, "it is asked"
    time.sleep(0.1)
    assert "has not answered for" in str(server.tend())
    stuck.set()
    assert answer(served.ask(Verb.STATUS)).body == {}
    assert server.tend() is None


def test_progress_that_nobody_reads_is_left_out(served: Served) -> None:
    server = served.start()
    client = served.ask(Verb.TICK)
    order = served.order()
    for number in range(2000):
        order.progress({"number": number, "padding": "x" * 4000})
    order.reply({"last": True})
    *some, last = replies(client)
    assert last.body == {"last": True}
    assert [reply.body["number"] for reply in some] == sorted(reply.body["number"] for reply in some)
    assert len(some) < 2000
    assert server.orders() == []


def test_who_waits_when_it_ends_is_told_and_the_socket_is_gone(served: Served) -> None:
    server = served.start()
    taken = served.ask(Verb.PAUSE)
    order = served.order()
    waiting, silent = served.ask(Verb.RESUME), served.connect()
    served.woken.get(timeout=LONG)
    server.close()
    served.server = None
    assert [answer(client).body["message"] for client in (taken, waiting)] == ["overcommitd is stopping"] * 2
    assert closed(silent)
    silent.close()
    order.reply({})
    assert not served.path.exists()


def test_a_second_daemon_is_refused_and_hears_who_runs(served: Served) -> None:
    served.start()
    with pytest.raises(Conflict, match=f"^overcommitd is already running: pid {os.getpid()}$"):
        ControlServer(served.path, None, lambda: None)
    assert answer(served.ask(Verb.PLAN)).kind is ReplyKind.ERROR, "the first one still serves"


def test_what_a_dead_daemon_left_is_replaced(served: Served) -> None:
    served.path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(served.path))
    served.start().publish(b"{}", None, None)
    assert answer(served.ask(Verb.STATUS)).body == {}
    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in served.path.parent.iterdir()}
    assert modes == {"control.sock": 0o666, "root.sock": 0o600}


def test_closing_leaves_the_socket_of_a_successor(served: Served) -> None:
    server = served.start()
    for entry in served.path.parent.iterdir():
        entry.unlink()
    successor = ControlServer(served.path, None, lambda: None)
    server.close()
    served.server = successor
    assert {entry.name for entry in served.path.parent.iterdir()} == {"control.sock", "root.sock"}
    successor.close()
    assert not list(served.path.parent.iterdir())


def test_what_is_no_socket_is_left_alone(served: Served) -> None:
    served.path.parent.mkdir()
    served.path.write_text("precious")
    with pytest.raises(Conflict, match="is no socket"):
        served.start()
    assert served.path.read_text() == "precious"


def test_where_no_socket_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "control.sock", tmp_path / ("x" * 120) / "control.sock"):
        with pytest.raises((HostError, Conflict), match=r"the control socket|is in use"):
            ControlServer(path, None, lambda: None)


def test_running_out_of_descriptors_is_survived(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overcommit.wire.server._DEAF_SECONDS", 0.01)
    server = served.start()
    server.publish(b"{}", None, None)
    failures = [OSError(24, "Too many open files")]
    really_accept = socket.socket.accept

    def accept(listener: socket.socket) -> tuple[socket.socket, Any]:
        if failures:
            raise failures.pop()
        return really_accept(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    assert answer(served.ask(Verb.STATUS)).body == {}


ASK_AS = """
import os, socket, sys
os.setgroups([int(sys.argv[2])] if sys.argv[2] else [])
os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX); client.connect(sys.argv[1])
client.sendall(b'{"version": 1, "verb": "tick"}\\n')
print(client.makefile().readline())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(("groups", "allowed"), [("", False), ("4242", True)])
def test_the_kernel_says_who_it_is(tmp_path: Path, groups: str, allowed: bool) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == "root" and directory.parts[1:2] == ("tmp",) and len(directory.parts) > 2:
            directory.chmod(0o755)
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    server = ControlServer(tmp_path / "control.sock", OPERATORS, lambda: woken.put(None))
    try:
        arguments = [sys.executable, "-c", ASK_AS, str(tmp_path / "control.sock"), groups]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as asking:
            if allowed:
                woken.get(timeout=LONG)
                (order,) = server.orders()
                assert (order.peer.uid, order.peer.pid) == (65534, asking.pid)
                order.reply({})
            assert asking.stdout is not None
            reply = Reply.parse(asking.stdout.readline())
    finally:
        server.close()
    assert (reply.kind is ReplyKind.RESULT) is allowed


def test_the_group_that_may_give_orders() -> None:
    assert find_group("root") == Group("root", 0)
    with pytest.raises(UsageError, match="no group 'no-such-group' on this host"):
        find_group("no-such-group")


def test_the_default_group_need_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("overcommit.wire.peers.grp.getgrnam", missing)
    assert find_group(None) is None


def test_a_peer_that_is_gone_is_no_peer() -> None:
    one, other = socket.socketpair()
    other.close()
    assert peer_of(one).uid == os.geteuid()
    one.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        peer_of(one)
