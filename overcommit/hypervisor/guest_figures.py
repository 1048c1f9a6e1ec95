"""Bounds on the figures that a guest writes about itself (rule S8).

QEMU computes the size of a balloon from a number that the guest writes (``virtio_balloon_set_config`` and
``virtio_balloon_get_config`` of QEMU 10.0: ``ram_size - (actual << 12)``, which wraps below zero). It passes
on the driver's statistics unchanged. A guest has no more memory than the maximum that it was promised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from overcommit.errors import Implausible
from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.blocks import VirtioMemDevice
from overcommit.model.facts import BalloonStats, Definition, Gap
from overcommit.model.moments import Wall
from overcommit.units import format_size

STATISTICS = "guest statistics"
"""The gap of a guest with implausible statistics."""
MEMORY_DEVICE = "virtio-mem"
"""The gap of a guest with implausible memory devices."""
_SIZES = ("usable_bytes", "unused_bytes", "total_bytes", "cache_bytes")
_COUNTERS = ("swap_in_bytes", "swap_out_bytes", "major_faults")
MOST_COUNTED = (1 << 63) - 1
"""No counter of events or bytes gets this high while a guest runs, and every store has room for it."""
_NAMES = {
    "usable_bytes": "available memory",
    "unused_bytes": "free memory",
    "total_bytes": "memory in all",
    "cache_bytes": "cache",
    "swap_in_bytes": "swapped in",
    "swap_out_bytes": "swapped out",
    "major_faults": "major faults",
}


class CheckedDefinition(NamedTuple):
    """A definition with plausible sizes, and a gap for each implausible one."""

    definition: Definition
    gaps: tuple[Gap, ...]


def read_balloon(hypervisor: Hypervisor, uuid: str, *, now: Wall, most_bytes: int) -> BalloonStats:
    """The balloon of a guest that was promised at most ``most_bytes``. See `Hypervisor.balloon`.

    An implausible figure is None, and named in ``doubts``.

    Raises:
        Gone: the domain no longer runs.
        Implausible: the balloon's size is implausible.
        HostError: libvirt does not tell.
    """
    return checked_balloon(hypervisor.balloon(uuid, now=now), most_bytes=most_bytes)


def checked_balloon(stats: BalloonStats, *, most_bytes: int) -> BalloonStats:
    """The statistics with implausible figures removed. See `read_balloon`.

    Raises:
        Implausible: the balloon's size is implausible.
    """
    if not 0 <= stats.actual_bytes <= most_bytes:
        raise Implausible(
            f"the guest reports {_said(stats.actual_bytes)} as its balloon size, but was promised "
            f"{format_size(most_bytes)}",
            hint="check the guest's balloon driver: it is broken or hostile; nothing is taken from the guest",
        )
    doubts = {
        name: value
        for names, most in ((_SIZES, most_bytes), (_COUNTERS, MOST_COUNTED))
        for name in names
        if (value := getattr(stats, name)) is not None and not 0 <= value <= most
    }
    if not doubts:
        return stats
    unknown: dict[str, Any] = dict.fromkeys(doubts)
    said = tuple(f"{_NAMES[name]}: {_said(value)}" for name, value in doubts.items())
    return dataclasses.replace(stats, **unknown, doubts=said)


def surveyed_balloon(said: BalloonStats, definition: Definition) -> BalloonStats:
    """The statistics of a survey, checked. There the balloon's size includes plugged memory.

    Raises:
        Implausible: the balloon's size is implausible.
    """
    stats = said
    if plugged := definition.plugged_bytes:
        stats = dataclasses.replace(said, actual_bytes=said.actual_bytes - plugged)
    return checked_balloon(stats, most_bytes=definition.maximum_bytes)


def implausible_gap(stats: BalloonStats, most_bytes: int) -> Gap | None:
    """The gap for the ``doubts`` of the statistics; None: there are none."""
    if not stats.doubts:
        return None
    why = f"the guest reports {'; '.join(stats.doubts)}, but was promised {format_size(most_bytes)}"
    return Gap(what=STATISTICS, why=why)


def read_definition(hypervisor: Hypervisor, uuid: str) -> CheckedDefinition:
    """The live definition, with the sizes of its memory devices checked.

    Raises:
        Gone: the domain no longer runs.
        HostError: libvirt does not tell.
        ValueError: it is not a definition.
    """
    return checked_definition(parse_definition(hypervisor.xml(uuid)))


def read_defined(hypervisor: Hypervisor, names: Iterable[str]) -> dict[str, Definition]:
    """The definitions of domains by name, running or not. A domain without a definition is left out.

    Raises:
        HostError: libvirt does not tell.
        Unreadable: one is not a definition.
    """
    found = ((name, hypervisor.defined(name)) for name in names)
    return {name: parse_definition(xml) for name, xml in found if xml is not None}


def checked_definition(definition: Definition) -> CheckedDefinition:
    """The same, with the sizes of each memory device and of the claim within the domain's maximum."""
    most = definition.maximum_bytes
    devices = tuple(_bounded(device, most) for device in definition.virtio_mem)
    gaps = tuple(
        Gap(
            what=MEMORY_DEVICE,
            why=f"device {said.alias} reports impossible sizes: {_said(said.current_bytes)} of "
            f"{_said(said.size_bytes)}, {_said(said.requested_bytes)} requested",
        )
        for said, device in zip(definition.virtio_mem, devices, strict=True)
        if said != device
    )
    claim: Mapping[str, int] = {what: size for what, size in definition.claim.items() if 0 <= size <= most}
    if not gaps and len(claim) == len(definition.claim):
        return CheckedDefinition(definition, ())
    return CheckedDefinition(dataclasses.replace(definition, virtio_mem=devices, claim=claim), gaps)


def _bounded(device: VirtioMemDevice, most: int) -> VirtioMemDevice:
    size = min(max(device.size_bytes, 0), most)
    return dataclasses.replace(
        device,
        size_bytes=size,
        requested_bytes=min(max(device.requested_bytes, 0), size),
        current_bytes=min(max(device.current_bytes, 0), size),
    )


def _said(value: int) -> str:
    """An arbitrary figure in few characters."""
    return str(value) if abs(value) < 1 << 20 else f"about 2^{value.bit_length() - 1}"
