"""The client of the control socket: finds a running ``overcommitd``, and asks it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overcommit.errors import HostError, Refused, UsageError
from overcommit.units import format_duration
from overcommit.wire.listening import path_for_root, socket_path
from overcommit.wire.peers import peer_of
from overcommit.wire.protocol import MOST_REPLY_BYTES, Reply, ReplyKind, Request, Verb

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 60.0
"""The timeout for answers of the loop between two ticks, as long as its watchdog's."""
_LOOK = "systemctl status overcommitd"


def _ignore(_progress: Mapping[str, Any]) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon that answered a moment ago."""

    path: Path
    pid: int

    def ask(
        self,
        verb: Verb,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: Callable[[Mapping[str, Any]], None] = _ignore,
        seconds: float = _ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """The daemon's answer. It may be silent for at most ``seconds``.

        Raises:
            HostError: it does not answer, or stops in the middle.
            OvercommitError: the error that it answers.
        """
        try:
            with _connect(self.path) as connection:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what it says tells why
                    connection.sendall(Request(verb=verb, arguments=arguments or {}).encode())
                connection.settimeout(seconds)
                return self._answer(connection, progress)
        except TimeoutError as error:
            raise HostError(
                f"overcommitd (pid {self.pid}) has not answered for {format_duration(seconds)}", hint=_LOOK
            ) from error
        except OSError as error:
            raise self._ended(error) from error

    def _answer(
        self, connection: socket.socket, progress: Callable[[Mapping[str, Any]], None]
    ) -> dict[str, Any]:
        with connection.makefile("rb") as lines:
            while True:
                line = lines.readline(MOST_REPLY_BYTES)
                if not line.endswith(b"\n"):
                    raise self._ended()
                try:
                    reply = Reply.parse(line)
                except UsageError as error:
                    raise HostError(f"overcommitd (pid {self.pid}): {error}", hint=error.hint) from error
                match reply.kind:
                    case ReplyKind.PROGRESS:
                        progress(reply.body)
                    case ReplyKind.RESULT:
                        return dict(reply.body)
                    case ReplyKind.ERROR:
                        reply.raise_error()

    def _ended(self, error: OSError | None = None) -> HostError:
        why = f": {error.strerror}" if error and error.strerror else ""
        return HostError(f"overcommitd (pid {self.pid}) closed the connection{why}", hint=_LOOK)


def find_daemon() -> Daemon | None:
    """The running daemon of this host; None: there is none.

    Raises:
        HostError: there is one, but it accepts no connection.
    """
    path = socket_path(os.environ)
    if os.geteuid() == 0:
        own = path_for_root(path)
        with contextlib.suppress(OSError), _connect(own) as connection:  # an older daemon has none
            return Daemon(path=own, pid=peer_of(connection).pid)
    try:
        with _connect(path) as connection:
            return Daemon(path=path, pid=peer_of(connection).pid)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise HostError(
            f"overcommitd at {path} refuses connections: {error.strerror or error}", hint=_LOOK
        ) from error


def require_daemon(verb: str) -> Daemon:
    """The running daemon of this host.

    Raises:
        Refused: there is none.
    """
    daemon = find_daemon()
    if daemon is None:
        raise Refused(
            f"overcommitd is not running: there is nothing to {verb}", hint="systemctl start overcommitd"
        )
    return daemon


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Not settimeout: that would fail at once where others wait to be let in, too.
        patience = struct.pack("@ll", _CONNECT_SECONDS, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection
