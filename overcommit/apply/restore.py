"""Put back what the journal says is outstanding. Idempotent; needs libvirt for guests only."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
    """What was put back, and what could not be, as sentences.

    ``under_way`` is what guests were still taking back when they were not waited for any longer. Nothing
    more need be done for it; the journal keeps it until a later restore has seen it there.
    """

    done: tuple[str, ...]
    left: tuple[str, ...]
    under_way: tuple[str, ...] = ()


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

    Entries of an earlier boot are settled without touching anything: neither kdamonds nor QEMU processes
    nor KSM's settings survive a boot. ``connect`` is called only when something of a guest is to be put back.
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
    guests = _give_all_back(kernel, journal, clock, connect, given, own, progress)
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
    """The same, but where the domain carries that it had more: the line that said so may be lost."""
    entry, oldest = history[-1]
    with contextlib.suppress(OvercommitError, OSError, ValueError):
        definition = read_definition(connect(), which.domain.uuid).definition
        had = min(definition.claim.get(which.what, 0), definition.maximum_bytes)
        if had > oldest.before_bytes:
            return [*history[:-1], (entry, dataclasses.replace(oldest, before_bytes=had))]
    return list(history)


def _set_aside(journal: Journal, fault: Fault, since: int) -> tuple[str, bool]:
    """Put a damaged file out of the way once nothing is left in it; what is to be said, if that is all.

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
    """What each balloon and device had before us; the entries are newest first."""
    return {
        entry.record.part: entry.record.before_bytes
        for entry in outstanding
        if entry.boot_id == boot_id and isinstance(entry.record, GuestRecord)
    }


def _settle(journal: Journal, entries: Iterable[Entry]) -> Iterator[str]:
    """Note each as undone; says what the disk refuses, for another restore to do it."""
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
    given: Mapping[MemoryPart, Sequence[tuple[Entry, GuestRecord]]],
    own: Mapping[MemoryPart, int],
    progress: Callable[[str], None],
) -> Restored:
    """Balloons and memory devices, as far as that goes; ``own`` is what they had before us."""
    done: list[str] = []
    left: list[str] = []
    under_way: list[str] = []
    returning = {
        which: _give_back(kernel, clock, connect, [record for _, record in history], own[which], progress)
        for which, history in given.items()
    }
    for part, end in _together(returning, clock):
        whose = f"{part.what} of {part.domain.name}"
        if isinstance(end, OvercommitError):
            left.append(f"{whose}: {end}")
        elif end.under_way:
            under_way.append(end.sentence)
        else:
            done.append(end.sentence)
            unsettled = _settle(journal, (entry for entry, _ in given[part]))
            left += (f"{whose}: {error}" for error in unsettled)
    return Restored(done=tuple(done), left=tuple(left), under_way=tuple(under_way))


def _together(
    returning: Mapping[MemoryPart, Routine[Returned]], clock: Clock
) -> Iterator[tuple[MemoryPart, Returned | OvercommitError]]:
    """All guests take back what is theirs at the same time; how each ended, as it does."""
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
    """What is told of a guest's parameters or KSM's, and whether that is all that is to be done."""
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
    history: Sequence[GuestRecord],
    own: int,
    progress: Callable[[str], None],
) -> Routine[Returned]:
    """Give a domain the size that its balloon, or one device, had before the oldest of these changes.

    ``history`` is newest first. A size outside of what our changes can have left (down to the lowest of them)
    is somebody else's decision. As long as that is less than its ``own``, it carries on what it had.
    """
    oldest, lowest = history[-1], min(record.after_bytes for record in history)
    domain = oldest.domain
    try:
        if read_start_time(kernel, domain.pid) == domain.start_time:
            progress(f"giving {domain.name} its {format_size(oldest.before_bytes)} back")
            hypervisor = connect()
            if oldest.before_bytes < own:
                with contextlib.suppress(HostError):  # the journal of this host still has it
                    write_claim(hypervisor, oldest.part, own)
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
