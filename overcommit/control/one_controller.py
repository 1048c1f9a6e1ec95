"""What it takes to be the one controller of a host, for whoever is: a verb, or the daemon."""

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

MEND = "overcommitctl restore puts back what it can, and sets the damaged file aside"
"""What helps against a damaged journal."""
DIED = "interrupted: its controller died"
"""What is said of an action of which nobody told the end."""
_MOST_ROUNDS = 3
"""What `compaction` puts on disk first, it settles the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The kernel and the clock, the undo journal with its lock, and the memory beside it.

    ``log`` is told of events, for whoever runs this.
    """

    kernel: Kernel
    clock: Clock
    journal: Journal
    ledger: Ledger
    log: Log

    @contextmanager
    def generation(self, command: str) -> Iterator[Generation]:
        """Be the only controller, clean up after one that died, and open a generation.

        A generation in which nothing stays changed is not kept.
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
        """See `generation`; for who is the only controller already."""
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
        """Return when all of the undo journal that counts in this boot can be read; else nothing is taken.

        A generation that the disk ``refused`` something must take records again, too.

        Raises:
            Refused: a line cannot be read; it is named.
            JournalFailed: the disk refuses still.
        """
        if refused is not None:
            refused.require_writable()
        for fault in self.journal.faults(read_boot_id(self.kernel)):
            raise Refused(f"no memory is taken, because the undo journal is damaged: {fault}", hint=MEND)

    def require_damon(self, *, take_over: bool) -> None:
        """Refuse before anything is touched when DAMON belongs to somebody else.

        What a dead controller of ours left is cleaned up first, by `generation`, and not held against us.

        Raises:
            Conflict: somebody else uses DAMON.
            Unsupported: no DAMON, or not root.
        """
        if not self.left_in_damon():
            require_free(self.kernel, take_over=take_over)

    def left_in_damon(self) -> list[Entry]:
        """What is still to be given back of this boot's DAMON; an earlier boot's is gone with that boot."""
        return [e for e in self.in_force() if not isinstance(e.record, (*OF_GUESTS, KsmStarted))]

    def ksm_generation(self) -> int | None:
        """The generation that started KSM in this boot, and has not been restored."""
        return next((e.generation for e in self.in_force() if isinstance(e.record, KsmStarted)), None)

    def in_force(self) -> list[Entry]:
        """What is outstanding of this boot."""
        return of_boot(self.journal.outstanding(), read_boot_id(self.kernel))

    def past(self, now: float) -> Past:
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
        """Put on record here what domains gave elsewhere; ``domains`` as just observed.

        Returns:
            Whether the past is another now.
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
        """Keep the journal short while a generation stays open for long, and complete (see `adopt`).

        ``domains`` are as just observed.

        A disk that refuses is told by whoever has something to record. ``at_rest``: nothing is at work.

        Returns:
            Whether the past is another now.
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
        """Remember how an action ended."""
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
        """Remember how actions ended of which nobody told the end, or that one; ``why`` it ended so.

        To be called by the only controller, when none of them is at work.
        """
        for entry in self.journal.begun():
            if action is None or _is_begun(entry, action):
                self.ledger.note(self.interrupted(entry, why))
                self._settle(entry)

    def interrupted(self, entry: Entry, why: str) -> Event:
        """What became of an action that was begun, as far as the host still shows it."""
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
        """What is resident of the domain, and in swap; None: it does not live that life any more."""
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
        """What this run did besides actions, as an event of now."""
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
        """Give back what is left of DAMON: by one that died, for we hold the lock, or failed to.

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
