"""What a controller has learned from one tick to the next, for the plans that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from overcommit.model.facts import Incarnation
from overcommit.model.restraint import Restraint
from overcommit.plan.swap_budget import SwapVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """How what was taken so far has worked out.

    Args:
        restraints: the present limits on domains, by their SLO. None applies in an emergency.
        pains: why guests are under pressure, in words. Such a guest gives nothing, and gets back what its
            balloon or blocks gave, as far as the host has room.
        swap: what page-outs may do; None: as much as the snapshot has room for.
        emergency: see `overcommit.plan.emergency`.
    """

    restraints: Mapping[Incarnation, Restraint] = field(default_factory=dict)
    pains: Mapping[Incarnation, str] = field(default_factory=dict)
    swap: SwapVerdict | None = None
    emergency: bool = False


NO_FEEDBACK = Feedback()
"""For a plan of somebody who has not followed the domains."""
