"""Libvirt's events about domains and the connection, as reasons to read the host again.

A lost event does no harm, because no decision depends on an event alone. A callback only notifies: all
callbacks run in libvirt's one loop, and during a callback no call on the connection gets an answer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from overcommit.clock import Clock
from overcommit.model.wake import Wake, WakeKind
from overcommit.units import KIB, format_size

Notify = Callable[[Wake], None]
"""Takes a wake from any thread, and returns at once."""

_LIFECYCLE = dict(enumerate(("defined", "undefined", "started", "paused", "resumed", "stopped")))
"""Names of virDomainEventType."""
_LIFECYCLE |= {6: "shutting down", 7: "suspended", 8: "crashed"}
"""virDomainEventType."""
_AGENT = {1: "connected", 2: "disconnected"}
_CLOSED = {0: "error", 1: "libvirtd closed it", 2: "libvirtd does not answer", 3: "closed"}
"""Names of virConnectCloseReason."""
_UNLIKELY_RETRY_SECONDS = 1.0


def _lifecycle(event: int, *_: object) -> str:
    return _LIFECYCLE.get(event, f"event {event}")


def _nothing(*_: object) -> str:
    return ""


# By the names of virDomainEventID, because an older libvirt lacks some; with the meaning of the arguments.
_EVENTS: dict[str, tuple[WakeKind, Callable[..., str]]] = {
    "LIFECYCLE": (WakeKind.LIFECYCLE, _lifecycle),
    "REBOOT": (WakeKind.REBOOT, _nothing),
    "BALLOON_CHANGE": (WakeKind.BALLOON, lambda actual: format_size(actual * KIB)),
    "DEVICE_ADDED": (WakeKind.DEVICE, lambda alias: f"{alias} came"),
    "DEVICE_REMOVED": (WakeKind.DEVICE, lambda alias: f"{alias} left"),
    "MEMORY_DEVICE_SIZE_CHANGE": (WakeKind.DEVICE, lambda alias, size: f"{alias} {format_size(size * KIB)}"),
    "MIGRATION_ITERATION": (WakeKind.JOB, _nothing),
    "JOB_COMPLETED": (WakeKind.JOB, _nothing),
    "METADATA_CHANGE": (WakeKind.METADATA, _nothing),
    "AGENT_LIFECYCLE": (WakeKind.AGENT, lambda state, _: _AGENT.get(state, f"state {state}")),
}


def subscribe(libvirt: Any, connection: Any, notify: Notify) -> Callable[[], None]:
    """Notify of all events that affect reclaim, and of the end of the connection.

    Each event is registered once, because the binding has one callback per event on a connection. An event
    that this libvirtd does not know is left out; the next tick sees the change. Waits for libvirtd.

    Returns:
        A function that ends the subscription.
    """
    registered: list[int] = []

    def on_event(_: object, domain: Any, *arguments: Any) -> None:
        kind, say = arguments[-1]  # the opaque value comes last
        notify(Wake(kind=kind, uuid=domain.UUIDString(), detail=say(*arguments[:-1])))

    def on_close(_: object, reason: int, __: object) -> None:
        notify(Wake(kind=WakeKind.CONNECTION, detail=_CLOSED.get(reason, f"reason {reason}")))

    for name, event in _EVENTS.items():
        with contextlib.suppress(AttributeError, libvirt.libvirtError):
            number = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
            registered.append(connection.domainEventRegisterAny(None, number, on_event, event))
    with contextlib.suppress(libvirt.libvirtError):  # of a connection that is not to a process of its own
        connection.registerCloseCallback(on_close, None)

    def unsubscribe() -> None:
        # A callback holds its connection: one that was lost would stay in memory for ever.
        for callback in registered:
            with contextlib.suppress(libvirt.libvirtError):
                connection.domainEventDeregisterAny(callback)
        with contextlib.suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()

    return unsubscribe


class EventLoop:
    """Libvirt's own event loop in a thread. Without it there are no events and no keepalive."""

    def __init__(self, libvirt: Any, clock: Clock) -> None:
        """Register the loop. It must be registered before a connection is opened."""
        self._libvirt = libvirt
        self._clock = clock
        self._stopping = False
        libvirt.virEventRegisterDefaultImpl()
        # The loop sleeps until an event. Enabling this timer wakes it so that it can stop.
        self._timer = libvirt.virEventAddTimeout(-1, lambda *_: None, None)
        self._thread = threading.Thread(target=self._run, name="libvirt events", daemon=True)
        self._thread.start()

    def stop(self, *, seconds: float) -> bool:
        """End the thread.

        Returns:
            Whether it has ended within ``seconds``.
        """
        self._stopping = True
        self._libvirt.virEventUpdateTimeout(self._timer, 0)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._libvirt.virEventRunDefaultImpl()
            except Exception:  # noqa: BLE001 - whatever a callback met, keepalive and later events depend on this
                self._clock.wait(_UNLIKELY_RETRY_SECONDS)
        self._libvirt.virEventRemoveTimeout(self._timer)
