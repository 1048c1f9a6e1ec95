"""What wakes a controller before its next tick: something happened, somebody asks, or it is to stop."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class WakeKind(enum.Enum):
    """What happened. Each is a reason to look again, and says nothing that a look would not show."""

    LIFECYCLE = "lifecycle"
    """A domain started, stopped, was paused or resumed."""
    REBOOT = "reboot"
    """A guest was reset: its balloon is empty again."""
    BALLOON = "balloon"
    """A balloon changed its size; ours cause this too."""
    DEVICE = "device"
    """A device came or left (a passthrough one forbids a balloon), or a memory device changed its size."""
    JOB = "job"
    """A save, dump, snapshot or migration ended, or a migration began another round."""
    METADATA = "metadata"
    """Somebody changed a domain's labels."""
    AGENT = "agent"
    """A guest's agent came or left."""
    CONNECTION = "connection"
    """The connection to libvirt was lost; events may have been missed."""
    PRESSURE = "pressure"
    """Tasks of the host wait for memory."""
    EMERGENCY = "emergency"
    """At times nothing on the host could run for want of memory."""
    POKE = "poke"
    """Another thread has put work into a queue."""
    RELOAD = "reload"
    """The policy is to be read again: somebody asked, or its files changed."""
    WORKER_ENDED = "worker ended"
    """The process that does all DAMON I/O has died, and nothing can be done without it."""
    STOP = "stop"
    """Give back what has to be given back, and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """One reason to look before the tick is due; ``uuid`` names the domain where it is about one.

    ``detail`` is for people only.
    """

    kind: WakeKind
    uuid: str | None = None
    detail: str = ""
