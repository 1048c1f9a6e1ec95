"""Restores what is outstanding in the journal. Idempotent. Needs libvirt for guests only."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.apply.claims import drop, write_claim
from overcommit.apply.guest_reclaim import put_back
from overcommit.apply.ksm import stop_merging
from overcommit.apply.returning import Nudge, Returned, returned
from overcommit.apply.routines import Routine
from overcommit.apply.virtio_mem import plug_back
from overcommit.clock import Clock
from overcommit.damon.pool import undo
from overcommit.errors import Gone, HostError, Implausible, JournalFailed, OvercommitError
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_boot_id
from overcommit.host.process import read_start_time
from overcommit.hypervisor.guest_figures import read_balloon, read_definition
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.facts import BalloonStats
from overcommit.model.part import MemoryPart
from overcommit.records.journal import (
    BalloonMoved,
    Entry,
    Fault,
    GuestReclaimSet,
    GuestRecord,
    Journal,
    KsmStarted,
    MemoryDeviceResized,
)
from overcommit.units import MIB, format_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored, and what could not be, as sentences.

    ``under_way`` is memory that guests were still taking back at the end of the wait. Nothing more has to be
    done for it. The journal keeps it until a later restore finds it done.
    """

    done: tuple[str, ...]
    left: tuple[str, ...]
    under_way: tuple[str, ...] = ()


class _Owed(NamedTuple):
    """The changes of a balloon or device that are outstanding, newest first, and its original size."""

    history: Sequence[tuple[Entry, GuestRecord]]
    own_bytes: int


def restore(
    kernel: Kernel,
    journal: Journal,
    clock: Clock,
    connect: Callable[[], Hypervisor],
    *,
    since: int = 0,
    progress: Callable[[str], None],
) -> Restored:
    """Undo every outstanding entry of generation ``since`` and later, newest first.

    Entries of an earlier boot are settled without a change: neither kdamonds nor QEMU processes nor KSM's
    settings survive a boot. ``connect`` is called only if something of a guest must be restored.
    """
    boot_id = read_boot_id(kernel)
    done: list[str] = []
    left: list[str] = []
    past: list[Entry] = []
    damon: list[Entry] = []
    given: dict[MemoryPart, list[tuple[Entry, GuestRecord]]] = {}
    others: list[tuple[Entry, GuestReclaimSet | KsmStarted]] = []
    outstanding, faults = journal.outstanding(), journal.faults(boot_id)
    for entry in (entry for entry in outstanding if entry.generation >= since):
        if entry.boot_id != boot_id:
            past.append(entry)
        elif isinstance(entry.record, GuestRecord):
            given.setdefault(entry.record.part, []).append((entry, entry.record))
        elif isinstance(entry.record, GuestReclaimSet | KsmStarted):
            others.append((entry, entry.record))
        else:
            damon.append(entry)
    try:
        done += undo(kernel, journal, damon)
    except (OvercommitError, OSError) as error:
        left.append(str(error))
    own = _own_sizes(outstanding, boot_id)
    if faults:
        given = {which: _as_claimed(connect, which, history) for which, history in given.items()}
        for which, history in given.items():
            own[which] = max(own[which], history[-1][1].before_bytes)
    owed = {which: _Owed(history, own[which]) for which, history in given.items()}
    guests = _give_all_back(kernel, journal, clock, connect, owed, progress)
    done += guests.done
    left += guests.left
    for entry, record in others:
        said, settled = _put_back_settings(kernel, connect, record)
        (done if settled else left).append(said)
        if settled:
            left += _settle(journal, (entry,))
    left += _settle(journal, past)
    for fault in faults:
        said, harmless = _set_aside(journal, fault, since)
        (done if harmless else left).append(said)
    return Restored(done=tuple(done), left=tuple(dict.fromkeys(left)), under_way=guests.under_way)


def _as_claimed(
    connect: Callable[[], Hypervisor], which: MemoryPart, history: Sequence[tuple[Entry, GuestRecord]]
) -> list[tuple[Entry, GuestRecord]]:
    """The same, or more where the domain's claim says that it had more: the journal's line may be lost."""
    entry, oldest = history[-1]
    with contextlib.suppress(OvercommitError, OSError, ValueError):
        definition = read_definition(connect(), which.domain.uuid).definition
        had = min(definition.claim.get(which.what, 0), definition.maximum_bytes)
        if had > oldest.before_bytes:
            return [*history[:-1], (entry, dataclasses.replace(oldest, before_bytes=had))]
    return list(history)


def _set_aside(journal: Journal, fault: Fault, since: int) -> tuple[str, bool]:
    """Set a damaged file aside when nothing of it is outstanding. Returns a text, and whether that is all.

    A last line that was cut short describes nothing that was done.
    """
    number = int(fault.file.rpartition("-")[2].partition(".")[0])
    needed = any(entry.generation == number for entry in (*journal.outstanding(), *journal.begun()))
    if needed or number < since or fault.damage.newer:
        return str(fault), False
    if fault.file in {other.file for other in journal.faults()}:
        try:
            journal.set_aside(fault.file)
        except JournalFailed as error:
            return f"{fault}; {error}", False
    if fault.damage.torn:
        return f"{fault}: its change was never made; the file is set aside", True
    return f"{fault}: its content is lost and was not put back; the file is set aside", False


def _own_sizes(outstanding: Iterable[Entry], boot_id: str) -> dict[MemoryPart, int]:
    """The original size of each balloon and device. The entries are newest first."""
    return {
        entry.record.part: entry.record.before_bytes
        for entry in outstanding
        if entry.boot_id == boot_id and isinstance(entry.record, GuestRecord)
    }


def _settle(journal: Journal, entries: Iterable[Entry]) -> Iterator[str]:
    """Settle each entry. Yields what the disk refuses, which another restore repeats."""
    for entry in entries:
        try:
            journal.settle(entry)
        except JournalFailed as error:
            yield str(error)


def _give_all_back(
    kernel: Kernel,
    journal: Journal,
    clock: Clock,
    connect: Callable[[], Hypervisor],
    owed: Mapping[MemoryPart, _Owed],
    progress: Callable[[str], None],
) -> Restored:
    """Restore balloons and memory devices as far as possible."""
    done: list[str] = []
    left: list[str] = []
    under_way: list[str] = []
    returning = {which: _give_back(kernel, clock, connect, each, progress) for which, each in owed.items()}
    for part, end in _together(returning, clock):
        whose = f"{part.what} of {part.domain.name}"
        if isinstance(end, OvercommitError):
            left.append(f"{whose}: {end}")
        elif end.under_way:
            under_way.append(end.sentence)
        else:
            done.append(end.sentence)
            unsettled = _settle(journal, (entry for entry, _ in owed[part].history))
            left += (f"{whose}: {error}" for error in unsettled)
    return Restored(done=tuple(done), left=tuple(left), under_way=tuple(under_way))


def _together(
    returning: Mapping[MemoryPart, Routine[Returned]], clock: Clock
) -> Iterator[tuple[MemoryPart, Returned | OvercommitError]]:
    """Let all guests take memory back at the same time. Yields how each ended, as it ends."""
    left = dict(returning)
    while left:
        pauses = []
        for which, steps in tuple(left.items()):
            try:
                pauses.append(next(steps))
                continue
            except StopIteration as end:
                ended = end.value
            except OvercommitError as error:
                ended = error
            del left[which]
            yield which, ended
        if left:
            clock.wait(min(pauses))


def _put_back_settings(
    kernel: Kernel, connect: Callable[[], Hypervisor], record: GuestReclaimSet | KsmStarted
) -> tuple[str, bool]:
    """Restore a guest's parameters or KSM. Returns a text, and whether all is restored."""
    try:
        if isinstance(record, KsmStarted):
            return stop_merging(kernel, record), True
        return put_back(kernel, connect, record), True
    except OvercommitError as error:
        if isinstance(record, KsmStarted):
            return str(error), False
        return f"DAMON_RECLAIM in {record.domain.name}: {error}", False


def _give_back(
    kernel: Kernel,
    clock: Clock,
    connect: Callable[[], Hypervisor],
    owed: _Owed,
    progress: Callable[[str], None],
) -> Routine[Returned]:
    """Restore the size that a domain's balloon, or one device, had before the oldest of these changes.

    A size that these changes cannot have left (below the lowest of them) was set by somebody else, and is
    kept. While the size is below the domain's own, the claim stays.
    """
    records = [record for _, record in owed.history]
    oldest, lowest = records[-1], min(record.after_bytes for record in records)
    domain = oldest.domain
    try:
        if read_start_time(kernel, domain.pid) == domain.start_time:
            progress(f"giving {domain.name} its {format_size(oldest.before_bytes)} back")
            hypervisor = connect()
            if oldest.before_bytes < owed.own_bytes:
                with contextlib.suppress(HostError):  # the journal of this host still has it
                    write_claim(hypervisor, oldest.part, owed.own_bytes)
            else:
                drop(hypervisor, oldest.part)
            if isinstance(oldest, MemoryDeviceResized):
                return (yield from plug_back(hypervisor, clock, oldest, lowest))
            return (yield from _deflate(hypervisor, clock, oldest, lowest))
    except Gone:
        pass
    return Returned(
        f"domain {domain.name} ended or was restarted since: its {oldest.part.what} needs nothing"
    )


def _deflate(hypervisor: Hypervisor, clock: Clock, move: BalloonMoved, lowest: int) -> Routine[Returned]:
    uuid, whose = move.domain.uuid, f"balloon of {move.domain.name}"
    most = read_definition(hypervisor, uuid).definition.maximum_bytes

    def stats() -> BalloonStats:
        return read_balloon(hypervisor, uuid, now=clock.now(), most_bytes=most)

    def size() -> int:
        return stats().actual_bytes

    def boots() -> bool:
        return stats().age_seconds is None

    def ask(size_bytes: int) -> None:
        hypervisor.set_balloon(uuid, size_bytes)

    try:
        actual = size()
    except Implausible as error:  # it may have all that it had, whatever it says that it has
        ask(move.before_bytes)
        return Returned(
            f"{whose} was not told that it may have {format_size(move.before_bytes)} again: {error}"
        )
    if not lowest - MIB <= actual <= move.before_bytes + MIB:
        return Returned(f"{whose} stays at {format_size(actual)}: somebody else moved it")
    ask(move.before_bytes)
    nudge = Nudge(clock, ask, move.before_bytes, boots)
    return (yield from returned(clock, whose, size, move.before_bytes, tolerance=MIB, nudge=nudge))
