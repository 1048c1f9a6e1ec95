"""Changes that domains brought from elsewhere, and that are not in the undo journal of this host yet.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from overcommit.model.facts import DomainFacts
from overcommit.model.part import parts_of
from overcommit.records.journal import Entry, GuestRecord, resized
from overcommit.units import MIB


def adoption(domains: Sequence[DomainFacts], outstanding: Sequence[Entry]) -> Iterator[GuestRecord]:
    """The missing records: of what a domain gave on another host, or before it was saved.

    The domain's claim has its original sizes, and its present sizes were just observed. With the record, the
    memory can be given back, as if it had been taken here.
    """
    known = {entry.record.part for entry in outstanding if isinstance(entry.record, GuestRecord)}
    for domain in domains:
        for part, size in parts_of(domain):
            had = domain.definition.claim.get(part.what)
            if had is None or had > domain.definition.maximum_bytes or part in known:
                continue
            if size > had + MIB:
                continue
            most = had
            if part.device is None and size > had - MIB:
                # It has it all, but nobody knows what it was told to give, and may give yet: whatever it
                # comes down to is not somebody else's doing, and as little as counts is on record for now.
                yield resized(part, before_bytes=had, after_bytes=0)
                most = had - MIB
            if (left := min(size, most)) < had:
                yield resized(part, before_bytes=had, after_bytes=left)
