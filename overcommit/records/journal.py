"""The undo journal: what to restore, on disk before anything is changed (rules S3, S4, S10).

One file per generation, one JSON object per line. Each line is fsynced before the write that it describes. A
record is outstanding until a ``settled`` line follows, which is written after the undo. A line that cannot be
read is a `Fault`: it is named, nothing more is taken, and the other lines are restored.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from pathlib import Path

from overcommit.errors import JournalFailed, Refused
from overcommit.model.moments import Wall
from overcommit.model.part import MemoryPart
from overcommit.records.contents import NOT_ON_DISK, Content, content_of
from overcommit.records.controller_lock import ControllerLock
from overcommit.records.entries import (
    OF_GUESTS,
    ActionBegun,
    BalloonMoved,
    DefinitionChanged,
    Entry,
    Fault,
    GenerationSummary,
    GuestReclaimSet,
    GuestRecord,
    KdamondStarted,
    KsmStarted,
    MemoryDeviceResized,
    ModuleTakenOver,
    PoolClaimed,
    Record,
    TraceOpened,
    of_boot,
    resized,
    to_json,
)
from overcommit.records.lines import FORMAT, append
from overcommit.records.room import FEW_RECORDS_BYTES, held_bytes, require_room, superfluous

__all__ = [
    "DEFAULT_DIRECTORY",
    "OF_GUESTS",
    "ActionBegun",
    "BalloonMoved",
    "DefinitionChanged",
    "Entry",
    "Fault",
    "Generation",
    "GenerationSummary",
    "GuestReclaimSet",
    "GuestRecord",
    "Journal",
    "KdamondStarted",
    "KsmStarted",
    "MemoryDeviceResized",
    "ModuleTakenOver",
    "PoolClaimed",
    "Record",
    "TraceOpened",
    "of_boot",
    "resized",
]
DEFAULT_DIRECTORY = Path("/var/lib/overcommit")
_KEPT_GENERATIONS = 200
"""The newest files that are kept when they have nothing left to undo, for people to read."""
_LONG_BYTES = 256 * 1024
"""After a file of this length (about a thousand lines) a new one is started."""


def _takes(record: Record) -> bool:
    """Whether the record is of a change that takes memory. Others give back, or record a start."""
    if isinstance(record, GuestRecord):
        return record.after_bytes < record.before_bytes
    return not isinstance(record, ActionBegun)


class Generation:
    """An open journal file; see `Journal.begin`. A long one continues in others (`roll`)."""

    def __init__(self, journal: Journal, path: Path, number: int, *, boot_id: str, command: str) -> None:
        self.number = number
        self.path = path
        self.command = command
        self._journal = journal
        self._boot_id = boot_id
        self._next = 0

    def record(self, record: Record) -> Entry:
        """Write a record to disk, after records that are owed. Only then may its write be made.

        Raises:
            JournalFailed: the disk refuses; nothing may be changed then.
        """
        self._pay()
        return self._write(record)

    def owe(self, record: GuestRecord) -> None:
        """Keep the record of a change that was made although the disk refused it, to write it later.

        Only for changes that restore can undo without it. If the program ends before, later plans attribute
        the change to somebody else.
        """
        entry = Entry(generation=self.number, number=NOT_ON_DISK, boot_id=self._boot_id, record=record)
        self._journal.owed[record.part] = entry

    def require_writable(self) -> None:
        """Check that a record could be written to disk now. Owed records are written.

        Raises:
            JournalFailed: the disk refuses.
        """
        self._journal.prune(self._boot_id)
        require_room(self.path.parent, FEW_RECORDS_BYTES, takes=True)
        append(self.path, {})
        self._pay()

    def settle(self, entry: Entry) -> None:
        """Record that an entry has been undone.

        Raises:
            JournalFailed: the disk refuses; the entry stays outstanding.
        """
        self._journal.settle(entry)

    def roll(self, *, now: Wall) -> None:
        """Continue in a new file, with the next number, when this one is long.

        Outstanding entries stay where they are. Call it while no action runs, because an action is recorded
        with the number of its file.

        Raises:
            JournalFailed: the disk refuses; the present file is continued.
        """
        if self.path.stat().st_size < _LONG_BYTES:
            return
        new = self._journal.begin(self.command, boot_id=self._boot_id, started_at=now)
        left = (*self._journal.outstanding(), *self._journal.begun())
        if not any(entry.generation == self.number for entry in left):
            self._journal.discard(self)
        self.number, self.path, self._next = new.number, new.path, 0

    def way_back(self, part: MemoryPart) -> int | None:
        """The size in bytes that restore would give the part; None: none is on record."""
        sizes = [
            entry.record.before_bytes
            for entry in self._journal.outstanding()
            if entry.boot_id == self._boot_id
            and isinstance(entry.record, GuestRecord)
            and entry.record.part == part
        ]
        return sizes[-1] if sizes else None

    def _pay(self) -> None:
        owed = self._journal.owed
        for which, entry in list(owed.items()):
            self._write(entry.record)
            del owed[which]

    def _write(self, record: Record) -> Entry:
        entry = Entry(generation=self.number, number=self._next, boot_id=self._boot_id, record=record)
        try:
            data = to_json(record)
        except ValueError as error:
            raise JournalFailed(f"the change cannot be recorded in the undo journal: {error}") from error
        line = {"number": entry.number, "boot_id": entry.boot_id, "record": data}
        require_room(self.path.parent, len(json.dumps(line)), takes=_takes(record))
        self._next += 1  # also of one that the disk refuses: no two lines have the same number
        append(self.path, line)
        return entry


class Journal:
    """The journal directory, and the lock that allows one controller at a time (S11)."""

    def __init__(self, directory: Path = DEFAULT_DIRECTORY) -> None:
        self._directory = directory
        self._lock = ControllerLock(directory)
        self._read: dict[int, Content] = {}
        self.owed: dict[MemoryPart, Entry] = {}
        """See `Generation.owe`: the latest of each balloon and device."""

    @property
    def directory(self) -> Path:
        """Where its files are, and what else is kept beside them."""
        return self._directory

    def beside(self, name: str) -> Journal:
        """A separate journal in a directory below this one's, with its own lock."""
        return Journal(self._directory / name)

    def lock(self) -> None:
        """See `ControllerLock.take`.

        Raises:
            Conflict: another controller is running.
            Refused: a newer version wrote a part of it, which this version would lose.
        """
        self._lock.take()
        for fault in self.faults():
            if fault.damage.newer:
                self._lock.leave()
                raise Refused(
                    f"this version cannot use the undo journal: {fault}",
                    hint="use the version of overcommit that wrote it, or a newer one",
                )

    def unlock(self) -> None:
        """See `ControllerLock.leave`."""
        self._lock.leave()

    def holder(self) -> str | None:
        """See `ControllerLock.holder`."""
        return self._lock.holder()

    def begin(self, command: str, *, boot_id: str, started_at: Wall) -> Generation:
        """Open the next generation, and delete old ones with nothing to undo.

        Raises:
            JournalFailed: the disk refuses.
        """
        number = max((number for number, _ in self._files()), default=0) + 1
        path = self._path(number)
        head = {"command": command, "boot_id": boot_id, "started_at": started_at}
        append(path, {"format": FORMAT, **head})
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.prune(boot_id)
        return Generation(self, path, number, boot_id=boot_id, command=command)

    def settle(self, entry: Entry) -> None:
        """Record that the entry has been undone (or has nothing left to undo)."""
        if entry.number == NOT_ON_DISK:
            self.owed = {which: owed for which, owed in self.owed.items() if owed != entry}
            return
        append(self._path(entry.generation), {"settled": entry.number})

    def discard(self, generation: Generation) -> None:
        """Delete a generation that changed nothing, so that history shows applies only."""
        generation.path.unlink()

    def outstanding(self) -> tuple[Entry, ...]:
        """The entries to undo, in the order in which to do it: newest first."""
        entries = [entry for content in self._contents() for entry in content.outstanding]
        entries += self.owed.values()
        return tuple(sorted(entries, key=lambda e: (e.generation, e.number), reverse=True))

    def begun(self) -> tuple[Entry, ...]:
        """The actions whose start is on record, and whose end is not (`ActionBegun`), oldest first."""
        return tuple(entry for content in self._contents() for entry in content.begun)

    def faults(self, boot_id: str | None = None) -> tuple[Fault, ...]:
        """The lines that cannot be read, without those of a boot other than ``boot_id``, if known."""
        return tuple(
            fault
            for content in self._contents()
            for fault in content.faults
            if boot_id is None or fault.boot_id in {boot_id, None} or fault.damage.newer
        )

    def set_aside(self, file: str) -> str:
        """Rename a damaged file whose readable entries are all undone, so that it is not read again.

        Returns:
            Its new name.

        Raises:
            JournalFailed: the disk refuses.
        """
        path = self._directory / file
        name = next(
            each
            for n in itertools.count(1)
            if not (self._directory / (each := f"{file}.damaged-{n}")).exists()
        )
        try:
            path.rename(path.with_name(name))
        except OSError as error:
            raise JournalFailed(f"cannot set {file} aside: {error.strerror}") from error
        return name

    @property
    def held_bytes(self) -> int:
        """How much of `overcommit.records.room.MOST_BYTES` its files take."""
        return held_bytes(self._directory)

    def generations(self) -> tuple[GenerationSummary, ...]:
        """All generations, oldest first."""
        return tuple(content.head for content in self._contents() if content.head is not None)

    def _contents(self) -> list[Content]:
        """The contents of the files, oldest first. Only files that changed since the last call are read."""
        before, self._read = self._read, {}
        for number, path in self._files():
            try:
                found = path.stat()
                stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
                content = before.get(number)
                if content is None or content.stamp != stamp:
                    content = content_of(number, path, stamp)
            except FileNotFoundError:  # the controller at work has no more use for it
                continue
            self._read[number] = content
        return list(self._read.values())

    def prune(self, boot_id: str) -> None:
        """Delete old files that are not needed, except some of the newest."""
        needed = {entry.generation for entry in (*self.outstanding(), *self.begun())}
        damaged = {fault.file for fault in self.faults(boot_id)}
        for number, path in superfluous(self._files(), _KEPT_GENERATIONS):
            if number not in needed and path.name not in damaged:
                with contextlib.suppress(OSError):  # it is in nobody's way
                    path.unlink()

    def _path(self, number: int) -> Path:
        return self._directory / f"generation-{number:06d}.jsonl"

    def _files(self) -> list[tuple[int, Path]]:
        if not self._directory.is_dir():
            return []
        paths = sorted(self._directory.glob("generation-[0-9]*.jsonl"))
        numbers = [(path.stem.rpartition("-")[2], path) for path in paths]
        return [(int(number), path) for number, path in numbers if number.isdecimal() and number.isascii()]
