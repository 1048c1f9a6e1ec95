"""The records of the undo journal, and their JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from overcommit.model.facts import Incarnation
from overcommit.model.moments import Wall
from overcommit.model.part import MemoryPart
from overcommit.model.ranges import Range
from overcommit.records.checks import require_right
from overcommit.records.lines import Damage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTakenOver:
    """A kernel module that ran DAMON exclusively was turned off. Its ``enabled`` read ``before``."""

    module: str
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClaimed:
    """The number of kdamond slots was set to ``size``. ``before`` is the whole configuration found there.

    Each slot of this program carries ``mark`` (`overcommit.damon.pool`); 0: written before there were marks.
    """

    size: int
    before: Mapping[str, str]
    mark: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KdamondStarted:
    """A slot was turned on for ``what``. ``fingerprint`` identifies its configuration."""

    slot: int
    what: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOpened:
    """A tracing instance was made at ``path``."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonMoved:
    """A balloon's target was changed from ``before_bytes``."""

    domain: Incarnation
    before_bytes: int
    after_bytes: int

    @property
    def part(self) -> MemoryPart:
        """The part of the domain's memory that was changed."""
        return MemoryPart(self.domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDeviceResized:
    """The requested size of a virtio-mem device was changed from ``before_bytes``."""

    domain: Incarnation
    device: str
    before_bytes: int
    after_bytes: int

    @property
    def part(self) -> MemoryPart:
        """The part of the domain's memory that was changed."""
        return MemoryPart(self.domain, self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmStarted:
    """KSM was started.

    Files below ``/sys/kernel/mm/ksm`` had the values ``before``, and should get ``after``.

    The order is that of the writes. A file that was not written, but that the kernel changes when another one
    is restored, has in ``after`` the value that it will have then.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReclaimSet:
    """DAMON_RECLAIM's parameters were set in a guest; both by name, in the order of the writes."""

    domain: Incarnation
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionBegun:
    """An action starts (rule S15).

    It is settled when its end is in the history. There is nothing to undo by itself.

    ``domain`` is None for an action of the host. ``resident_bytes`` of its ``ram`` were in memory then; None:
    not known.
    """

    domain: Incarnation | None
    what: str
    because: str
    expected_bytes: int
    resident_bytes: int | None
    ram: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionChanged:
    """A domain's persistent definition was changed from ``before`` to ``after``, both as libvirt prints them.

    It is in a separate journal (`Journal.beside`): it outlives boots, and no end of a controller undoes it.
    """

    uuid: str
    name: str
    before: str
    after: str


GuestRecord = BalloonMoved | MemoryDeviceResized
"""A change of a guest's own memory, which is restored by libvirt."""


def resized(part: MemoryPart, *, before_bytes: int, after_bytes: int) -> GuestRecord:
    """The record of a part of a domain's memory that was resized."""
    if part.device is None:
        return BalloonMoved(domain=part.domain, before_bytes=before_bytes, after_bytes=after_bytes)
    return MemoryDeviceResized(
        domain=part.domain, device=part.device, before_bytes=before_bytes, after_bytes=after_bytes
    )


OF_GUESTS = (BalloonMoved, MemoryDeviceResized, GuestReclaimSet)
"""Records that need libvirt to be restored. All others are of the host."""
Record = (
    ModuleTakenOver
    | PoolClaimed
    | KdamondStarted
    | TraceOpened
    | GuestRecord
    | GuestReclaimSet
    | KsmStarted
    | ActionBegun
    | DefinitionChanged
)
_KINDS = {kind.__name__: kind for kind in get_args(Record)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record with its place. Entries are undone newest first."""

    generation: int
    number: int
    boot_id: str
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSummary:
    """One past or unfinished generation."""

    number: int
    command: str
    started_at: Wall
    boot_id: str
    outstanding: int


_OfBoot = TypeVar("_OfBoot", Entry, GenerationSummary)


def of_boot(found: Iterable[_OfBoot], boot_id: str) -> list[_OfBoot]:
    """Those of that boot. Changes of another boot ended with it, and none is in force."""
    return [one for one in found if one.boot_id == boot_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A line that cannot be used. ``boot_id`` is None where the file does not name its boot."""

    file: str
    damage: Damage
    boot_id: str | None

    def __str__(self) -> str:
        if self.damage.newer:
            return f"{self.file}: {self.damage.why}"
        return f"{self.file} line {self.damage.line} cannot be read: {self.damage.why}"


def to_json(record: Record) -> dict[str, Any]:
    """The JSON form of a record.

    Raises:
        ValueError: it could not be read back.
    """
    values = dataclasses.asdict(record)
    kind = type(record).__name__
    require_right(kind, values)
    return {"kind": kind, **values}


def from_json(data: Any) -> Record:
    """The record of a JSON form.

    Raises:
        ValueError: it is not the form of a record of this program.
    """
    if not isinstance(data, dict):
        message = "its record is no object"
        raise ValueError(message)
    values = dict(data)
    kind = values.pop("kind", None)
    require_right(kind, values)
    if values.get("domain") is not None:
        values["domain"] = Incarnation(**values["domain"])
    if "ram" in values:
        values["ram"] = tuple(Range(*each) for each in values["ram"])
    record: Record = _KINDS[kind](**values)
    return record
