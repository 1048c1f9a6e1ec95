"""Resize one virtio-mem device, and give it back the size it had."""

from __future__ import annotations

from overcommit.apply.lever import Lever, ascend, descend
from overcommit.apply.steps import Steps
from overcommit.apply.worksite import Worksite
from overcommit.clock import Clock
from overcommit.errors import HostError
from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.hypervisor.port import Hypervisor
from overcommit.journal import MemoryDeviceResized
from overcommit.model.action import VirtioMemAction
from overcommit.model.facts import DomainFacts, VirtioMemDevice
from overcommit.model.outcome import Outcome
from overcommit.units import format_size

_PLUG_SECONDS = 60.0
_POLL_SECONDS = 0.5


def resize(site: Worksite, action: VirtioMemAction, domain: DomainFacts) -> Steps[Outcome]:
    """Carry out one action on a device; never raises for what a guest does.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    uuid, alias = action.domain.uuid, action.device
    lever = Lever(
        name=f"device {alias}",
        unit_bytes=action.block_bytes,
        size=lambda: _device(site.hypervisor, uuid, alias).current_bytes,
        move=lambda size: site.hypervisor.resize_memory_device(uuid, alias, size),
        record=lambda size: MemoryDeviceResized(
            domain=action.domain, device=alias, before_bytes=action.before_bytes, after_bytes=size
        ),
    )
    return (ascend if action.relieves else descend)(site, action, domain, lever)


def plug_back(hypervisor: Hypervisor, clock: Clock, change: MemoryDeviceResized, lowest: int) -> str:
    """Request what was requested before ``change``, unless somebody else resized the device since.

    Our own changes can have left anything between that and ``lowest``.

    Returns:
        What was done.

    Raises:
        Gone: the domain is not running any more.
        HostError: the guest has not taken all of it in time.
    """
    uuid, alias, before = change.domain.uuid, change.device, change.before_bytes
    whose = f"device {alias} of {change.domain.name}"
    device = _find(hypervisor, uuid, alias)
    if device is None:
        return f"{whose} needs nothing: it is gone"
    if not lowest <= device.requested_bytes <= before:
        left = format_size(device.requested_bytes)
        return f"{whose} left at {left}: somebody else resized it since"
    hypervisor.resize_memory_device(uuid, alias, before)
    deadline = clock.monotonic() + _PLUG_SECONDS
    while (device := _device(hypervisor, uuid, alias)).current_bytes < before:
        if clock.monotonic() > deadline:
            raise HostError(
                f"the guest has only taken {format_size(device.current_bytes)} of "
                f"{format_size(before)} back after {_PLUG_SECONDS:.0f} s",
                hint="the size is requested; the guest follows when it can",
            )
        clock.wait(_POLL_SECONDS)
    return f"{whose} back at {format_size(before)}"


def _find(hypervisor: Hypervisor, uuid: str, alias: str) -> VirtioMemDevice | None:
    return parse_definition(hypervisor.xml(uuid)).device(alias)


def _device(hypervisor: Hypervisor, uuid: str, alias: str) -> VirtioMemDevice:
    device = _find(hypervisor, uuid, alias)
    if device is None:
        raise HostError(f"domain {uuid} has no virtio-mem device {alias} any more")
    return device
