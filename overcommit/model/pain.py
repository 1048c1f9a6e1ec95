"""The SLO bounds of a domain's class, in figures that can be measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from overcommit.units import PAGE_SIZE

LEAST_PAGES_PER_MINUTE = 64
"""Promotions per minute that are always allowed. Of a working set of 8 MiB, 0.2 % a minute is 4 pages, which
is less than one fault reads where swap reads ahead by 8. The stall that they cause (1 % of the time on a disk
of 10 ms) is bounded by PSI.
"""
COMFORT = 0.5
"""Below this share of the bounds more may be taken. The margin is needed because pressure shows later than
its cause.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PainBounds:
    """A domain's SLO bounds: PSI some as a share of time, and pages read back from swap per minute."""

    psi_some: float
    promoted_pages_per_minute: float

    @classmethod
    def of(cls, psi_some: float, promotions_per_minute: float, working_set_bytes: int) -> PainBounds:
        """The bounds from shares of time and of a working set."""
        pages = promotions_per_minute * working_set_bytes / PAGE_SIZE
        return cls(psi_some=psi_some, promoted_pages_per_minute=max(pages, LEAST_PAGES_PER_MINUTE))


def pain_of(value: float, bound: float) -> float:
    """A figure as a share of its bound. 1 is the bound. Where the bound is 0, any value is above it."""
    if value <= 0.0:
        return 0.0
    return value / bound if bound > 0 else math.inf
