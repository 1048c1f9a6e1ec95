"""The undo journal: what to put back, on disk before anything is changed (rules S3, S4, S10).

One file per generation, one JSON object per line, each line fsynced before the write it describes. A
record stays outstanding until a ``settled`` line follows, which is written after the undo.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from overcommit.controller_lock import ControllerLock
from overcommit.journal_file import append, lines
from overcommit.model.facts import Incarnation

DEFAULT_DIRECTORY = Path("/var/lib/overcommit")
_KEPT_GENERATIONS = 200
"""Files of the newest that are kept when nothing in them is left to undo, for whoever looks into one."""
_LONG_BYTES = 256 * 1024
"""A file as long as that, of a thousand lines or so, is followed by another."""
_OWED = 1 << 40
"""Number of an entry that is not on disk yet: newer than all that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTakenOver:
    """A kernel module that ran DAMON exclusively was turned off; its ``enabled`` read ``before``."""

    module: str
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClaimed:
    """The kdamond slots were set to ``size``; ``before`` is the whole configuration found there.

    Each slot of ours carries ``mark`` (`overcommit.damon.pool`); 0: written before there were marks.
    """

    size: int
    before: Mapping[str, str]
    mark: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KdamondStarted:
    """One of our slots was turned on for ``what``; ``fingerprint`` tells it from anybody else's."""

    slot: int
    what: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOpened:
    """An instance of the kernel's tracing was made for us, at ``path``."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BalloonMoved:
    """A balloon target was changed from ``before_bytes``."""

    domain: Incarnation
    before_bytes: int
    after_bytes: int

    @property
    def what(self) -> str:
        """What was moved, for people, and to tell it from the domain's others."""
        return "balloon"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDeviceResized:
    """What is requested of a virtio-mem device was changed from ``before_bytes``."""

    domain: Incarnation
    device: str
    before_bytes: int
    after_bytes: int

    @property
    def what(self) -> str:
        """See `BalloonMoved.what`."""
        return f"device {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmStarted:
    """KSM was set going; files below ``/sys/kernel/mm/ksm`` read ``before``, and were to read ``after``.

    In the order in which they were written. A file that was not written itself, but that the kernel sets
    anew when another is put back, has the value it will have by then in ``after``.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReclaimSet:
    """DAMON_RECLAIM's parameters were set in a guest; both by name, in the order in which they were set."""

    domain: Incarnation
    before: Mapping[str, str]
    after: Mapping[str, str]


GuestRecord = BalloonMoved | MemoryDeviceResized
"""What was changed of a guest's own memory; libvirt gives it back."""
OF_GUESTS = (BalloonMoved, MemoryDeviceResized, GuestReclaimSet)
"""What takes libvirt to put back; all else is the host's own."""
Record = (
    ModuleTakenOver | PoolClaimed | KdamondStarted | TraceOpened | GuestRecord | GuestReclaimSet | KsmStarted
)
_KINDS = {kind.__name__: kind for kind in get_args(Record)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record with its place: undone newest first."""

    generation: int
    number: int
    boot_id: str
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSummary:
    """One past or unfinished generation."""

    number: int
    command: str
    started_at: float
    boot_id: str
    outstanding: int


_OfBoot = TypeVar("_OfBoot", Entry, GenerationSummary)


def of_boot(found: Iterable[_OfBoot], boot_id: str) -> list[_OfBoot]:
    """Those of that boot: what was changed in another one went with it, and none of it is in force."""
    return [one for one in found if one.boot_id == boot_id]


def _to_json(record: Record) -> dict[str, Any]:
    return {"kind": type(record).__name__, **dataclasses.asdict(record)}


def _from_json(data: dict[str, Any]) -> Record:
    values = dict(data)
    kind = _KINDS[values.pop("kind")]
    if kind in OF_GUESTS:
        values["domain"] = Incarnation(**values["domain"])
    record: Record = kind(**values)
    return record


class Generation:
    """An open journal file; see `Journal.begin`. One that stays open for long goes on in others (`roll`)."""

    def __init__(self, journal: Journal, path: Path, number: int, *, boot_id: str, command: str) -> None:
        self.number = number
        self.path = path
        self.command = command
        self._journal = journal
        self._boot_id = boot_id
        self._next = 0

    def record(self, record: Record) -> Entry:
        """Put a record on disk, after what is owed; only then may the write it describes be done.

        Raises:
            JournalFailed: the disk refuses; nothing may be changed then.
        """
        self._pay()
        return self._write(record)

    def owe(self, record: GuestRecord) -> None:
        """Remember a change that was made though the disk refused the record, until it takes it.

        Only for what restore has a way back from; if we die before, later plans take it for somebody else's.
        """
        entry = Entry(generation=self.number, number=_OWED, boot_id=self._boot_id, record=record)
        self._journal.owed[record.domain, record.what] = entry

    def require_writable(self) -> None:
        """Raise `JournalFailed` unless a record could be put on disk now; what is owed is."""
        append(self.path, {})
        self._pay()

    def settle(self, entry: Entry) -> None:
        """Note that a record has been undone again.

        Raises:
            JournalFailed: the disk refuses; it stays outstanding.
        """
        self._journal.settle(entry)

    def roll(self, *, now: float) -> None:
        """Go on in a new file, under the next number, when this one is long.

        What is outstanding stays where it is. To be called while nothing is at work, for a piece of work is
        remembered with the number under which its records are.

        Raises:
            JournalFailed: the disk refuses; it goes on in this one.
        """
        if self.path.stat().st_size < _LONG_BYTES:
            return
        new = self._journal.begin(self.command, boot_id=self._boot_id, started_at=now)
        if not any(entry.generation == self.number for entry in self._journal.outstanding()):
            self._journal.discard(self)
        self.number, self.path, self._next = new.number, new.path, 0

    def way_back(self, domain: Incarnation, what: str) -> int | None:
        """The size that restore would give the domain's balloon, or that device; None: none is on record."""
        sizes = [
            entry.record.before_bytes
            for entry in self._journal.outstanding()
            if entry.boot_id == self._boot_id
            and isinstance(entry.record, GuestRecord)
            and (entry.record.domain, entry.record.what) == (domain, what)
        ]
        return sizes[-1] if sizes else None

    def _pay(self) -> None:
        owed = self._journal.owed
        for which, entry in list(owed.items()):
            self._write(entry.record)
            del owed[which]

    def _write(self, record: Record) -> Entry:
        entry = Entry(generation=self.number, number=self._next, boot_id=self._boot_id, record=record)
        append(self.path, {"number": entry.number, "record": _to_json(record)})
        self._next += 1
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a file says, as long as it has this ``stamp``; ``head`` is None where its first line is torn."""

    stamp: tuple[int, int, int]
    head: GenerationSummary | None
    outstanding: tuple[Entry, ...]


class Journal:
    """The journal directory, and the lock that lets one controller work at a time (S11)."""

    def __init__(self, directory: Path = DEFAULT_DIRECTORY) -> None:
        self._directory = directory
        self._lock = ControllerLock(directory)
        self._read: dict[int, _Content] = {}
        self.owed: dict[tuple[Incarnation, str], Entry] = {}
        """See `Generation.owe`: the latest of each balloon and device."""

    def lock(self) -> None:
        """See `ControllerLock.take`."""
        self._lock.take()

    def unlock(self) -> None:
        """See `ControllerLock.leave`."""
        self._lock.leave()

    def holder(self) -> str | None:
        """See `ControllerLock.holder`."""
        return self._lock.holder()

    def begin(self, command: str, *, boot_id: str, started_at: float) -> Generation:
        """Open the next generation, and forget old ones that left nothing to undo.

        Raises:
            JournalFailed: the disk refuses.
        """
        number = max((number for number, _ in self._files()), default=0) + 1
        path = self._path(number)
        append(path, {"command": command, "boot_id": boot_id, "started_at": started_at})
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._prune()
        return Generation(self, path, number, boot_id=boot_id, command=command)

    def settle(self, entry: Entry) -> None:
        """Note that the entry has been undone (or has nothing left to undo)."""
        if entry.number == _OWED:
            self.owed = {which: owed for which, owed in self.owed.items() if owed != entry}
            return
        append(self._path(entry.generation), {"settled": entry.number})

    def discard(self, generation: Generation) -> None:
        """Forget a generation that left nothing behind, so that history shows applies only."""
        generation.path.unlink()

    def outstanding(self) -> tuple[Entry, ...]:
        """What is still to be put back, in the order in which to do it: newest first."""
        entries = [entry for content in self._contents() for entry in content.outstanding]
        entries += self.owed.values()
        return tuple(sorted(entries, key=lambda e: (e.generation, e.number), reverse=True))

    def generations(self) -> tuple[GenerationSummary, ...]:
        """All generations, oldest first."""
        return tuple(content.head for content in self._contents() if content.head is not None)

    def _contents(self) -> list[_Content]:
        """What the files say, oldest first; only those are read that are not as they were the last time."""
        before, self._read = self._read, {}
        for number, path in self._files():
            try:
                found = path.stat()
                stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
                content = before.get(number)
                if content is None or content.stamp != stamp:
                    content = _content(number, path, stamp)
            except FileNotFoundError:  # the controller at work has no more use for it
                continue
            self._read[number] = content
        return list(self._read.values())

    def _prune(self) -> None:
        needed = {entry.generation for entry in self.outstanding()}
        for number, path in self._files()[:-_KEPT_GENERATIONS]:
            if number not in needed:
                with contextlib.suppress(OSError):  # it is in nobody's way
                    path.unlink()

    def _path(self, number: int) -> Path:
        return self._directory / f"generation-{number:06d}.jsonl"

    def _files(self) -> list[tuple[int, Path]]:
        if not self._directory.is_dir():
            return []
        paths = sorted(self._directory.glob("generation-*.jsonl"))
        return [(int(path.stem.rpartition("-")[2]), path) for path in paths]


def _content(number: int, path: Path, stamp: tuple[int, int, int]) -> _Content:
    found = list(lines(path))
    if not found or "boot_id" not in found[0]:
        return _Content(stamp=stamp, head=None, outstanding=())
    head = found[0]
    settled = {line["settled"] for line in found if "settled" in line}
    outstanding = tuple(
        Entry(
            generation=number,
            number=line["number"],
            boot_id=head["boot_id"],
            record=_from_json(line["record"]),
        )
        for line in found
        if "record" in line and line["number"] not in settled
    )
    summary = GenerationSummary(number=number, outstanding=len(outstanding), **head)
    return _Content(stamp=stamp, head=summary, outstanding=outstanding)
