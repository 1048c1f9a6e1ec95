"""Programs that own the definitions of their domains, how to recognise them, and what to set in each.

Pure.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import NamedTuple


class Manager(NamedTuple):
    """A program that writes a domain's definition, and what an operator sets in it instead of in libvirt."""

    name: str
    advice: str


_NOVA = Manager(
    "OpenStack Nova",
    "Nova writes the definition again at each hard reboot. Nova 2025.2 and later switch reporting and "
    "autodeflate on themselves. Set mem_stats_period_seconds in the [libvirt] section of nova.conf, and the "
    "image property hw_qemu_guest_agent=yes. Then hard-reboot the instance",
)
_OVIRT = Manager(
    "oVirt",
    "The engine writes the definition again at each start. Enable the memory balloon of the VM in the engine "
    "(Resource Allocation). A VDSM hook before_vm_start can set freePageReporting='on'",
)
_KUBEVIRT = Manager(
    "KubeVirt",
    "KubeVirt writes the definition again at each start, with reporting on. Remove disableFreePageReporting "
    "from spec.configuration.virtualMachineOptions of the KubeVirt resource, and autoattachMemBalloon: false "
    "from the VM",
)
_CLOUDSTACK = Manager(
    "Apache CloudStack",
    "CloudStack writes the definition again at each start. In /etc/cloudstack/agent/agent.properties set "
    "vm.memballoon.disable=false and vm.memballoon.stats.period=5. Restart cloudstack-agent, then stop and "
    "start the instance",
)
_OPENNEBULA = Manager(
    "OpenNebula",
    "OpenNebula writes the definition again at each deployment. In the VM template set FEATURES = [ "
    'GUEST_AGENT = "yes" ] and put the memballoon element into RAW = [ TYPE = "kvm", DATA = "..." ]',
)
_UNRAID = Manager(
    "Unraid", "Unraid writes the definition again when its form is saved. Edit the VM there, in the XML view"
)
_BY_NAMESPACE = {
    "http://openstack.org/xmlns/libvirt/nova/": _NOVA,
    "http://ovirt.org/vm/": _OVIRT,
    "http://kubevirt.io": _KUBEVIRT,
    "http://opennebula.org/xmlns/libvirt/": _OPENNEBULA,
    "unraid": _UNRAID,
    "http://unraid": _UNRAID,
}
"""Managers by the namespace of a child of ``<metadata>``. Libosinfo's and Cockpit's belong to no manager."""
_BY_NAME = {r"i-\d+-\d+-VM": _CLOUDSTACK, r"[rsv]-\d+-VM": _CLOUDSTACK, r"one-\d+": _OPENNEBULA}
_BY_PRODUCT = {
    "OpenStack Nova": _NOVA,
    "OpenStack Compute": _NOVA,
    "CloudStack KVM Hypervisor": _CLOUDSTACK,
    "KubeVirt": _KUBEVIRT,
}
"""Managers by the product in ``<sysinfo>``."""


def manager_of(root: ET.Element) -> Manager | None:
    """The program that owns the definition; None: the operator, as far as the definition tells."""
    for child in root.findall("./metadata/*"):
        namespace = child.tag.removeprefix("{").partition("}")[0]
        for known, manager in _BY_NAMESPACE.items():
            if namespace.startswith(known):
                return manager
    for entry in root.findall("./sysinfo/system/entry"):
        if entry.get("name") in {"product", "family"} and (entry.text or "").strip() in _BY_PRODUCT:
            return _BY_PRODUCT[(entry.text or "").strip()]
    name = root.findtext("./name", "")
    return next((manager for known, manager in _BY_NAME.items() if re.fullmatch(known, name)), None)
