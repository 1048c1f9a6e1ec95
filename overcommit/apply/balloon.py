"""Resizes one balloon."""

from __future__ import annotations

from overcommit.apply.context import ApplyContext
from overcommit.apply.resizing import Resizable, grow, shrink
from overcommit.apply.routines import Routine
from overcommit.hypervisor.guest_figures import read_balloon
from overcommit.model.action import BalloonAction
from overcommit.model.facts import BalloonStats, DomainFacts
from overcommit.model.outcome import Outcome
from overcommit.model.part import MemoryPart
from overcommit.units import MIB


def move_balloon(context: ApplyContext, action: BalloonAction, domain: DomainFacts) -> Routine[Outcome]:
    """Carry out one balloon action. What a guest does raises no error.

    Raises:
        HostError: the journal cannot be written; nothing was changed then.
    """
    uuid, most = action.domain.uuid, domain.definition.maximum_bytes

    def stats() -> BalloonStats:
        return read_balloon(context.hypervisor, uuid, now=context.clock.now(), most_bytes=most)

    resizable = Resizable(
        part=MemoryPart(action.domain),
        unit_bytes=MIB,
        size=lambda: stats().actual_bytes,
        boots=lambda: stats().age_seconds is None,
        move=lambda size: context.hypervisor.set_balloon(uuid, size),
    )
    return (grow if action.relieves else shrink)(context, action, domain, resizable)
