"""A client of the control socket, and the order that it may have given."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from overcommit.errors import Refused
from overcommit.wire.peers import Peer
from overcommit.wire.protocol import Reply, ReplyKind, Request, Verb, document_line, failure

TOO_MANY = failure("overcommitd has too many clients", "try again in a moment")


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


class Client:
    """A connection: first its request comes in, then lines go out."""

    __slots__ = (
        "connection",
        "deadline",
        "ending",
        "order",
        "peer",
        "reading",
        "received",
        "since",
        "unsent",
    )

    def __init__(self, connection: socket.socket, peer: Peer, now: float, patience: float) -> None:
        self.connection = connection
        self.peer = peer
        self.since = now
        self.deadline: float | None = now + patience
        self.received: bytearray | None = bytearray()
        """Of its request; None once that is whole."""
        self.reading = True
        self.order: Order | None = None
        self.unsent: deque[memoryview] = deque()
        self.ending = False
        """Whether the last line is among the unsent."""

    @property
    def uid(self) -> int:
        """Of which user it is."""
        return self.peer.uid

    @property
    def may_go(self) -> bool:
        """Whether no order of its is being carried out."""
        return self.order is None or self.ending


Document: TypeAlias = bytes | Callable[[], bytes]
"""A JSON document, or what makes it of values that do not change."""


class _Published:
    """Made when somebody asks for the first time, and once for all who do: mostly nobody does."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._line: bytes | None = None

    @property
    def line(self) -> bytes:
        """To be asked by one thread only."""
        if self._line is None:
            document = self._document
            self._line = document_line(document if isinstance(document, bytes) else document())
        return self._line


class PublishedDocuments:
    """What is published, for whom: where QEMU's memory lies is for those who may give orders."""

    def __init__(self) -> None:
        self._status: _Published | None = None
        self._plan: _Published | None = None
        self._sums: _Published | None = None

    def put(self, status: Document, plan: Document | None, sums: Document | None) -> None:
        """In place of what was there."""
        self._status, self._plan, self._sums = (
            None if document is None else _Published(document) for document in (status, plan, sums)
        )

    def line(self, verb: Verb, *, may_order: bool) -> bytes:
        """The answer, which may be that there is none yet."""
        if verb is Verb.STATUS:
            document, what = self._status, "looked at the host"
        else:
            document, what = (self._plan if may_order else self._sums), "made a plan"
        if document is not None:
            return document.line
        return failure(f"overcommitd has not {what} yet", "try again in a moment").encode()


def turn_away(connection: socket.socket) -> None:
    """Say so where that takes no waiting."""
    with connection, contextlib.suppress(OSError):
        connection.send(TOO_MANY.encode())
