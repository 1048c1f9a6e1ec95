"""A line of text per swap area, for doctor and status."""

from __future__ import annotations

from collections.abc import Iterator

from overcommit.model.facts import HostFacts
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.plan.swap_budget import filled_next
from overcommit.units import format_size


def swap_text(area: SwapArea, host: HostFacts) -> str:
    """One swap area in a line, and whether the kernel fills it next."""
    zswap = host.zswap is not None and host.zswap.enabled and area.on_disk
    following = ", filled next" if area in filled_next(host.swap) else ""
    return (
        f"{area.path} ({area.kind.value}{' behind zswap' if zswap else ''}, priority {area.priority}), "
        f"{format_size(area.used_bytes)} of {format_size(area.size_bytes)} used{following}"
        + "".join(f"; {said}" for said in _device_texts(area))
    )


def _device_texts(area: SwapArea) -> Iterator[str]:
    if area.pool is not None:
        limit = f" of {format_size(area.pool_limit_bytes)} (mem_limit)" if area.pool_limit_bytes else ""
        held = format_size(area.pool.stored_bytes)
        yield f"holds {held} in {format_size(area.pool.used_bytes)}{limit} of memory"
    if area.backing is not None:
        yield (
            f"writes back to {area.backing}: {format_size(area.backing_held_bytes)} stored, "
            f"{format_size(area.backing_written_bytes)} written"
        )
    device = area.device
    if device is not None and area.kind is not SwapKind.ZRAM:
        turns = "rotating" if device.rotational else "not rotating"
        shared = ", the rest of its file system included" if area.kind is SwapKind.FILE else ""
        mean = device.seconds_per_read
        took = f" at {mean * 1000:.3g} ms each" if mean is not None else ""
        yield (
            f"{device.name}, {turns}: {format_size(device.written_bytes)} written and {device.reads} reads"
            f"{took} since it was attached{shared}"
        )
