"""Have a domain carry what it had before us.

The journal is of one host and one life of a domain. One that migrates, or is saved and started again, keeps
its small balloon and begins a new life: by this whoever controls it then knows what is the guest's own
(`overcommit.records.adoption`). As long as it stays nothing hangs on it: the journal, written first, has the
way back.
"""

from __future__ import annotations

from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.part import MemoryPart


def write_claim(hypervisor: Hypervisor, part: MemoryPart, size: int) -> None:
    """Write into the domain that this part of its memory had ``size`` bytes before us.

    Raises:
        HostError: the hypervisor refused.
    """
    found = parse_definition(hypervisor.xml(part.domain.uuid)).claim
    if found.get(part.what) != size:
        hypervisor.set_claim(part.domain.uuid, {**found, part.what: size})


def drop(hypervisor: Hypervisor, part: MemoryPart) -> None:
    """Take it out of there: before it is given that size, so that no crash in between leaves it there.

    Raises:
        HostError: the hypervisor refused.
    """
    found = parse_definition(hypervisor.xml(part.domain.uuid)).claim
    if part.what in found:
        others = {other: size for other, size in found.items() if other != part.what}
        hypervisor.set_claim(part.domain.uuid, others)
