"""How the resizing of a balloon or a virtio-mem device ended, and the sentence about it for people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.errors import HostError
from overcommit.model.facts import DomainFacts
from overcommit.model.guest_reserve import guest_reserve, short_below
from overcommit.model.outcome import Fault, Status
from overcommit.model.restraint import GUEST_REBOOTS
from overcommit.plan.limits import Room
from overcommit.units import MIB, format_size

TOLERANCE_BYTES = MIB
"""A size this close to the target is the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeEnd(ABC):
    """One way to end. ``left_at_bytes`` is the final size; None: unchanged.

    ``unrecorded`` is why the journal has only the original size; None: it has the final one too.
    """

    left_at_bytes: int | None
    unrecorded: HostError | None = None

    @property
    def status(self) -> Status:
        """The status of the outcome."""
        return Status.PARTIAL

    @property
    def fault(self) -> Fault | None:
        """What the guest did wrong; None: nothing."""
        return None

    @property
    def accountable(self) -> bool:
        """Whether the guest gave what it could, so that the host must have got its memory."""
        return False

    @property
    def sentence(self) -> str:
        """The end for people."""
        return self._says() + (f" ({self.unrecorded})" if self.unrecorded is not None else "")

    @abstractmethod
    def _says(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached(ResizeEnd):
    """The ``part`` is at ``size_bytes``. ``bound`` is the room that cut the action; None: nothing cut it."""

    part: str
    size_bytes: int
    bound: Room | None = None

    @property
    def status(self) -> Status:
        """Partial if the action was cut."""
        return Status.DONE if self.bound is None else Status.PARTIAL

    @property
    def accountable(self) -> bool:
        """It gave all."""
        return True

    def _says(self) -> str:
        at = f"{self.part} at {format_size(self.size_bytes)}"
        return at if self.bound is None else f"{at}; its limit is reached ({self.bound.why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Growing(ResizeEnd):
    """The guest has ``size_bytes`` of a larger target at the end of the wait."""

    size_bytes: int

    def _says(self) -> str:
        return f"the guest has taken {format_size(self.size_bytes)} so far; the target is set"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedEarly(ResizeEnd):
    """The guest was left above the target, at ``left_at_bytes``."""

    left_at_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(EndedEarly):
    """Stopped on its way, for the reason ``why``."""

    why: str

    def _says(self) -> str:
        return f"stopped: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebooted(EndedEarly):
    """The guest reboots. That its size does not change meanwhile is not its fault."""

    def _says(self) -> str:
        return f"stopped: {GUEST_REBOOTS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoodStill(EndedEarly):
    """The ``part`` stopped by itself."""

    part: str

    @property
    def fault(self) -> Fault:
        """It is stuck."""
        return Fault.STUCK

    @property
    def accountable(self) -> bool:
        """It gave some."""
        return True

    def _says(self) -> str:
        return f"the {self.part} stopped moving at {format_size(self.left_at_bytes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedBack(EndedEarly):
    """The guest got its last step back.

    ``available_bytes`` is the memory that it had available: too little. None: it no longer sent statistics.
    """

    available_bytes: int | None

    @property
    def fault(self) -> Fault:
        """It is silent, or short of memory."""
        return Fault.SILENT if self.available_bytes is None else Fault.PAIN

    @property
    def accountable(self) -> bool:
        """It gave some."""
        return True

    def _says(self) -> str:
        guest = "no longer answers"
        if self.available_bytes is not None:
            guest = f"has only {format_size(self.available_bytes)} available"
        return f"one step back to {format_size(self.left_at_bytes)}: the guest {guest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBack(ResizeEnd):
    """The guest gave ``gave_bytes``, the host got only ``got_bytes``, and the guest got all back (S6)."""

    gave_bytes: int
    got_bytes: int

    @property
    def status(self) -> Status:
        """Undone."""
        return Status.UNDONE

    @property
    def fault(self) -> Fault:
        """It gave memory that the host did not get."""
        return Fault.PHANTOM

    def _says(self) -> str:
        gave, got = format_size(self.gave_bytes), format_size(self.got_bytes)
        return f"the guest gave {gave} but the host got {got}: given back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(ResizeEnd):
    """An ``error`` ended it. ``known_fault`` is what the guest had done wrong before that."""

    error: HostError
    known_fault: Fault | None = None

    @property
    def status(self) -> Status:
        """Failed. Where the host got memory before that, the outcome is partial (`Status.of`)."""
        return Status.FAILED

    @property
    def fault(self) -> Fault | None:
        """The fault from before the error."""
        return self.known_fault

    def _says(self) -> str:
        return str(self.error)


class Observation(NamedTuple):
    """The size, the guest's available memory (None: not reported in time), and why to stop.

    ``reboots``: its statistics are gone, so it reboots.
    """

    size: int
    usable: int | None
    stop_because: str | None = None
    reboots: bool = False


def ended_early(
    seen: Observation, reached: int, previous: int, target: int, domain: DomainFacts, part: str
) -> EndedEarly | None:
    """Why not to go on after a step; None: go on."""
    if seen.reboots:
        return Rebooted(left_at_bytes=reached)
    if seen.stop_because is not None:
        return Stopped(why=seen.stop_because, left_at_bytes=reached)
    if reached > target + TOLERANCE_BYTES:
        return StoodStill(part=part, left_at_bytes=reached)
    if seen.usable is None or seen.usable < short_below(guest_reserve(domain.memory_bytes)):
        return SteppedBack(available_bytes=seen.usable, left_at_bytes=previous)
    return None
