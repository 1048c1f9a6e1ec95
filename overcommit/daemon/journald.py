"""Writes events to systemd's journal by its native protocol, or as lines to stderr.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: an event is one datagram of fields. Each field is sent in the form
that has a length, so that no value can end early and begin another field. Values are bounded, in one line,
and printable on top of that. Nothing here fails, and nothing waits before the end of the process: who reads
the log must not keep guests waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from overcommit.clock import SystemClock
from overcommit.display import plain
from overcommit.model.log_event import LogEvent

SOCKET = Path("/run/systemd/journal/socket")
_IDENTIFIER = "overcommitd"
_MOST_CHARACTERS = 1000
"""The longest value. A sentence with its prefix in UTF-8 fits into one write to a pipe, PIPE_BUF."""
_STDERR = 2
_PATIENCE_SECONDS, _LOOK_SECONDS = 1.0, 0.01
_clock = SystemClock()

Writer = Callable[[LogEvent], bool]
"""Writes an event, and returns whether that was possible."""


def writer(environment: Mapping[str, str]) -> Writer:
    """The log of this process: the journal where systemd says that stderr leads to it, otherwise stderr."""
    if not stderr_is_journal(environment):
        return to_stderr
    return lambda event: to_journal(event) or to_journal_stream(event)


def stderr_is_journal(environment: Mapping[str, str]) -> bool:
    """Whether stderr leads to systemd's journal; see $JOURNAL_STREAM in systemd.exec(5).

    The variable is inherited by a program whose stderr is another than its service's, so it is checked.
    """
    try:
        about = os.fstat(_STDERR)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def to_journal(event: LogEvent, *, patience_seconds: float = 0.0) -> bool:
    """To the journal's socket. That takes nothing while it is full, or nobody is behind it.

    It is opened for each event: journald may have been restarted since, and what one socket has on its way is
    bounded. With ``patience_seconds`` it is waited until journald has read the event, for no longer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
            journal.sendto(datagram(event), socket.MSG_DONTWAIT, str(SOCKET))
            deadline = _clock.monotonic() + patience_seconds
            while _clock.monotonic() < deadline and _unread_bytes(journal):
                _clock.wait(_LOOK_SECONDS)
    except OSError:
        return False
    return True


def last_words(event: LogEvent) -> None:
    """To the journal, from a process that ends after that.

    journald looks up the unit of a sender when it reads, and ``journalctl -u`` would not show what it finds
    none of any more.
    """
    if not to_journal(event, patience_seconds=_PATIENCE_SECONDS):
        to_journal_stream(event)


def _unread_bytes(journal: socket.socket) -> int:
    """What its reader has not read yet; SIOCOUTQ in unix(7), by another name of the same number."""
    (unread,) = struct.unpack("i", fcntl.ioctl(journal, termios.TIOCOUTQ, bytes(4)))
    return int(unread)


def datagram(event: LogEvent) -> bytes:
    """An event in the native protocol."""
    fields = {
        "MESSAGE": _line(event),
        "MESSAGE_ID": event.kind.message_id,
        "PRIORITY": str(event.kind.priority.value),
        "SYSLOG_IDENTIFIER": _IDENTIFIER,
        **{name: _bounded(value) for name, value in event.values.items()},
    }
    return b"".join(_field(name, value.encode()) for name, value in fields.items())


def to_journal_stream(event: LogEvent) -> bool:
    """Write to stderr with a priority that systemd reads (sd-daemon(3)). The journal adds the time."""
    return _write(f"<{event.kind.priority.value}>{_line(event)}")


def to_stderr(event: LogEvent) -> bool:
    """Write to stderr for people."""
    return _write(f"{datetime.now().astimezone():%H:%M:%S} {_line(event)}")


def _field(name: str, value: bytes) -> bytes:
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)


def _line(event: LogEvent) -> str:
    return _bounded(" ".join(event.sentence.split("\n")))


def _bounded(text: str) -> str:
    """The text in one bounded line, whatever names are in it: a line of a log is one message."""
    shown = plain(text[: _MOST_CHARACTERS + 1])
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[: _MOST_CHARACTERS - 3]}..."


def _write(line: str) -> bool:
    """Write a line to stderr without waiting. Returns whether it was accepted."""
    with contextlib.suppress(OSError):
        waiting = select.poll()
        waiting.register(_STDERR, select.POLLOUT)
        if any(events & select.POLLOUT for _, events in waiting.poll(0)):
            data = f"{line}\n".encode()
            return os.write(_STDERR, data) == len(data)
    return False
