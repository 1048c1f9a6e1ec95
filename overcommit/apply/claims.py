"""Stores in a domain's metadata the sizes that it had before this program changed them (its claim).

The journal is of one host and one incarnation of a domain. A domain that migrates, or is saved and started
again, keeps its small balloon and gets a new incarnation. The claim then tells its controller what belongs to
the guest (`overcommit.records.adoption`). While the domain stays, the claim is not needed: the journal,
written first, has the original sizes.
"""

from __future__ import annotations

from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.part import MemoryPart


def write_claim(hypervisor: Hypervisor, part: MemoryPart, size: int) -> None:
    """Write into the domain's metadata that this part of its memory had ``size`` bytes.

    Raises:
        HostError: the hypervisor refused.
    """
    found = parse_definition(hypervisor.xml(part.domain.uuid)).claim
    if found.get(part.what) != size:
        hypervisor.set_claim(part.domain.uuid, {**found, part.what: size})


def drop(hypervisor: Hypervisor, part: MemoryPart) -> None:
    """Remove the claim of this part.

    It is removed before the size is restored, so that no crash leaves it there.

    Raises:
        HostError: the hypervisor refused.
    """
    found = parse_definition(hypervisor.xml(part.domain.uuid)).claim
    if part.what in found:
        others = {other: size for other, size in found.items() if other != part.what}
        hypervisor.set_claim(part.domain.uuid, others)
