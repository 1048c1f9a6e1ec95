"""virtio-mem: memory that the guest can spare, in whole blocks of its devices."""

from __future__ import annotations

from collections.abc import Iterator

from overcommit.model.action import VirtioMemAction
from overcommit.model.blocks import VirtioMemDevice
from overcommit.model.facts import BalloonStats, DomainFacts
from overcommit.model.ranges import intersect, total_size
from overcommit.plan.case import (
    Case,
    cache_text,
    guest_bytes,
    hot_bytes,
    kept_bytes,
    used_bytes,
    worthwhile,
)
from overcommit.units import counted, format_size


def unplug(case: Case, stats: BalloonStats, resident: int, *, reported: int = 0) -> Iterator[VirtioMemAction]:
    """The actions that leave the guest what it keeps, from the device with most plugged memory first.

    A device is left alone if its blocks bring the host too little, or if it is still being resized.
    ``reported`` bytes of the guest's free memory are reported before; all of them may lie in the blocks.
    """
    definition, bounds = case.domain.definition, case.bounds
    size, used = guest_bytes(definition, stats) - definition.leaving_bytes, used_bytes(definition, stats)
    least, hot = kept_bytes(case, stats), hot_bytes(case)
    # Two bounds of the gain are certain. No more than the new size can be resident afterwards. And what lies
    # in the blocks is freed, except what the guest has allocated, which it may move.
    above = min(resident, size) - size
    lying = min(stats.unused_bytes or 0, size) - size - reported
    claimed = 0
    huge = {block.alias for block in case.domain.guest_ram if block.huge}
    ready = (d for d in definition.virtio_mem if d.resized and d.block_bytes and d.alias not in huge)
    for device in sorted(ready, key=lambda device: (-device.current_bytes, device.alias)):
        blocks = max(0, min(size - least, device.current_bytes)) // device.block_bytes
        taken = blocks * device.block_bytes
        inside = min(taken, max(0, _held(case.domain, device) - (device.current_bytes - taken)))
        sure = min(max(above + taken, lying + inside), resident - bounds.floor_bytes)
        if sure - claimed < worthwhile(bounds.ceiling_bytes):
            continue
        size -= taken
        yield VirtioMemAction(
            id="",
            domain=case.domain.incarnation,
            device=device.alias,
            block_bytes=device.block_bytes,
            before_bytes=device.current_bytes,
            after_bytes=device.current_bytes - taken,
            expected_bytes=sure - claimed,
            reason="guest_can_spare",
            because=f"the guest uses {format_size(used)} of {format_size(size + taken)} and can give "
            f"{counted(blocks, 'block')} of {format_size(device.block_bytes)} in its device "
            f"{device.alias}"
            f"{cache_text(case, stats)}",
            risk=f"the guest keeps {format_size(size - used)} above its use"
            + (f"; {format_size(hot)} is hot" if hot > used else "")
            + f" (floor {format_size(bounds.floor_bytes)})",
        )
        above, lying, claimed = above + taken, lying + inside, sure


def _held(domain: DomainFacts, device: VirtioMemDevice) -> int:
    """Resident bytes of a device, a lower bound: the least among the blocks that may be the device's."""
    if domain.residency is None:
        return 0
    of_size = [block for block in domain.guest_ram if block.size_bytes == device.size_bytes]
    own = next((block for block in of_size if block.alias == device.alias), None)
    if own is not None and own.named:
        of_size = [own]
    elif own is not None:
        of_size = [block for block in of_size if block.backing is own.backing]
    resident = domain.residency.resident
    return min((total_size(intersect(resident, [block.span])) for block in of_size), default=0)
