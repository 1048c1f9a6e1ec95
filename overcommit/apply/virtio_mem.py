"""Resizes one virtio-mem device, and restores its size."""

from __future__ import annotations

from overcommit.apply.context import ApplyContext
from overcommit.apply.resizing import Resizable, grow, shrink
from overcommit.apply.returning import Returned, returned
from overcommit.apply.routines import Routine
from overcommit.clock import Clock
from overcommit.errors import HostError
from overcommit.hypervisor.guest_figures import read_definition
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.action import VirtioMemAction
from overcommit.model.blocks import VirtioMemDevice
from overcommit.model.facts import DomainFacts
from overcommit.model.outcome import Outcome
from overcommit.model.part import MemoryPart
from overcommit.records.journal import MemoryDeviceResized
from overcommit.units import format_size


def resize(context: ApplyContext, action: VirtioMemAction, domain: DomainFacts) -> Routine[Outcome]:
    """Carry out one action on a device. What a guest does raises no error.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    uuid, alias = action.domain.uuid, action.device
    resizable = Resizable(
        part=MemoryPart(action.domain, alias),
        unit_bytes=action.block_bytes,
        size=lambda: _device(context.hypervisor, uuid, alias).current_bytes,
        move=lambda size: context.hypervisor.resize_memory_device(uuid, alias, size),
    )
    return (grow if action.relieves else shrink)(context, action, domain, resizable)


def plug_back(
    hypervisor: Hypervisor, clock: Clock, change: MemoryDeviceResized, lowest: int
) -> Routine[Returned]:
    """Request the size from before ``change``, unless somebody else resized the device since.

    This program's changes can have left any size between that and ``lowest``.

    Raises:
        Gone: the domain no longer runs.
        HostError: the guest takes no more of it.
    """
    uuid, alias, before = change.domain.uuid, change.device, change.before_bytes
    whose = f"{change.part.what} of {change.domain.name}"
    device = _find(hypervisor, uuid, alias)
    if device is None:
        return Returned(f"{whose} is gone: nothing to put back")
    if not lowest <= device.requested_bytes <= before:
        left = format_size(device.requested_bytes)
        return Returned(f"{whose} stays at {left}: somebody else resized it")
    hypervisor.resize_memory_device(uuid, alias, before)
    return (
        yield from returned(
            clock, whose, lambda: _device(hypervisor, uuid, alias).current_bytes, before, tolerance=0
        )
    )


def _find(hypervisor: Hypervisor, uuid: str, alias: str) -> VirtioMemDevice | None:
    return read_definition(hypervisor, uuid).definition.device(alias)


def _device(hypervisor: Hypervisor, uuid: str, alias: str) -> VirtioMemDevice:
    device = _find(hypervisor, uuid, alias)
    if device is None:
        raise HostError(f"domain {uuid} has no virtio-mem device {alias} any more")
    return device
