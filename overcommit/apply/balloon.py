"""Move one balloon."""

from __future__ import annotations

from overcommit.apply.lever import Lever, ascend, descend
from overcommit.apply.steps import Steps
from overcommit.apply.worksite import Worksite
from overcommit.hypervisor.guest_figures import read_balloon
from overcommit.model.action import BalloonAction
from overcommit.model.facts import BalloonStats, DomainFacts
from overcommit.model.outcome import Outcome
from overcommit.model.part import MemoryPart
from overcommit.units import MIB


def move_balloon(site: Worksite, action: BalloonAction, domain: DomainFacts) -> Steps[Outcome]:
    """Carry out one balloon action; never raises for what a guest does.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    uuid, most = action.domain.uuid, domain.definition.maximum_bytes

    def stats() -> BalloonStats:
        return read_balloon(site.hypervisor, uuid, now=site.clock.now(), most_bytes=most)

    lever = Lever(
        part=MemoryPart(action.domain),
        unit_bytes=MIB,
        size=lambda: stats().actual_bytes,
        boots=lambda: stats().age_seconds is None,
        move=lambda size: site.hypervisor.set_balloon(uuid, size),
    )
    return (ascend if action.relieves else descend)(site, action, domain, lever)
