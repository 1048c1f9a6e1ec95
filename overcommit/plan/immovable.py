"""Why the memory of a domain cannot be taken: it is pinned, sealed, in huge pages, or elsewhere (rule S6)."""

from __future__ import annotations

from collections.abc import Iterator

from overcommit.model.blocks import HolderKind
from overcommit.model.facts import DomainFacts
from overcommit.model.plan import Verdict, refusal

_PINNING = frozenset({HolderKind.DEVICE, HolderKind.PINNED})


def against_pinned(domain: DomainFacts) -> Iterator[Verdict]:
    """Reasons why guest memory cannot be discarded, or without effect, by any mechanism."""
    pins = [holder.what for holder in domain.holders if holder.kind in _PINNING]
    for pin in (*domain.definition.passthrough, *pins):
        yield refusal(
            f"guest memory is pinned by {pin}",
            "detach the device; while it is attached, QEMU ignores the balloon and pages cannot move",
        )
    yield from missing(domain, "open files", "locked memory")
    yield from against_sealed(domain)


def against_sealed(domain: DomainFacts) -> Iterator[Verdict]:
    """Reasons that no device can remedy.

    VFIO follows virtio-mem's blocks when they are plugged and unplugged.
    """
    definition = domain.definition
    found = (holder.what for holder in domain.holders if holder.kind is HolderKind.ENCRYPTION)
    if encryption := definition.launch_security or next(found, None):
        yield refusal(
            f"the guest is encrypted ({encryption})",
            "no action is possible: the host cannot discard or swap encrypted memory",
        )
    if domain.in_guest_memfd:
        yield refusal(
            "guest memory is in guest_memfd",
            "the kernel cannot swap or move it; it is free again when the guest ends",
        )
    if definition.locked or any(block.locked for block in domain.guest_ram):
        yield refusal(
            "guest memory is locked (<locked/>)" if definition.locked else "guest memory is locked (mlock)",
            "remove <locked/> and power-cycle the domain"
            if definition.locked
            else "QEMU locks it: take mem-lock=on out of its arguments and power-cycle the domain",
        )


def against_elsewhere(domain: DomainFacts) -> Iterator[Verdict]:
    """Reasons where guest RAM is not memory of the host."""
    ram = domain.guest_ram
    if ram and not any(block.in_memory for block in ram):
        yield refusal(
            f"guest memory is {max(ram, key=lambda block: block.size_bytes).describe()}",
            "the kernel writes it back there by itself; for memory that can be taken back, use "
            "<memoryBacking><source type='memfd'/>",
        )


def against_hugepages(domain: DomainFacts) -> Iterator[Verdict]:
    """Reasons where guest RAM was set aside in huge pages."""
    if any(block.huge for block in domain.guest_ram) or (not domain.blocks and domain.definition.hugepages):
        yield refusal(
            "guest memory is in hugetlb pages",
            "use transparent huge pages instead; hugetlb pages cannot be discarded or swapped one by one",
        )


def missing(domain: DomainFacts, *needed: str) -> Iterator[Verdict]:
    """Rule S2: no action that depends on a value that could not be read."""
    for gap in domain.gaps:
        if gap.what in needed:
            yield refusal(f"cannot read its {gap.what}: {gap.why}", "")
