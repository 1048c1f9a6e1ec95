"""Changes persistent definitions so that they suit overcommit, and restores them.

The undo records are in a separate journal. A definition outlives boots and controllers. The end of a
controller restores everything else, but must leave definitions as the operator wanted them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from overcommit.apply.restore import Restored
from overcommit.control.naming import nearest
from overcommit.control.one_controller import Control
from overcommit.display import plain
from overcommit.errors import HostError, OvercommitError, UsageError
from overcommit.host.memory import read_boot_id
from overcommit.hypervisor.port import DefinedDomain, Definitions
from overcommit.hypervisor.readiness import Lack, Readiness, readiness
from overcommit.records.journal import DefinitionChanged, Entry, Journal

_JOURNAL = "definitions"
_ADDED_BY_LIBVIRT = ("<address", "<controller", "</controller", "<model", "<target", "<alias")
"""The beginnings of lines that libvirt adds for a new device: its address, and the buses and ports for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A domain, and what its definition lacks. ``gap`` says why that is not known."""

    domain: DefinedDomain
    found: Readiness | None = None
    gap: str | None = None

    def refusal(self, *, anyway: bool) -> str | None:
        """Why nothing is written; None: it can be."""
        if self.found is None:
            return self.gap
        if self.found.manager is not None and self.found.lacks and not anyway:
            return f"{self.found.manager.name} owns its definition"
        return None


def look(definitions: Definitions, words: Sequence[str], *, anyway: bool) -> tuple[Candidate, ...]:
    """What the definitions of these domains lack; of all, where there are no words.

    Raises:
        UsageError: no persistent domain has this name or UUID; the first such word is named.
    """
    defined = definitions.defined_domains()
    return tuple(_look_at(definitions, domain, anyway=anyway) for domain in _meant(defined, words))


def _meant(defined: Sequence[DefinedDomain], words: Sequence[str]) -> Iterator[DefinedDomain]:
    if not words:
        yield from defined
    by_word = {each.name: each for each in defined} | {each.uuid: each for each in defined}
    for word in dict.fromkeys(words):
        if word not in by_word:
            near = nearest(word, [each.name for each in defined])
            raise UsageError(
                f"no domain with a persistent definition is called {word!r}",
                hint=f"did you mean {plain(near)}?" if near else "virsh list --all --persistent",
            )
        yield by_word[word]


def _look_at(definitions: Definitions, domain: DefinedDomain, *, anyway: bool) -> Candidate:
    try:
        xml = definitions.definition(domain.uuid)
        if xml is None:
            return Candidate(domain=domain, gap="it is not defined any more")
        return Candidate(domain=domain, found=readiness(xml, anyway=anyway))
    except HostError as error:
        return Candidate(domain=domain, gap=str(error))


@contextmanager
def _locked(control: Control) -> Iterator[Journal]:
    journal = control.journal.beside(_JOURNAL)
    journal.lock()
    try:
        yield journal
    finally:
        journal.unlock()


def write(
    control: Control, definitions: Definitions, candidates: Sequence[Candidate], *, anyway: bool
) -> dict[str, str | None]:
    """Change the definitions that lack something, each with its undo record on disk first.

    Returns:
        By UUID, for each that was tried: None, or why its definition is not as it should be.

    Raises:
        Conflict: another process is changing definitions.
        JournalFailed: the disk accepts no record; no further definition was changed.
    """
    ended: dict[str, str | None] = {}
    with _locked(control) as journal:
        boot_id = read_boot_id(control.kernel)
        generation = journal.begin("prepare", boot_id=boot_id, started_at=control.clock.now())
        for candidate in candidates:
            uuid = candidate.domain.uuid
            try:
                before = definitions.definition(uuid, secrets=True)
                if before is None:
                    ended[uuid] = "it is not defined any more"
                    continue
                after = readiness(before, anyway=anyway).after
                ended[uuid] = None
                if after == before:
                    continue
                record = DefinitionChanged(uuid=uuid, name=candidate.domain.name, before=before, after=after)
            except HostError as error:
                ended[uuid] = str(error)
                continue
            entry = generation.record(record)
            try:
                definitions.define(after)
                printed = definitions.definition(uuid, secrets=True)
            except HostError as error:
                ended[uuid] = str(error)
                continue
            if printed is not None and printed != after:
                generation.record(
                    DefinitionChanged(uuid=uuid, name=record.name, before=before, after=printed)
                )
                generation.settle(entry)
            ended[uuid] = _not_taken(printed, anyway=anyway)
    return ended


def _not_taken(printed: str | None, *, anyway: bool) -> str | None:
    """What libvirt left out of a change, because it is too old to know it; None: nothing."""
    left: tuple[Lack, ...] = readiness(printed, anyway=anyway).lacks if printed is not None else ()
    return f"libvirt did not take {', '.join(lack.value for lack in left)}" if left else None


def prepared(control: Control) -> tuple[str, ...]:
    """The names of the domains whose former definition is on record, sorted."""
    records = (entry.record for entry in control.journal.beside(_JOURNAL).outstanding())
    return tuple(sorted({record.name for record in records if isinstance(record, DefinitionChanged)}))


def put_back(control: Control, definitions: Definitions, words: Collection[str]) -> Restored:
    """Restore the former definitions, newest change first; all, where there are no words.

    A definition that somebody changed since is kept, with a sentence about it.

    Raises:
        Conflict: another process is changing definitions.
        UsageError: no former definition of this domain is on record.
    """
    done, left = [], []
    with _locked(control) as journal:
        changes = [
            (entry, entry.record)
            for entry in journal.outstanding()
            if isinstance(entry.record, DefinitionChanged)
        ]
        for word in words:
            if not any(word in {record.name, record.uuid} for _, record in changes):
                raise UsageError(f"no former definition of {word!r} is on record")
        for entry, record in changes:
            if words and not {record.name, record.uuid} & set(words):
                continue
            try:
                done.append(_put_back(journal, definitions, entry, record))
            except OvercommitError as error:
                left.append(f"the definition of {record.name}: {error}")
        left += [str(fault) for fault in journal.faults()]
    return Restored(done=tuple(done), left=tuple(left))


def _put_back(journal: Journal, definitions: Definitions, entry: Entry, record: DefinitionChanged) -> str:
    whose = f"the definition of {record.name}"
    now = definitions.definition(record.uuid, secrets=True)
    said = f"{whose} is as it was before prepare. It takes effect at the next power cycle"
    if now is None:
        said = f"{record.name} is not defined any more: nothing to put back"
    elif now == record.before:
        said = f"{whose} is as it was before prepare"
    elif not _is_ours(now, record):
        said = f"{whose} is left as it is: somebody changed it since prepare"
    else:
        definitions.define(record.before)
        if definitions.definition(record.uuid, secrets=True) != record.before:
            raise HostError("libvirt does not print it as it was")
    journal.settle(entry)
    return said


def _is_ours(now: str, record: DefinitionChanged) -> bool:
    """Whether the definition is as this program left it.

    After a crash, libvirt's additions may not be on record.
    """
    if now == record.after:
        return True
    lines = iter(record.after.splitlines())
    expected = next(lines, None)
    for line in now.splitlines():
        if line == expected:
            expected = next(lines, None)
        elif not line.lstrip().startswith(_ADDED_BY_LIBVIRT):
            return False
    return expected is None
