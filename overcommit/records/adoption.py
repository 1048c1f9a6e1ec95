"""What domains brought along that the undo journal of this host does not have yet. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from overcommit.model.facts import DomainFacts
from overcommit.records.journal import BalloonMoved, Entry, GuestRecord, MemoryDeviceResized
from overcommit.units import MIB


def adoption(domains: Sequence[DomainFacts], outstanding: Sequence[Entry]) -> Iterator[GuestRecord]:
    """The records that are missing: of what a domain gave on another host, or before it was saved.

    Its own claim says what it had, and what it has now was just observed. With the record it is as if it had
    given that here: it can have it back when it is short, and restore brings it back.
    """
    known = {
        (entry.record.domain, entry.record.what)
        for entry in outstanding
        if isinstance(entry.record, GuestRecord)
    }
    for domain in domains:
        for size in _sizes(domain):
            had = domain.definition.claim.get(size.what)
            if had is None or had > domain.definition.maximum_bytes or (size.domain, size.what) in known:
                continue
            if size.after_bytes > had + MIB:
                continue
            most = had
            if isinstance(size, BalloonMoved) and size.after_bytes > had - MIB:
                # It has it all, but nobody knows what it was told to give, and may give yet: whatever it
                # comes down to is not somebody else's doing, and as little as counts is on record for now.
                yield dataclasses.replace(size, before_bytes=had, after_bytes=0)
                most = had - MIB
            if (left := min(size.after_bytes, most)) < had:
                yield dataclasses.replace(size, before_bytes=had, after_bytes=left)


def _sizes(domain: DomainFacts) -> Iterator[GuestRecord]:
    """What it has, as records of no change."""
    who = domain.incarnation
    if domain.balloon is not None:
        size = domain.balloon.actual_bytes
        yield BalloonMoved(domain=who, before_bytes=size, after_bytes=size)
    for device in domain.definition.virtio_mem:
        size = device.requested_bytes
        yield MemoryDeviceResized(domain=who, device=device.alias, before_bytes=size, after_bytes=size)
