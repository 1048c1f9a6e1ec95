"""What a domain may feel of reclaim: the bounds of its class in figures that can be measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from overcommit.units import PAGE_SIZE

LEAST_PAGES_PER_MINUTE = 64
"""Always allowed. Of a working set of 8 MiB, 0.2 % a minute is 4 pages: less than what one fault reads where
swap reads ahead by 8. What so few cost (1 % of the time on a disk of 10 ms) is for the bound on stall to
judge.
"""
COMFORT = 0.5
"""Below that share of the bounds more may be taken: pain comes later than the cause of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PainBounds:
    """What a domain may feel: PSI some as a share of time, and pages read back from swap per minute."""

    psi_some: float
    promoted_pages_per_minute: float

    @classmethod
    def of(cls, psi_some: float, promotions_per_minute: float, working_set_bytes: int) -> PainBounds:
        """From shares of time and of a working set."""
        pages = promotions_per_minute * working_set_bytes / PAGE_SIZE
        return cls(psi_some=psi_some, promoted_pages_per_minute=max(pages, LEAST_PAGES_PER_MINUTE))


def pain_of(value: float, bound: float) -> float:
    """A figure as a share of its bound: 1 is the bound, and anything at all is too much where it is 0."""
    if value <= 0.0:
        return 0.0
    return value / bound if bound > 0 else math.inf
