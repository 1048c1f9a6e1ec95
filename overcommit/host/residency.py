"""How much of a guest's memory is in memory, and how much is in swap."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from overcommit.host.kernel import Kernel
from overcommit.host.smaps import Mapping, parse_smaps
from overcommit.model.blocks import Block, Use
from overcommit.model.facts import Residency
from overcommit.model.ranges import normalise, total_size


def residency_of(
    kernel: Kernel, pid: int, blocks: Sequence[Block], mappings: Sequence[Mapping] | None = None
) -> Residency:
    """Residency by the page map. Shared memory in swap is visible in smaps only (``mappings``, if read).

    See Swap in Documentation/filesystems/proc.rst.

    Raises:
        Gone: the process has exited.
        HostError, OSError: it cannot be read.
    """
    ram = [block for block in blocks if block.use is Use.RAM and block.in_memory]
    huge = [block.span for block in ram if block.huge]
    shared = [block.span for block in ram if block.shared and not block.huge]
    private = [block.span for block in ram if not block.shared and not block.huge]
    found = kernel.residency(pid, private) if private else Residency(resident=(), swapped_bytes=0)
    cached = sum(block.cached_bytes for block in ram)
    if not huge and not shared:
        return dataclasses.replace(found, cached_bytes=cached) if cached else found
    in_huge, in_shared = (kernel.residency(pid, of).resident if of else () for of in (huge, shared))
    swapped = found.swapped_bytes
    if shared:
        text = mappings if mappings is not None else tuple(parse_smaps(kernel.read(f"/proc/{pid}/smaps")))
        swapped += sum(
            mapping.figure("Swap")
            for mapping in text
            if any(span.start <= mapping.span.start and mapping.span.end <= span.end for span in shared)
        )
    resident = normalise((*in_huge, *in_shared, *found.resident))
    return Residency(
        resident=resident,
        swapped_bytes=swapped,
        resident_bytes=total_size(resident),
        huge_bytes=total_size(in_huge),
        cached_bytes=cached,
    )
