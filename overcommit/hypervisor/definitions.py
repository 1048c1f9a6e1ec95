"""Libvirt's persistent definitions. These calls ask libvirtd alone, and no QEMU."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from overcommit.hypervisor.port import DefinedDomain


def list_defined(libvirt: Any, connection: Any) -> tuple[DefinedDomain, ...]:
    """See `overcommit.hypervisor.port.Definitions.defined_domains`."""
    found = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    return tuple(sorted(DefinedDomain(d.name(), d.UUIDString(), bool(d.isActive())) for d in found))


class Wanted(enum.Enum):
    """Which definition is wanted, and with what in it."""

    NEXT_START = enum.auto()
    """For the next start, as everybody may see it. A transient domain has none."""
    NEXT_START_WITH_SECRETS = enum.auto()
    """The same, with the passwords that are in it, so that it can be defined again."""
    STARTED_WITH = enum.auto()
    """For the next start; of a transient domain, the definition that it was started with."""


def definition_of(libvirt: Any, look_up: Callable[[], Any], wanted: Wanted) -> str | None:
    """The definition; None where there is no domain, or it has none."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE
    if wanted is Wanted.NEXT_START_WITH_SECRETS:
        flags |= libvirt.VIR_DOMAIN_XML_SECURE
    try:
        domain = look_up()
        has_one = wanted is Wanted.STARTED_WITH or domain.isPersistent()
        return str(domain.XMLDesc(flags)) if has_one else None
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
