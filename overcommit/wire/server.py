"""The server of the control socket. All users of the host may read; root and one group may give orders.

One thread serves all clients and never waits for one of them. It answers readers with what was published
last, and passes orders to the loop, which answers them when it can. The kernel identifies the client
(SO_PEERCRED), not the mode of a file. A client has a few seconds to ask, and as many to take its answer.
`overcommit.wire.admission` decides which clients are served, so that no client keeps others out. An error
with one client ends that client. An error of the thread makes it start anew, and the loop checks that it
runs.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from overcommit.clock import SystemClock
from overcommit.errors import UsageError
from overcommit.model.moments import Monotonic
from overcommit.wire.admission import Full, Rate, Rates, make_room
from overcommit.wire.clients import TOO_MANY, Client, Document, Order, PublishedDocuments, turn_away
from overcommit.wire.listening import Door, path_for_root
from overcommit.wire.peers import Group, Peer, Rank, peer_of
from overcommit.wire.protocol import (
    MOST_REQUEST_BYTES,
    READS,
    Reply,
    Request,
    Verb,
    failure,
)

__all__ = ["ControlServer", "Order"]

MOST_A_SECOND, MOST_AT_ONCE = 1000, 128
"""Connections of all users per second. More wait in the kernel's queue."""
MOST_OF_ONE_A_SECOND, MOST_OF_ONE_AT_ONCE = 20, 40
"""Connections of each user except root per second. More are refused."""
HUNG_SECONDS = 20.0
"""The thread never waits for a client. If it has not answered for this long, it has failed."""
CLIENT_TIMEOUT_SECONDS = 10.0
_MOST_UNSENT = 32
"""Lines of progress that wait to be sent. More are dropped."""
_PART = 1 << 16
_DEAF_SECONDS, _PACE_SECONDS = 1.0, 0.05
"""How long no connection is accepted: if one cannot be made (no descriptors are left), if too many come."""
_REST_SECONDS = 1.0
_QUIET_SECONDS = 60.0
"""The time between two log messages, so that a client cannot fill the log."""
_clock = SystemClock()
_STOPPING = failure("overcommitd is stopping", "systemctl start overcommitd")


class ControlServer:
    """Serves the socket from its creation until it is closed.

    ``wake`` is called, in the server's thread, when an order has come. ``say`` gets errors. Create it after
    all processes have been forked.
    """

    def __init__(
        self,
        path: Path,
        group: Group | None,
        wake: Callable[[], None],
        *,
        say: Callable[[str], None] = lambda _sentence: None,
        credentials: Callable[[socket.socket], Peer] = peer_of,
        patience_seconds: float = CLIENT_TIMEOUT_SECONDS,
    ) -> None:
        """Bind the socket, in place of one that an ended daemon left.

        Raises:
            Conflict: another daemon serves it, or it is not a socket.
            HostError: it cannot be made there.
        """
        self._group = group
        self._wake = wake
        self._say = say
        self._quiet_until = Monotonic(0.0)
        self._credentials = credentials
        self._patience = patience_seconds
        self._shelf = PublishedDocuments()
        self._lock = threading.Lock()
        self._orders: list[Order] = []
        self._outbox: deque[tuple[Client, Reply]] = deque()
        self._clients: set[Client] = set()
        self._closing = False
        self._pace = Rate(MOST_A_SECOND, MOST_AT_ONCE)
        self._rates = Rates(MOST_OF_ONE_A_SECOND, MOST_OF_ONE_AT_ONCE)
        self._rung_at: Monotonic | None = None
        # Who may do what is decided by credentials; root has a queue of its own.
        self._door = Door(path, 0o666)
        try:
            self._doors = (Door(path_for_root(path), 0o600), self._door)
        except BaseException:
            self._door.close()
            raise
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._thread = self._started()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="control-socket", daemon=True)
        thread.start()
        return thread

    def tend(self) -> str | None:
        """Restart the thread if it has ended. The loop calls this regularly.

        Returns:
            Why clients are not served; None: they are.
        """
        if not self._thread.is_alive() and not self._closing:
            self._say("the control socket's thread ended; it starts again")
            try:
                self._thread = self._started()
            except RuntimeError as error:  # no thread can be had
                return f"its thread ended: {error}"
        now = _clock.monotonic()
        if self._rung_at is None:
            self._rung_at = now
            self._ring()
        elif now - self._rung_at > HUNG_SECONDS:
            return f"its thread has not answered for {now - self._rung_at:.0f} s"
        return None

    def publish(self, status: Document, plan: Document | None, sums: Document | None = None) -> None:
        """Answer with these JSON documents from now on; None: there is no plan yet.

        A function that makes a document is called in the server's thread, at a request. ``sums`` is the plan
        for users who may not give orders; None: they get none.
        """
        self._shelf.put(status, plan, sums)

    def orders(self) -> list[Order]:
        """The orders since the last call, oldest first, without those of clients that have left."""
        with self._lock:
            taken, self._orders = self._orders, []
        return taken

    def close(self) -> None:
        """Tell waiting clients that there is no answer, and remove the socket. A second call does nothing."""
        if self._closing:
            return
        self._closing = True
        self._ring()
        self._thread.join()
        self._selector.close()
        for door in self._doors:
            door.close()
        os.close(self._bell)

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _post(self, client: Client, reply: Reply) -> None:
        """Send a reply. Called by the loop."""
        with self._lock:
            if self._closing or (not reply.final and len(self._outbox) >= _MOST_UNSENT):
                return
            self._outbox.append((client, reply))
        self._ring()

    # The server's own thread calls all methods below.

    def _run(self) -> None:
        while True:
            try:
                self._begin()
                self._serve()
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, others are to be served
                self._complain(f"the control socket starts again: {type(error).__name__}: {error}")
                if self._closing:
                    return
                _clock.wait(_REST_SECONDS)

    def _begin(self) -> None:
        """Start without clients, whatever happened before."""
        self._selector.close()
        for client in self._clients:
            self._forget(client)
        self._clients.clear()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        for door in self._doors:
            self._selector.register(door, selectors.EVENT_READ)
            door.deaf_until = None

    def _serve(self) -> None:
        while not self._closing:
            self._turn()
        for door in self._doors:
            with contextlib.suppress(KeyError):  # deaf
                self._selector.unregister(door)
            door.deaf_until = None
        for client in list(self._clients):
            self._stop(client)
        while self._clients:
            self._turn()

    def _turn(self) -> None:
        knocked: set[Door] = set()
        for key, events in self._selector.select(self._longest_wait()):
            if isinstance(key.fileobj, Door):
                knocked.add(key.fileobj)
            elif key.fileobj == self._bell:
                os.eventfd_read(self._bell)
                self._rung_at = None
            elif key.data in self._clients:
                self._attend(key.data, events)
        self._deliver()
        for door in self._doors:  # root first, and after those who have left made room
            if door in knocked:
                self._accept(door)
        now = _clock.monotonic()
        for client in [c for c in self._clients if c.deadline is not None and c.deadline <= now]:
            self._drop(client)
        for door in self._doors:
            if door.deaf_until is not None and door.deaf_until <= now:
                door.deaf_until = None
                self._selector.register(door, selectors.EVENT_READ)

    def _longest_wait(self) -> float | None:
        ends = [client.deadline for client in self._clients if client.deadline is not None]
        ends += [door.deaf_until for door in self._doors if door.deaf_until is not None]
        return max(0.0, min(ends) - _clock.monotonic()) if ends else None

    def _accept(self, door: Door) -> None:
        now = _clock.monotonic()
        while door is not self._door or self._pace.take(now):
            try:
                connection, _ = door.listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self._be_deaf(door, _DEAF_SECONDS)  # without a rest this would spin: it stays readable
                return
            connection.setblocking(False)
            try:
                peer = self._credentials(connection)
            except OSError:
                connection.close()
                continue
            self._admit(connection, peer, _clock.monotonic())
        self._be_deaf(door, _PACE_SECONDS)

    def _be_deaf(self, door: Door, seconds: float) -> None:
        self._selector.unregister(door)
        door.deaf_until = _clock.monotonic() + seconds

    def _admit(self, connection: socket.socket, peer: Peer, now: Monotonic) -> None:
        """Serve the client, or refuse it, which costs almost nothing."""
        rank = peer.rank(self._group)
        seated = [client for client in self._clients if client.peer.rank(self._group) is rank]
        try:
            if rank is not Rank.ROOT and not self._rates.take(peer.uid, now):
                raise Full
            leaves = make_room(peer.uid, seated, now, of_root=rank is Rank.ROOT)
        except Full:
            turn_away(connection)
            return
        if leaves is not None:
            self._answer(leaves, TOO_MANY)
            self._drop(leaves)
        client = Client(connection, peer, now, self._patience)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _attend(self, client: Client, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._receive(client)
            if events & selectors.EVENT_WRITE:
                self._flush(client)
        except Exception as error:  # noqa: BLE001 - whatever one of them did, the others are to be served
            self._complain(f"uid {client.uid} is disconnected: {type(error).__name__}: {error}")
            self._drop(client)

    def _complain(self, sentence: str) -> None:
        if (now := _clock.monotonic()) >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            self._say(sentence)

    def _receive(self, client: Client) -> None:
        try:
            data = client.connection.recv(_PART)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data and client.ending:
            client.reading = False  # it has said all, and still takes its answer
            self._flush(client)
        elif not data or client.received is None:
            self._drop(client)
        else:
            client.received += data
            line, newline, _ = client.received.partition(b"\n")
            if len(line) > MOST_REQUEST_BYTES:
                client.received = None
                self._answer(client, failure("the request is too long", exit_code=UsageError.exit_code))
            elif newline:
                client.received = None
                self._take(client, bytes(line))

    def _take(self, client: Client, line: bytes) -> None:
        try:
            request = Request.parse(line)
        except UsageError as error:
            self._answer(client, failure(str(error), error.hint, exit_code=error.exit_code))
            return
        if request.verb in READS:
            may_order = client.peer.may_order(self._group)
            self._send(client, self._shelf.line(request.verb, may_order=may_order), final=True)
        elif not client.peer.may_order(self._group):
            self._refuse(client, request.verb)
        else:
            client.deadline = None  # the loop answers when it can
            order = Order(request, client.peer, lambda reply: self._post(client, reply))
            client.order = order
            with self._lock:
                self._orders.append(order)
            self._wake()

    def _refuse(self, client: Client, verb: Verb) -> None:
        group = self._group
        whose = f"root and the group {group.name}" if group else "root"
        more = f", or be a member of {group.name}" if group else ""
        self._answer(
            client,
            failure(f"{verb.value} is allowed for {whose}, not for uid {client.peer.uid}", f"try sudo{more}"),
        )

    def _deliver(self) -> None:
        with self._lock:
            posted = list(self._outbox)
            self._outbox.clear()
        for client, reply in posted:
            slow = len(client.unsent) >= _MOST_UNSENT and not reply.final
            if client in self._clients and not client.ending and not slow:
                self._answer(client, reply)

    def _stop(self, client: Client) -> None:
        if client.received is not None:
            self._drop(client)
        elif not client.ending:
            self._answer(client, _STOPPING)

    def _answer(self, client: Client, reply: Reply) -> None:
        self._send(client, reply.encode(), final=reply.final)

    def _send(self, client: Client, line: bytes, *, final: bool) -> None:
        client.unsent.append(memoryview(line))
        if final:
            client.ending = True
            client.deadline = _clock.monotonic() + self._patience
        self._flush(client)

    def _flush(self, client: Client) -> None:
        if client not in self._clients:
            return
        try:
            while client.unsent:
                sent = client.connection.send(client.unsent[0])
                client.unsent[0] = client.unsent[0][sent:]
                if not client.unsent[0]:
                    client.unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if client.ending and not client.unsent:
            self._drop(client)
            return
        reads = selectors.EVENT_READ if client.reading else 0
        writes = selectors.EVENT_WRITE if client.unsent else 0
        self._selector.modify(client.connection, reads | writes, client)

    def _drop(self, client: Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.connection)
            self._forget(client)

    def _forget(self, client: Client) -> None:
        if client.order is not None:
            client.order.leave()
            with self._lock:
                if client.order in self._orders:
                    self._orders.remove(client.order)
        client.unsent.clear()
        client.connection.close()
