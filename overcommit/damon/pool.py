"""This program's slots in DAMON's tree: claimed once for a piece of work, and returned as they were found.

Each step is in the undo journal before it is made. The same code returns the slots after success
(`DamonPool.release`) and after a crash (`undo`).

DAMON's tree has no owner and no lock between tools. Another tool may turn off these kdamonds and set up its
own in slots of the same numbers. So each claimed slot carries a mark, a random number in a file that changes
nothing (`overcommit.damon.sysfs.MARK`). The mark is read before each write to a slot, ``off`` included. A
slot without it belongs to somebody else.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from types import TracebackType

from overcommit.damon import codec
from overcommit.damon.capabilities import Capabilities
from overcommit.damon.owners import ModuleOwner, Owner, enabled_path, find_owners, tool_in
from overcommit.damon.schemes import with_mark, with_pain
from overcommit.damon.sysfs import UNMARKED, DamonSysfs
from overcommit.damon.trace import INSTANCE, AccessTrace
from overcommit.damon.tree import Kdamond
from overcommit.errors import Busy, Conflict, HostError, JournalFailed, OvercommitError, Unsupported
from overcommit.host.kernel import Kernel
from overcommit.model.heat import AccessRegion
from overcommit.records.journal import (
    Entry,
    Generation,
    Journal,
    KdamondStarted,
    ModuleTakenOver,
    PoolClaimed,
    Record,
    TraceOpened,
)
from overcommit.units import counted

_MARKS = 999_999


class DamonPool:
    """A claim on ``size`` slots. Use it as a context manager."""

    def __init__(self, kernel: Kernel, journal: Journal, generation: Generation) -> None:
        self._kernel = kernel
        self._sysfs = DamonSysfs(kernel)
        self._journal = journal
        self._generation = generation
        self._entries: list[Entry] = []
        self._size = self._mark = 0
        self.capabilities = Capabilities(operations=frozenset(), files=frozenset(), keywords={})

    def acquire(self, size: int, *, take_over: bool) -> None:
        """Claim the tree, with ``size`` empty slots.

        Raises:
            Conflict: somebody else uses DAMON; the message names the user, the hint says what to do.
            Unsupported: there is no DAMON.
        """
        for owner in require_free(self._kernel, take_over=take_over):
            if isinstance(owner, ModuleOwner):
                self._record(ModuleTakenOver(module=owner.module, before="Y"))
                self._kernel.write(enabled_path(owner.module), "N")
        mark = UNMARKED + 1 + secrets.randbelow(_MARKS)
        self._record(PoolClaimed(size=size, before=self._sysfs.dump(), mark=mark))
        self._sysfs.set_slots(size)
        self.capabilities = self._sysfs.probe(0, mark=mark)
        self._sysfs.mark(range(size), mark)
        self._size, self._mark = size, mark
        if "fvaddr" not in self.capabilities.operations:
            raise Unsupported(
                "this kernel's DAMON cannot watch the memory of a process",
                hint="boot a kernel with CONFIG_DAMON_VADDR (Debian 13 has it)",
            )

    def holds(self, slot: int) -> bool:
        """Whether the slot is this pool's now."""
        return self._sysfs.slots() == self._size and self._sysfs.marks((slot,)) == (self._mark,)

    def require(self, slots: Sequence[int] = ()) -> None:
        """Check that the pool and these slots are still this pool's.

        Raises:
            Conflict: a slot has another user, who is named.
        """
        count = self._sysfs.slots()
        marks = self._sysfs.marks(slots) if count == self._size else ()
        if count == self._size and all(mark == self._mark for mark in marks):
            return
        for slot, mark in enumerate(self._sysfs.marks(range(count))):
            if mark != self._mark and self._sysfs.running(slot):
                owner = tool_in(self._kernel, self._sysfs, slot)
                raise Conflict(f"another tool has taken DAMON: {owner.what}", hint=owner.hint)
        raise Conflict(
            "another tool has reconfigured DAMON", hint="to see who uses DAMON now: overcommitctl doctor"
        )

    def start(self, slot: int, kdamond: Kdamond) -> None:
        """Configure a slot and turn it on.

        Raises:
            Conflict: the slot is no longer this pool's, or an exclusive DAMON user started meanwhile.
            HostError: the kernel refused the configuration, or a target is gone.
        """
        self.require((slot,))
        kdamond = with_mark(kdamond, self._mark)
        self._sysfs.configure(slot, kdamond, self.capabilities)
        self._record(KdamondStarted(slot=slot, what=what_for(kdamond), fingerprint=_fingerprint(kdamond)))
        try:
            self._sysfs.command(slot, "on")
        except Busy as error:
            raise Conflict(
                "DAMON did not start: another user runs it exclusively",
                hint="to see which: overcommitctl doctor",
            ) from error
        if not self._sysfs.running(slot):
            raise HostError(f"kdamond {slot} ended at once")

    def trace(self, buffer_bytes: int) -> AccessTrace | None:
        """A trace of the windows of all kdamonds of this pool; None where the kernel does not allow one.

        ``buffer_bytes`` is per CPU.
        """
        trace = AccessTrace(self._kernel)
        if not trace.offered:
            return None
        self._record(TraceOpened(path=INSTANCE))
        try:
            trace.open(buffer_bytes)
        except Unsupported:
            trace.close()
            self._journal.settle(self._entries.pop())
            return None
        return trace

    def feed(self, slot: int, present: Kdamond, wanted: Kdamond) -> None:
        """Give a running slot the current values of its goals.

        ``wanted`` differs from ``present`` in those only.

        Raises:
            Conflict: the slot is no longer this pool's.
            HostError: the kernel refused, or the kdamond has ended.
        """
        self.require((slot,))
        self._sysfs.configure(slot, wanted, self.capabilities, present=present)
        self._sysfs.command(slot, "commit_schemes_quota_goals")

    def access_snapshot(self, slot: int) -> tuple[AccessRegion, ...]:
        """See `DamonSysfs.access_snapshot`, which writes a command to the slot.

        Raises:
            Conflict: the slot is no longer this pool's.
            HostError: the kdamond ended, or the kernel refused.
        """
        self.require((slot,))
        return self._sysfs.access_snapshot(slot)

    def stop(self, slot: int) -> None:
        """Turn a slot off. When this returns it is off, and nothing of it is left to undo.

        A slot that is no longer this pool's is left alone: it can only have been set up after it was off.
        """
        if self.holds(slot):
            self._sysfs.stop(slot)
        for entry in [e for e in self._entries if _started(e, slot)]:
            with contextlib.suppress(JournalFailed):  # to stop it once more does no harm
                self._journal.settle(entry)
                self._entries.remove(entry)

    def may_be_on(self, slot: int) -> bool:
        """Whether a kdamond was started in a slot, and not seen to be off since."""
        return any(_started(entry, slot) for entry in self._entries)

    @property
    def sysfs(self) -> DamonSysfs:
        """The tree, for reading the claimed slots."""
        return self._sysfs

    def release(self) -> None:
        """Return everything as it was found, newest step first."""
        undo(self._kernel, self._journal, tuple(reversed(self._entries)))
        self._entries.clear()

    def __enter__(self) -> DamonPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Return everything.

        Raises:
            HostError: something could not be returned. An earlier error is named beside it.
        """
        try:
            self.release()
        except HostError as left:
            if not isinstance(error, OvercommitError):
                raise
            hint = "; then ".join(filter(None, (error.hint, "overcommitctl restore")))
            raise HostError(f"{error}; {left}", hint=hint) from left

    def _record(self, record: Record) -> None:
        self._entries.append(self._generation.record(record))


def require_free(kernel: Kernel, *, take_over: bool) -> tuple[Owner, ...]:
    """The users that may be moved aside; none when DAMON is free.

    Raises:
        Conflict: somebody else uses DAMON, and may not be moved aside.
        Unsupported: there is no DAMON.
    """
    owners = find_owners(kernel, DamonSysfs(kernel))
    for owner in owners:
        if not owner.can_take_over or not take_over:
            raise Conflict(f"DAMON is in use: {owner.what}", hint=owner.hint)
    return owners


def undo(kernel: Kernel, journal: Journal, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Put DAMON back as the entries say (newest first), and settle them in the journal. Idempotent.

    A slot or a pool that is not as this program left it belongs to somebody else, and is left alone.

    Returns:
        A sentence for each thing that was put back.

    Raises:
        HostError: the kernel refused, and this entry and older ones stay outstanding. Or all but a tracing
            instance was put back. Or all was put back, but the disk refused the record of it.
    """
    sysfs = DamonSysfs(kernel)
    said: list[str] = []
    unsettled: HostError | None = None
    for entry in entries:
        match entry.record:
            case KdamondStarted(slot=slot, what=what, fingerprint=fingerprint):
                running = slot < sysfs.slots() and sysfs.running(slot)
                if running and _fingerprint(sysfs.kdamond(slot)) == fingerprint:
                    sysfs.stop(slot)
                    said.append(f"stopped kdamond {slot} ({what})")
            case PoolClaimed(size=size, before=before, mark=mark):
                if _still_ours(sysfs, size, mark) and sysfs.dump() != before:
                    sysfs.load(before)
                    said.append(f"released DAMON ({counted(size, 'kdamond slot')})")
            case TraceOpened():
                try:
                    AccessTrace(kernel).close()
                except HostError as error:  # DAMON can be given back all the same
                    unsettled = error
                    continue
            case ModuleTakenOver(module=module, before=value):
                if _switch_back(kernel, module, value):
                    said.append(f"{module} is on again")
            case _:
                continue
        try:
            journal.settle(entry)
        except HostError as error:
            unsettled = error
    if unsettled is not None:
        raise unsettled
    return tuple(said)


def _still_ours(sysfs: DamonSysfs, size: int, mark: int) -> bool:
    """Whether slots that were claimed with a mark are still this program's, and off.

    A crash may have come before all slots were marked. An unconfigured slot can be removed without loss.
    """
    if sysfs.slots() != size or any(sysfs.running(slot) for slot in range(size)):
        return False
    marks = sysfs.marks(range(size))
    return not mark or all(found == mark or sysfs.blank(slot) for slot, found in enumerate(marks))


def _started(entry: Entry, slot: int) -> bool:
    return isinstance(entry.record, KdamondStarted) and entry.record.slot == slot


def _fingerprint(kdamond: Kdamond) -> str:
    """A digest that identifies this program's kdamond, whatever goal values it got since."""
    return codec.fingerprint(with_pain(kdamond, 0.0))


def what_for(kdamond: Kdamond) -> str:
    """The work of a kdamond, for people."""
    (context,) = kdamond.contexts
    return "physical memory" if context.operations == "paddr" else f"process {context.targets[0].pid}"


def _switch_back(kernel: Kernel, module: str, value: str) -> bool:
    try:
        if kernel.read(enabled_path(module)).strip() == value:
            return False
        kernel.write(enabled_path(module), value)
    except OSError as error:
        raise HostError(
            f"the kernel module {module} cannot be turned on again: {error.strerror}",
            hint="to see who uses DAMON: overcommitctl doctor; then: overcommitctl restore",
        ) from error
    return True
