"""Events that wake a controller before its next tick."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class WakeKind(enum.Enum):
    """What happened. An event only causes a new reading of the host; no decision depends on its content."""

    LIFECYCLE = "lifecycle"
    """A domain started, stopped, was paused or resumed."""
    REBOOT = "reboot"
    """A guest was reset; its balloon is empty again."""
    BALLOON = "balloon"
    """A balloon changed its size, by this program or another."""
    DEVICE = "device"
    """A device was added or removed (a passthrough device forbids a balloon), or a memory device changed its
    size.
    """
    JOB = "job"
    """A save, dump, snapshot or migration ended, or a migration began another round."""
    METADATA = "metadata"
    """Somebody changed a domain's labels."""
    AGENT = "agent"
    """A guest's agent connected or disconnected."""
    CONNECTION = "connection"
    """The connection to libvirt was lost; events may have been missed."""
    PRESSURE = "pressure"
    """Tasks of the host wait for memory (PSI some)."""
    EMERGENCY = "emergency"
    """At times all tasks of the host waited for memory (PSI full)."""
    POKE = "poke"
    """Another thread has put work into a queue."""
    RELOAD = "reload"
    """The policy must be read again: somebody asked, or its files changed."""
    WORKER_ENDED = "worker ended"
    """The process that does all DAMON I/O has ended; no DAMON work is possible without it."""
    STOP = "stop"
    """Return what must be returned, and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """One event before the tick is due. ``uuid`` names the domain, if it is about one.

    ``detail`` is for people only.
    """

    kind: WakeKind
    uuid: str | None = None
    detail: str = ""
