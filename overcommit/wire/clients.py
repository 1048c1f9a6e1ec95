"""A client of the control socket, and the order that it may have given."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from overcommit.errors import Refused
from overcommit.model.moments import Monotonic
from overcommit.wire.peers import Peer
from overcommit.wire.protocol import Reply, ReplyKind, Request, Verb, document_line, failure

TOO_MANY = failure("overcommitd has too many clients", "try again in a moment")


class Order:
    """An order of a permitted client. The loop answers it, with progress first where it takes long."""

    def __init__(self, request: Request, peer: Peer, send: Callable[[Reply], None]) -> None:
        self.verb = request.verb
        self.arguments = request.arguments
        self.peer = peer
        self._send = send
        self._left = threading.Event()

    @property
    def gone(self) -> bool:
        """Whether the client has left. An answer then does no harm."""
        return self._left.is_set()

    def progress(self, body: Mapping[str, Any]) -> None:
        """Report progress. It is dropped where the client is slow."""
        self._send(Reply(kind=ReplyKind.PROGRESS, body=body))

    def reply(self, body: Mapping[str, Any]) -> None:
        """Answer with a result. Only the first answer is sent."""
        self._send(Reply(kind=ReplyKind.RESULT, body=body))

    def fail(self, message: str, hint: str | None = None, *, exit_code: int = Refused.exit_code) -> None:
        """Answer with an error, by the text and exit status of an `OvercommitError`."""
        self._send(failure(message, hint, exit_code=exit_code))

    def leave(self) -> None:
        """Record that the client has left."""
        self._left.set()


class Client:
    """A connection: its request is received, then lines are sent."""

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

    def __init__(self, connection: socket.socket, peer: Peer, now: Monotonic, patience: float) -> None:
        self.connection = connection
        self.peer = peer
        self.since = now
        self.deadline: Monotonic | None = now + patience
        self.received: bytearray | None = bytearray()
        """Of its request; None once that is whole."""
        self.reading = True
        self.order: Order | None = None
        self.unsent: deque[memoryview] = deque()
        self.ending = False
        """Whether the last line is among the unsent."""

    @property
    def uid(self) -> int:
        """Its user id."""
        return self.peer.uid

    @property
    def may_go(self) -> bool:
        """Whether no order of it is being carried out."""
        return self.order is None or self.ending


Document: TypeAlias = bytes | Callable[[], bytes]
"""A JSON document, or a function that makes it from values that do not change."""


class _Published:
    """A document that is made at the first request, once for all requests. Mostly there is none."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._line: bytes | None = None

    @property
    def line(self) -> bytes:
        """The document's line. Only one thread may call this."""
        if self._line is None:
            document = self._document
            self._line = document_line(document if isinstance(document, bytes) else document())
        return self._line


class PublishedDocuments:
    """The published documents by reader. QEMU's addresses are only for those who may give orders."""

    def __init__(self) -> None:
        self._status: _Published | None = None
        self._plan: _Published | None = None
        self._sums: _Published | None = None

    def put(self, status: Document, plan: Document | None, sums: Document | None) -> None:
        """Replace the documents."""
        self._status, self._plan, self._sums = (
            None if document is None else _Published(document) for document in (status, plan, sums)
        )

    def line(self, verb: Verb, *, may_order: bool) -> bytes:
        """The answer, which may say that there is none yet."""
        if verb is Verb.STATUS:
            document, what = self._status, "looked at the host"
        else:
            document, what = (self._plan if may_order else self._sums), "made a plan"
        if document is not None:
            return document.line
        return failure(f"overcommitd has not {what} yet", "try again in a moment").encode()


def turn_away(connection: socket.socket) -> None:
    """Tell the client that it is refused, if that takes no waiting."""
    with connection, contextlib.suppress(OSError):
        connection.send(TOO_MANY.encode())
