"""The rights and duties of the one controller of a host, be it a verb or the daemon."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from overcommit.clock import Clock
from overcommit.damon.pool import require_free, undo
from overcommit.errors import Gone, HostError, JournalFailed, OvercommitError, Refused
from overcommit.host.cgroup import read_cgroup
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_boot_id
from overcommit.host.process import read_start_time
from overcommit.model import events
from overcommit.model.action import HOST, Action, KsmAction, name_of
from overcommit.model.facts import DomainFacts, Incarnation
from overcommit.model.history import Event, event_of
from overcommit.model.log_event import Log
from overcommit.model.moments import Wall
from overcommit.model.outcome import Outcome, Status
from overcommit.model.part import MemoryPart, parts_of
from overcommit.model.past import Left, Past
from overcommit.model.policy import Policy
from overcommit.plan import cooldown
from overcommit.plan.quarantine import ACCOUNT_SECONDS, EVENTS, quarantines
from overcommit.records.adoption import adoption
from overcommit.records.compaction import Step, compaction
from overcommit.records.journal import (
    OF_GUESTS,
    ActionBegun,
    Entry,
    Generation,
    GuestRecord,
    Journal,
    KsmStarted,
    of_boot,
)
from overcommit.records.ledger import Ledger
from overcommit.units import MIB, format_size

MEND = "to put back what can be put back, and set the damaged file aside: overcommitctl restore"
"""The hint for a damaged journal."""
DIED = "interrupted: its controller died"
"""The detail of an action whose end was not recorded."""
_MOST_ROUNDS = 3
"""The most passes of `compaction`. What one pass writes to disk, the next one settles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The kernel and the clock, the undo journal with its lock, and the ledger.

    ``say`` gets sentences for whoever runs this.
    """

    kernel: Kernel
    clock: Clock
    journal: Journal
    ledger: Ledger
    log: Log

    @contextmanager
    def generation(self, command: str) -> Iterator[Generation]:
        """Become the only controller, clean up after one that ended without doing so, and open a generation.

        A generation that left nothing changed is not kept.
        """
        self.journal.lock()
        try:
            for sentence in self.clean_up_damon():
                self.log.tell(events.cleaned_up(sentence))
            self.note_interrupted(DIED)
            with self.opened(command) as generation:
                yield generation
        finally:
            self.journal.unlock()

    @contextmanager
    def opened(self, command: str) -> Iterator[Generation]:
        """See `generation`; for a process that is the only controller already."""
        generation = self.journal.begin(
            command, boot_id=read_boot_id(self.kernel), started_at=self.clock.now()
        )
        try:
            yield generation
        finally:
            self.note_interrupted("interrupted")
            left = (*self.journal.outstanding(), *self.journal.begun())
            if not any(entry.generation == generation.number for entry in left):
                self.journal.discard(generation)

    def require_whole(self, refused: Generation | None = None) -> None:
        """Check that every line of the undo journal that matters in this boot can be read.

        Also check that a generation whose record the disk ``refused`` accepts records again.

        Raises:
            Refused: a line cannot be read; it is named.
            JournalFailed: the disk still refuses.
        """
        if refused is not None:
            refused.require_writable()
        for fault in self.journal.faults(read_boot_id(self.kernel)):
            raise Refused(f"no memory is taken, because the undo journal is damaged: {fault}", hint=MEND)

    def require_damon(self, *, take_over: bool) -> None:
        """Check that DAMON does not belong to somebody else, before anything is changed.

        What an earlier controller of this program left is cleaned up before, by `generation`.

        Raises:
            Conflict: somebody else uses DAMON.
            Unsupported: there is no DAMON, or this is not root.
        """
        if not self.left_in_damon():
            require_free(self.kernel, take_over=take_over)

    def left_in_damon(self) -> list[Entry]:
        """Entries of DAMON that are outstanding in this boot. Those of an earlier boot ended with it."""
        return [e for e in self.in_force() if not isinstance(e.record, (*OF_GUESTS, KsmStarted))]

    def ksm_generation(self) -> int | None:
        """The generation that started KSM in this boot, and is not restored; None: none."""
        return next((e.generation for e in self.in_force() if isinstance(e.record, KsmStarted)), None)

    def in_force(self) -> list[Entry]:
        """The outstanding entries of this boot."""
        return of_boot(self.journal.outstanding(), read_boot_id(self.kernel))

    def past(self, now: Wall) -> Past:
        """What earlier runs in this boot left that a plan must know."""
        boot_id, outstanding = read_boot_id(self.kernel), self.journal.outstanding()
        faults = self.ledger.faults(boot_id=boot_id, kinds=EVENTS, since=now - ACCOUNT_SECONDS, until=now)
        paged_out = self.ledger.events(
            boot_id=boot_id, kinds=cooldown.EVENTS, since=now - cooldown.COOLDOWN_SECONDS
        )
        return Past(
            reservations=self.ledger.reservations(now=now, boot_id=boot_id),
            quarantines=quarantines(reversed(faults), now),
            left=tuple(_left(outstanding, boot_id)),
            cooldowns=cooldown.cooldowns(paged_out, now),
            ksm_generation=self.ksm_generation(),
        )

    def adopt(self, generation: Generation, domains: Sequence[DomainFacts]) -> bool:
        """Record here what domains gave elsewhere. ``domains`` are as just observed.

        Returns:
            Whether the past has changed.
        """
        adopted = False
        with contextlib.suppress(JournalFailed):  # told by whoever has something to change
            for record in adoption(domains, self.in_force()):
                generation.record(record)
                adopted = True
                gave = record.before_bytes - record.after_bytes
                if MIB < gave < record.before_bytes:
                    self.log.tell(events.domain_arrived(record.domain, gave, record.part.what))
        return adopted

    def tidy(self, generation: Generation, domains: Sequence[DomainFacts], *, at_rest: bool) -> bool:
        """Keep the journal of a long generation short, and complete (see `adopt`).

        ``domains`` are as just observed. ``at_rest``: no action is running. A disk that refuses is reported
        by the next action that needs a record.

        Returns:
            Whether the past has changed.
        """
        as_one = {g.number for g in self.journal.generations() if g.command == generation.command}
        tidied = self.adopt(generation, domains)
        try:
            for _ in range(_MOST_ROUNDS):
                for step in self._superfluous(domains, as_one):
                    tidied = True
                    if isinstance(step, Entry):
                        self.journal.settle(step)
                    else:
                        generation.record(step)
            if at_rest:
                generation.roll(now=self.clock.now())
        except JournalFailed:
            pass
        return tidied

    def _superfluous(self, domains: Sequence[DomainFacts], as_one: Collection[int]) -> tuple[Step, ...]:
        outstanding = self.journal.outstanding()
        incarnations = {entry.record.domain for entry in outstanding if isinstance(entry.record, OF_GUESTS)}
        return compaction(
            outstanding,
            boot_id=read_boot_id(self.kernel),
            over={
                incarnation
                for incarnation in incarnations - {d.incarnation for d in domains}
                if self._is_over(incarnation)
            },
            sizes=dict(part for domain in domains for part in parts_of(domain)),
            as_one=as_one,
        )

    def _is_over(self, incarnation: Incarnation) -> bool:
        try:
            return read_start_time(self.kernel, incarnation.pid) != incarnation.start_time
        except Gone:
            return True
        except (OSError, HostError):
            return False  # nobody knows; the next time may tell

    def note(self, outcome: Outcome, generation: Generation, policy: Policy) -> None:
        """Record how an action ended."""
        self.ledger.note(
            event_of(
                outcome,
                at=self.clock.now(),
                boot_id=read_boot_id(self.kernel),
                run=self.ledger.run,
                generation=generation.number,
                policy_digest=policy.digest,
            )
        )
        self._settle_begun(outcome.action)

    def note_interrupted(self, why: str, action: Action | None = None) -> None:
        """Record the end of actions whose end was not recorded, or of the given one.

        ``why`` is the reason.

        Only the controller may call this, while none of these actions is running.
        """
        for entry in self.journal.begun():
            if action is None or _is_begun(entry, action):
                self.ledger.note(self.interrupted(entry, why))
                self._settle(entry)

    def interrupted(self, entry: Entry, why: str) -> Event:
        """The event of an action that was started and not ended, as far as its effect can still be read."""
        begun = entry.record
        assert isinstance(begun, ActionBegun)
        gone = None
        if entry.boot_id != read_boot_id(self.kernel):
            detail = f"{why}; the host was rebooted since"
        elif begun.domain is None:
            detail = why
        elif (found := self._now_in_memory(begun)) is None:
            detail = f"{why}; the domain ended since"
        else:
            resident, swapped = found
            gone = max(0, (begun.resident_bytes or resident) - resident)
            detail = f"{why}; {format_size(gone)} had gone, {format_size(swapped)} of the domain in swap now"
        status = Status.PARTIAL if gone is not None and gone >= MIB else Status.FAILED
        return self.happened(
            begun.what,
            status,
            detail,
            about=HOST if begun.domain is None else begun.domain.name,
            domain=begun.domain,
            expected_bytes=begun.expected_bytes,
            freed_bytes=gone,
            because=begun.because,
        )

    def _now_in_memory(self, begun: ActionBegun) -> tuple[int, int] | None:
        """The domain's resident bytes, and those in swap; None: the incarnation has ended."""
        incarnation = begun.domain
        try:
            if incarnation is None or read_start_time(self.kernel, incarnation.pid) != incarnation.start_time:
                return None
            residency = self.kernel.residency(incarnation.pid, begun.ram)
            group = read_cgroup(self.kernel, incarnation.pid)  # knows what of shared memory is in swap, too
        except (OSError, OvercommitError):
            return None
        swapped = residency.swapped_bytes if group is None else max(group.swap_bytes, residency.swapped_bytes)
        return sum(span.size for span in residency.resident), swapped

    def _settle_begun(self, action: Action) -> None:
        for entry in self.journal.begun():
            if _is_begun(entry, action):
                self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        try:
            self.journal.settle(entry)
        except JournalFailed as error:
            self.log.tell(events.record_fault(str(error)))

    def happened(self, kind: str, status: Status, detail: str, **about: Any) -> Event:
        """An event of now about something besides actions."""
        return Event(
            at=self.clock.now(),
            boot_id=read_boot_id(self.kernel),
            run=self.ledger.run,
            kind=kind,
            status=status,
            detail=detail,
            **about,
        )

    def clean_up_damon(self) -> tuple[str, ...]:
        """Return what is left of DAMON by a controller that ended, or that failed to return it.

        Returns:
            A sentence for each thing that was put back.

        Raises:
            HostError: the kernel or the disk refused; it can be tried again.
        """
        return undo(self.kernel, self.journal, self.left_in_damon())


def _is_begun(entry: Entry, action: Action) -> bool:
    domain = None if isinstance(action, KsmAction) else action.domain
    begun = entry.record
    return isinstance(begun, ActionBegun) and (begun.domain, begun.what) == (domain, name_of(action))


def _left(outstanding: Sequence[Entry], boot_id: str) -> Iterator[Left]:
    """Where each part of a domain's memory was found first and left last; balloons come first.

    The entries are newest first.
    """
    changes: dict[MemoryPart, list[Entry]] = {}
    for entry in outstanding:
        if isinstance(entry.record, GuestRecord) and entry.boot_id == boot_id:
            changes.setdefault(entry.record.part, []).append(entry)
    for part, history in sorted(changes.items(), key=lambda change: change[0].device is not None):
        newest, oldest = history[0].record, history[-1].record
        assert isinstance(newest, GuestRecord)
        assert isinstance(oldest, GuestRecord)
        yield Left(
            part=part,
            size_bytes=newest.after_bytes,
            baseline_bytes=oldest.before_bytes,
            generation=history[0].generation,
        )
