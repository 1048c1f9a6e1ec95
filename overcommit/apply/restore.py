"""Put back what the journal says is outstanding. Idempotent; needs libvirt for balloons only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from overcommit.clock import Clock
from overcommit.damon.pool import undo
from overcommit.errors import Gone, HostError
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_boot_id
from overcommit.host.process import read_start_time
from overcommit.hypervisor.port import Hypervisor
from overcommit.journal import BalloonMoved, Entry, Journal
from overcommit.units import MIB, format_size

_DEFLATE_SECONDS = 60.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was put back, and what could not be, as sentences."""

    done: tuple[str, ...]
    left: tuple[str, ...]


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
    survive a boot. ``connect`` is called only when a balloon is to be moved.
    """
    entries = tuple(e for e in journal.outstanding() if e.generation >= since)
    boot_id = read_boot_id(kernel)
    done: list[str] = []
    left: list[str] = []
    current = [entry for entry in entries if entry.boot_id == boot_id]
    for entry in entries:
        if entry.boot_id != boot_id:
            journal.settle(entry)
    for entry in current:
        if isinstance(entry.record, BalloonMoved):
            continue
        try:
            done += undo(kernel, journal, (entry,))
        except (HostError, OSError) as error:
            left.append(str(error))
    try:
        done += _balloons(
            kernel,
            journal,
            clock,
            connect,
            [e for e in current if isinstance(e.record, BalloonMoved)],
            progress,
        )
    except HostError as error:
        left.append(str(error))
    return Restored(done=tuple(done), left=tuple(left))


def _balloons(
    kernel: Kernel,
    journal: Journal,
    clock: Clock,
    connect: Callable[[], Hypervisor],
    entries: Sequence[Entry],
    progress: Callable[[str], None],
) -> list[str]:
    """Give each domain the size it had before its oldest outstanding move."""
    by_domain: dict[object, list[Entry]] = {}
    for entry in entries:
        if isinstance(entry.record, BalloonMoved):
            by_domain.setdefault(entry.record.domain, []).append(entry)
    said: list[str] = []
    for moves in by_domain.values():
        oldest = moves[-1].record
        if not isinstance(oldest, BalloonMoved):
            continue
        name, size = oldest.domain.name, oldest.before_bytes
        try:
            if read_start_time(kernel, oldest.domain.pid) != oldest.domain.start_time:
                raise Gone(name)
            progress(f"giving {name} its {format_size(size)} back")
            hypervisor = connect()
            hypervisor.set_balloon(oldest.domain.uuid, size)
            _await_size(hypervisor, clock, oldest)
            said.append(f"balloon of {name} back at {format_size(size)}")
        except Gone:
            said.append(f"domain {name} ended or was restarted since: its balloon needs nothing")
        for entry in moves:
            journal.settle(entry)
    return said


def _await_size(hypervisor: Hypervisor, clock: Clock, move: BalloonMoved) -> None:
    deadline = clock.monotonic() + _DEFLATE_SECONDS
    while True:
        actual = hypervisor.balloon(move.domain.uuid, now=clock.now()).actual_bytes
        if actual >= move.before_bytes - MIB:
            return
        if clock.monotonic() > deadline:
            raise HostError(
                f"domain {move.domain.name} has only taken {format_size(actual)} of "
                f"{format_size(move.before_bytes)} back after {_DEFLATE_SECONDS:.0f} s",
                hint="the target is set; the guest follows when it can",
            )
        clock.wait(_POLL_SECONDS)
