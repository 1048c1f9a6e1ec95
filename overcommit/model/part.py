"""A part of a domain's memory that can be resized: its balloon, or a virtio-mem device. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from overcommit.model.facts import DomainFacts, Incarnation


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """The key of a part, the same in the journal, claims, plans and restore.

    ``device`` is the alias of a virtio-mem device; None: the balloon.
    """

    domain: Incarnation
    device: str | None = None

    @property
    def what(self) -> str:
        """Its name within the domain, for people and in the domain's metadata."""
        return "balloon" if self.device is None else f"device {self.device}"


def parts_of(domain: DomainFacts) -> Iterator[tuple[MemoryPart, int]]:
    """The parts of a domain with their sizes in bytes. A balloon that could not be read is left out.

    The size of a balloon is what the guest has; the size of a device is what is requested of it.
    """
    if domain.balloon is not None:
        yield MemoryPart(domain.incarnation), domain.balloon.actual_bytes
    for device in domain.definition.virtio_mem:
        yield MemoryPart(domain.incarnation, device.alias), device.requested_bytes
