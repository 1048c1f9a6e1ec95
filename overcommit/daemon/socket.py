"""The control socket: everybody on the host may look, root and one group may give orders.

One thread serves all clients without ever waiting for one of them. It answers readers from what was published
last, and hands orders to the loop, which answers them when it can. Who asks is known from the kernel
(SO_PEERCRED), not from the mode of a file. A client has a few seconds to ask, and as many to take its answer;
there is a bound on clients, and one on those of one user, so that nobody keeps others out.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from overcommit.daemon.listening import listen
from overcommit.daemon.peers import Group, Peer, peer_of
from overcommit.daemon.protocol import (
    MOST_REQUEST_BYTES,
    READS,
    Reply,
    ReplyKind,
    Request,
    Verb,
    document_line,
    failure,
)
from overcommit.errors import Refused, UsageError

MOST_CLIENTS = 16
MOST_READERS = 12
"""Of those who may only read; what is left is for those who may give orders."""
MOST_OF_ONE_READER = 4
"""Connections of one user who may only read."""
PATIENCE_SECONDS = 10.0
_MOST_UNSENT = 32
"""Lines of progress that wait to be sent; more are left out, only the latest matter."""
_PART = 1 << 16
_DEAF_SECONDS = 1.0
_STOPPING = failure("overcommitd is stopping", "systemctl start overcommitd")


class Order:
    """What somebody who may wants done. The loop answers it, with progress first where it takes long."""

    def __init__(self, request: Request, peer: Peer, send: Callable[[Reply], None]) -> None:
        self.verb = request.verb
        self.arguments = request.arguments
        self.peer = peer
        self._send = send
        self._left = threading.Event()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more; answering it does no harm."""
        return self._left.is_set()

    def progress(self, body: Mapping[str, Any]) -> None:
        """Say where it stands; left out where the client is slow."""
        self._send(Reply(kind=ReplyKind.PROGRESS, body=body))

    def reply(self, body: Mapping[str, Any]) -> None:
        """It is done. Only the first answer is sent."""
        self._send(Reply(kind=ReplyKind.RESULT, body=body))

    def fail(self, message: str, hint: str | None = None, *, exit_code: int = Refused.exit_code) -> None:
        """It is not done; the words and the exit status are those of an `OvercommitError`."""
        self._send(failure(message, hint, exit_code=exit_code))

    def leave(self) -> None:
        """Its client has gone."""
        self._left.set()


class _Client:
    """A connection: first its request comes in, then lines go out."""

    __slots__ = ("connection", "deadline", "ending", "order", "peer", "reading", "received", "unsent")

    def __init__(self, connection: socket.socket, peer: Peer, deadline: float) -> None:
        self.connection = connection
        self.peer = peer
        self.deadline: float | None = deadline
        self.received: bytearray | None = bytearray()
        """Of its request; None once that is whole."""
        self.reading = True
        self.order: Order | None = None
        self.unsent: deque[memoryview] = deque()
        self.ending = False
        """Whether the last line is among the unsent."""


class ControlServer:
    """Serves the socket from the moment it is made until it is closed.

    ``wake`` is called, in the server's thread, when an order has come. To be made after all that forks.
    """

    def __init__(
        self,
        path: Path,
        group: Group | None,
        wake: Callable[[], None],
        *,
        credentials: Callable[[socket.socket], Peer] = peer_of,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Bind the socket, in place of one that a dead daemon left.

        Raises:
            Conflict: another daemon serves it, or something else is in its place.
            HostError: it cannot be made there.
        """
        self._path = path
        self._group = group
        self._wake = wake
        self._credentials = credentials
        self._patience = patience_seconds
        self._status: bytes | None = None
        self._plan: bytes | None = None
        self._lock = threading.Lock()
        self._orders: list[Order] = []
        self._outbox: deque[tuple[_Client, Reply]] = deque()
        self._clients: set[_Client] = set()
        self._closing = False
        self._deaf_until: float | None = None
        self._listener = listen(path)
        self._inode = path.stat().st_ino
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="control-socket", daemon=True)
        self._thread.start()

    def publish(self, status: bytes, plan: bytes | None) -> None:
        """From now on readers get these JSON documents; None where there is no plan yet."""
        self._status = document_line(status)
        self._plan = None if plan is None else document_line(plan)

    def orders(self) -> list[Order]:
        """What has come since the last call, oldest first, but for those whose client has left already."""
        with self._lock:
            taken, self._orders = self._orders, []
        return taken

    def close(self) -> None:
        """Tell who still waits that nothing comes, and remove the socket. A second time does nothing."""
        if self._closing:
            return
        self._closing = True
        self._ring()
        self._thread.join()
        self._selector.close()
        self._listener.close()
        os.close(self._bell)
        with contextlib.suppress(OSError):  # somebody else removed it, or the whole directory
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _post(self, client: _Client, reply: Reply) -> None:
        """Called by the loop."""
        with self._lock:
            if self._closing or (not reply.final and len(self._outbox) >= _MOST_UNSENT):
                return
            self._outbox.append((client, reply))
        self._ring()

    # All that follows is done by the server's own thread.

    def _serve(self) -> None:
        while not self._closing:
            self._turn()
        with contextlib.suppress(KeyError):  # deaf
            self._selector.unregister(self._listener)
        self._deaf_until = None
        for client in list(self._clients):
            self._stop(client)
        while self._clients:
            self._turn()

    def _turn(self) -> None:
        somebody_comes = False
        for key, events in self._selector.select(self._longest_wait()):
            if key.fileobj is self._listener:
                somebody_comes = True
            elif key.fileobj == self._bell:
                os.eventfd_read(self._bell)
            else:
                self._attend(key.data, events)
        self._deliver()
        if somebody_comes:  # after those who have left made room
            self._accept()
        now = time.monotonic()
        for client in [c for c in self._clients if c.deadline is not None and c.deadline <= now]:
            self._drop(client)
        if self._deaf_until is not None and self._deaf_until <= now:
            self._deaf_until = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _longest_wait(self) -> float | None:
        ends = [client.deadline for client in self._clients if client.deadline is not None]
        if self._deaf_until is not None:
            ends.append(self._deaf_until)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            # No descriptor is left for it, say. The listener stays readable: without a rest this would spin.
            self._selector.unregister(self._listener)
            self._deaf_until = time.monotonic() + _DEAF_SECONDS
            return
        connection.setblocking(False)
        try:
            peer = self._credentials(connection)
        except OSError:
            connection.close()
            return
        full = self._is_full_for(peer)
        client = _Client(connection, peer, time.monotonic() + self._patience)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)
        if full:
            self._answer(client, failure("too many are asking overcommitd at once", "try again in a moment"))

    def _is_full_for(self, peer: Peer) -> bool:
        if peer.may_order(self._group):
            return len(self._clients) >= MOST_CLIENTS
        readers = [client.peer for client in self._clients if not client.peer.may_order(self._group)]
        of_this_one = sum(reader.uid == peer.uid for reader in readers)
        return len(readers) >= MOST_READERS or of_this_one >= MOST_OF_ONE_READER

    def _attend(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._receive(client)
        if events & selectors.EVENT_WRITE and client in self._clients:
            self._flush(client)

    def _receive(self, client: _Client) -> None:
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
                self._answer(client, failure("a request that long is none", exit_code=UsageError.exit_code))
            elif newline:
                client.received = None
                self._take(client, bytes(line))

    def _take(self, client: _Client, line: bytes) -> None:
        try:
            request = Request.parse(line)
        except UsageError as error:
            self._answer(client, failure(str(error), error.hint, exit_code=error.exit_code))
            return
        if request.verb in READS:
            self._read(client, request.verb)
        elif not client.peer.may_order(self._group):
            self._refuse(client, request.verb)
        else:
            client.deadline = None  # the loop answers when it can
            order = Order(request, client.peer, lambda reply: self._post(client, reply))
            client.order = order
            with self._lock:
                self._orders.append(order)
            self._wake()

    def _read(self, client: _Client, verb: Verb) -> None:
        document = self._status if verb is Verb.STATUS else self._plan
        if document is None:
            what = "looked at the host" if verb is Verb.STATUS else "made a plan"
            self._answer(client, failure(f"overcommitd has not {what} yet", "try again in a moment"))
        else:
            self._send(client, document, final=True)

    def _refuse(self, client: _Client, verb: Verb) -> None:
        group = self._group
        whose = f"root and the group {group.name}" if group else "root"
        more = f", or be a member of {group.name}" if group else ""
        self._answer(
            client,
            failure(f"{verb.value} is for {whose}, not for user id {client.peer.uid}", f"try sudo{more}"),
        )

    def _deliver(self) -> None:
        with self._lock:
            posted = list(self._outbox)
            self._outbox.clear()
        for client, reply in posted:
            slow = len(client.unsent) >= _MOST_UNSENT and not reply.final
            if client in self._clients and not client.ending and not slow:
                self._answer(client, reply)

    def _stop(self, client: _Client) -> None:
        if client.received is not None:
            self._drop(client)
        elif not client.ending:
            self._answer(client, _STOPPING)

    def _answer(self, client: _Client, reply: Reply) -> None:
        self._send(client, reply.encode(), final=reply.final)

    def _send(self, client: _Client, line: bytes, *, final: bool) -> None:
        client.unsent.append(memoryview(line))
        if final:
            client.ending = True
            client.deadline = time.monotonic() + self._patience
        self._flush(client)

    def _flush(self, client: _Client) -> None:
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

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        if client.order is not None:
            client.order.leave()
            with self._lock:
                if client.order in self._orders:
                    self._orders.remove(client.order)
        client.unsent.clear()
        self._selector.unregister(client.connection)
        client.connection.close()
