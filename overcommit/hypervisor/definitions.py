"""Libvirt's persistent definitions. These calls ask libvirtd alone, and no QEMU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from overcommit.hypervisor.port import DefinedDomain


def list_defined(libvirt: Any, connection: Any) -> tuple[DefinedDomain, ...]:
    """See `overcommit.hypervisor.port.Definitions.defined_domains`."""
    found = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    return tuple(sorted(DefinedDomain(d.name(), d.UUIDString(), bool(d.isActive())) for d in found))


def definition_of(libvirt: Any, look_up: Callable[[], Any], *, secrets: bool, transient: bool) -> str | None:
    """The definition for the next start; None where there is no domain, or it is transient.

    ``transient``: for a transient domain, the definition that it was started with.
    """
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | (libvirt.VIR_DOMAIN_XML_SECURE if secrets else 0)
    try:
        domain = look_up()
        return str(domain.XMLDesc(flags)) if transient or domain.isPersistent() else None
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
