"""Notifies the service manager: systemd's notification protocol (sd_notify(3)), one datagram per message.

Nothing here waits or fails: a service manager that cannot be reached must not affect the guests.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from overcommit.clock import Clock
from overcommit.display import plain

_USEC = 1_000_000


class ServiceManager:
    """The service manager, if it wants notifications. Otherwise these methods do nothing."""

    def __init__(self, clock: Clock, environment: Mapping[str, str]) -> None:
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog(environment)
        """How often at least `alive` must be said, or we are killed; None: never."""

    def ready(self, sentence: str) -> None:
        """The daemon runs, or has finished reloading."""
        self._tell("READY=1", _status(sentence))

    def reloading(self) -> None:
        """The policy is being read again; `ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={round(float(self._clock.monotonic()) * _USEC)}")

    def alive(self, sentence: str) -> None:
        """A tick is complete (the watchdog's keep-alive). Only the loop may call it, at the end of a tick."""
        self._tell("WATCHDOG=1", _status(sentence))

    def stopping(self, sentence: str) -> None:
        """The daemon is stopping."""
        self._tell("STOPPING=1", _status(sentence))

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
        ):
            manager.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, address)


def _status(sentence: str) -> str:
    return f"STATUS={plain(' '.join(sentence.split(chr(10))))}"


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """The watchdog's interval; None: there is none, or it is for another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / _USEC if text.isdecimal() and int(text) > 0 else None
