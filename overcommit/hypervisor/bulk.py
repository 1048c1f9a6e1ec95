"""Statistics of all domains in one libvirt call (virConnectGetAllDomainStats).

With NOWAIT a domain whose job somebody else holds has no guest figures, and the call does not wait for it. A
QEMU that hangs while it is asked still delays the call. It holds its job from then on, so the next call
leaves it out. A driver without this call (QEMU's has it) is asked about each domain by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from overcommit.model.facts import RunState

_NO_SUPPORT, _ARGUMENT_UNSUPPORTED = 3, 74
"""VIR_ERR_NO_SUPPORT; VIR_ERR_ARGUMENT_UNSUPPORTED: this libvirtd does not know a flag."""
_DISKS = "block.count"
_MAXIMUM, _CURRENT = "balloon.maximum", "balloon.current"
_ASKED = ("balloon.last-update", "balloon.rss")
"""Figures that are present only if QEMU was asked."""


class DomainStats(NamedTuple):
    """Statistics of one domain.

    ``figures`` has the names of `virDomainMemoryStats` (KiB); None where QEMU was not asked. ``read_bytes``
    is the sum over its disks; None likewise.
    """

    name: str
    uuid: str
    state: RunState
    maximum_kib: int
    figures: Mapping[str, int] | None
    read_bytes: int | None = None


def state_of(number: int) -> RunState:
    """The run state of a virDomainState."""
    return {1: RunState.RUNNING, 3: RunState.PAUSED}.get(number, RunState.OTHER)


def ask_all(libvirt: Any, connection: Any) -> list[DomainStats]:
    """The statistics of all active domains.

    Raises:
        libvirtError: libvirtd refused.
    """
    what = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_BLOCK
    active = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    try:
        records = connection.getAllDomainStats(
            what, active | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() not in {_NO_SUPPORT, _ARGUMENT_UNSUPPORTED}:
            raise
        listed = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        records = [(domain, {}) for domain in listed]
    told = []
    for domain, values in records:
        try:
            told.append(_told(domain, values if _MAXIMUM in values else _alone(libvirt, domain)))
        except libvirt.libvirtError:
            continue  # it left meanwhile
    return told


def _told(domain: Any, values: Mapping[str, Any]) -> DomainStats:
    state = state_of(values["state.state"])
    figures = None
    if state is RunState.RUNNING and _CURRENT in values and any(key in values for key in _ASKED):
        figures = {
            key.removeprefix("balloon.").replace("-", "_"): value
            for key, value in values.items()
            if key.startswith("balloon.")
        }
        figures["actual"] = figures.pop("current")
    read = _read_bytes(values) if figures is not None else None
    return DomainStats(domain.name(), domain.UUIDString(), state, values[_MAXIMUM], figures, read)


def _read_bytes(values: Mapping[str, Any]) -> int | None:
    disks = values.get(_DISKS)
    read = [values.get(f"block.{number}.rd.bytes") for number in range(disks or 0)]
    return None if disks is None else sum(each for each in read if each is not None)


def _alone(libvirt: Any, domain: Any) -> dict[str, Any]:
    """The statistics of one domain, for a driver without the call for all."""
    values = {"state.state": domain.state()[0], _MAXIMUM: domain.maxMemory()}
    try:
        figures = domain.memoryStats()
    except libvirt.libvirtError:
        return values
    named = {"actual": "current", "last_update": "last-update"}
    return values | {f"balloon.{named.get(key, key)}": value for key, value in figures.items()}
