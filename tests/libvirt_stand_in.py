"""A stand-in for the module ``libvirt``, whose libvirtd dies and hangs when a test says so.

Calls hang as libvirt's do: in C, without end, until the test lets go.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

NO_DOMAIN, RPC_FAILED = 42, 1


class StandInError(Exception):
    """libvirt.libvirtError."""

    def __init__(self, message: str, code: int = RPC_FAILED) -> None:
        super().__init__(message)
        self._code = code

    def get_error_message(self) -> str:
        return str(self)

    def get_error_code(self) -> int:
        return self._code


class StandInDomain:
    def __init__(self, connection: StandInConnection, uuid: str) -> None:
        self._connection = connection
        self._uuid = uuid

    def UUIDString(self) -> str:  # noqa: N802
        return self._uuid

    def name(self) -> str:
        return f"name-of-{self._uuid}"

    def state(self) -> list[int]:
        self._connection.ask()
        return [1, 1]

    def maxMemory(self) -> int:  # noqa: N802
        self._connection.ask()
        return 1024

    def controlInfo(self, _flags: int) -> list[int]:  # noqa: N802
        self._connection.ask()
        return [2, 0, 7000] if self._uuid in self._connection.daemon.hung_domains else [0, 0, 0]

    def jobStats(self) -> dict[str, int]:  # noqa: N802
        self._connection.ask()
        return {"type": 0}

    def memoryStats(self) -> dict[str, int]:  # noqa: N802
        self._connection.ask_monitor(self._uuid)
        return {"actual": 1024}


class StandInConnection:
    def __init__(self, daemon: StandIn) -> None:
        self.daemon = daemon
        self.is_closed = False
        self.in_flight = 0
        self.callbacks: dict[int, tuple[Callable[..., None], Any]] = {}
        self.on_close: Callable[..., None] | None = None
        self.kept_alive = False

    def ask(self) -> None:
        """One request to libvirtd, which looks at five of a connection and no more."""
        if self.is_closed:
            raise StandInError("client socket is closed")
        self.in_flight += 1
        try:
            assert self.in_flight <= 5, "libvirtd would not even look at it"
            self.daemon.let_go.wait()
        finally:
            self.in_flight -= 1
        if self.is_closed:
            raise StandInError("client socket is closed")

    def ask_monitor(self, uuid: str) -> None:
        self.ask()
        self.in_flight += 1
        if uuid in self.daemon.hung_domains:
            self.daemon.jobs.add(uuid)
        try:
            self.daemon.hung_domains.get(uuid, self.daemon.never_hung).wait()
        finally:
            self.in_flight -= 1

    def isAlive(self) -> int:  # noqa: N802
        return int(not self.is_closed)

    def getLibVersion(self) -> int:  # noqa: N802
        self.ask()
        return 11_003_000

    def getVersion(self) -> int:  # noqa: N802
        self.ask()
        return 10_000_000

    def setKeepAlive(self, _interval: int, _count: int) -> None:  # noqa: N802
        self.kept_alive = True

    def listAllDomains(self, _flags: int) -> list[StandInDomain]:  # noqa: N802
        self.ask()
        return [StandInDomain(self, uuid) for uuid in self.daemon.uuids]

    def getAllDomainStats(  # noqa: N802
        self, what: int, flags: int
    ) -> list[tuple[StandInDomain, dict[str, int]]]:
        """One request; whoever hangs holds it up, unless his job is taken already."""
        assert (what, flags) == (1 | 4 | 32, 1 | 1 << 29)
        self.daemon.bulk_calls += 1
        if not self.daemon.knows_bulk:
            raise StandInError("this function is not supported", 3)
        self.ask()
        told = []
        for uuid in self.daemon.uuids:
            values = {"state.state": 1, "balloon.current": 768, "balloon.maximum": 1024}
            if uuid not in self.daemon.jobs:
                self.ask_monitor(uuid)
                values |= {"balloon.rss": 500, "balloon.last-update": 100, "balloon.usable": 256}
                values |= {
                    "block.count": 2,
                    "block.0.rd.bytes": 7,
                    "block.1.rd.bytes": 8,
                    "block.1.wr.bytes": 9,
                }
            told.append((StandInDomain(self, uuid), values))
        return told

    def lookupByUUIDString(self, uuid: str) -> StandInDomain:  # noqa: N802
        self.ask()
        if uuid not in self.daemon.uuids:
            raise StandInError("Domain not found", NO_DOMAIN)
        return StandInDomain(self, uuid)

    def domainEventRegisterAny(  # noqa: N802
        self, domain: None, event: int, callback: Callable[..., None], opaque: object
    ) -> int:
        assert domain is None
        self.ask()
        if event in self.callbacks or event == StandIn.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED:
            raise StandInError("event callback already tracked, or not known")
        self.callbacks[event] = callback, opaque
        return event

    def domainEventDeregisterAny(self, callback: int) -> None:  # noqa: N802
        del self.callbacks[callback]
        self.ask()

    def registerCloseCallback(self, callback: Callable[..., None], _opaque: object) -> None:  # noqa: N802
        self.on_close = callback

    def unregisterCloseCallback(self) -> None:  # noqa: N802
        self.on_close = None

    def happens(self, event: int, uuid: str, *arguments: object) -> None:
        """What libvirt's loop does with an event."""
        callback, opaque = self.callbacks[event]
        callback(self, StandInDomain(self, uuid), *arguments, opaque)

    def close(self) -> None:
        self.is_closed = True

    def lose(self, reason: int) -> None:
        """What libvirt does when libvirtd has died, or keepalive has given it up."""
        self.is_closed = True
        if self.on_close is not None:
            self.on_close(self, reason, None)


class StandIn:
    """The module, and the libvirtd behind it."""

    libvirtError = StandInError  # noqa: N815
    VIR_CONNECT_LIST_DOMAINS_ACTIVE = 1
    VIR_DOMAIN_STATS_STATE, VIR_DOMAIN_STATS_BALLOON, VIR_DOMAIN_STATS_BLOCK = 1, 4, 32
    VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE = 1
    VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT = 1 << 29
    VIR_ERR_NO_DOMAIN = NO_DOMAIN
    VIR_ERR_OPERATION_INVALID = 55
    VIR_DOMAIN_AFFECT_LIVE = 1
    VIR_DOMAIN_EVENT_ID_LIFECYCLE = 0
    VIR_DOMAIN_EVENT_ID_REBOOT = 1
    VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE = 13
    VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED = 15
    VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE = 18
    VIR_DOMAIN_EVENT_ID_DEVICE_ADDED = 19
    VIR_DOMAIN_EVENT_ID_JOB_COMPLETED = 21
    """Known to the binding, and not to libvirtd; METADATA_CHANGE and others not even to the binding."""

    def __init__(self, *uuids: str) -> None:
        self.uuids = list(uuids)
        self.is_down = False
        self.opened: list[StandInConnection] = []
        self.attempts = 0
        self.let_go = threading.Event()
        self.let_go.set()
        self.never_hung = threading.Event()
        self.never_hung.set()
        self.hung_domains: dict[str, threading.Event] = {}
        self.jobs: set[str] = set()
        """The domains whose job is held, by a call that does not return."""
        self.bulk_calls = 0
        self.knows_bulk = True
        self.order: list[str] = []
        self.loop_is_broken = False
        self._iterations: queue.SimpleQueue[None] = queue.SimpleQueue()

    def hang(self, uuid: str) -> None:
        self.hung_domains[uuid] = threading.Event()

    def release_all(self) -> None:
        """Let every thread that hangs go on."""
        self.let_go.set()
        for hung in self.hung_domains.values():
            hung.set()

    def open(self, _uri: str) -> StandInConnection:
        self.order.append("open")
        self.attempts += 1
        if self.is_down:
            raise StandInError("Failed to connect socket")
        self.let_go.wait()
        self.opened.append(StandInConnection(self))
        return self.opened[-1]

    def openReadOnly(self, uri: str) -> StandInConnection:  # noqa: N802
        return self.open(uri)

    def virEventRegisterDefaultImpl(self) -> None:  # noqa: N802
        self.order.append("register loop")

    def virEventAddTimeout(self, _milliseconds: int, _callback: object, _opaque: object) -> int:  # noqa: N802
        return 7

    def virEventUpdateTimeout(self, timer: int, _milliseconds: int) -> None:  # noqa: N802
        assert timer == 7
        self._iterations.put(None)

    def virEventRemoveTimeout(self, timer: int) -> None:  # noqa: N802
        self.order.append(f"remove timer {timer}")

    def virEventRunDefaultImpl(self) -> None:  # noqa: N802
        """One iteration, which sleeps until there is something to do."""
        self._iterations.get()
        if self.loop_is_broken:
            self.loop_is_broken = False
            raise StandInError("virEventRunDefaultImpl() failed")
