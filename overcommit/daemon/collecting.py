"""How often Python searches for reference cycles: the more domains, the less often.

A tick makes dozens of objects per domain. Nearly all are freed by their reference counts when they are
replaced. The collector visits them all the same, once per 700 new objects. With thousands of domains that
takes a third of a tick, and finds almost nothing.
"""

from __future__ import annotations

import gc

_USUAL = 700
"""Python's default (gc.get_threshold of 3.11), which is kept for few domains."""
_OF_A_DOMAIN = 50
"""Objects of one domain that are alive at once, an upper estimate: the regions of its latest windows."""


def collect_for(domains: int) -> None:
    """Set the number of new objects after which the youngest are collected.

    Uncollected objects are bounded by the same number, and so by the memory that the domains need anyway.
    """
    wanted, (present, *others) = max(_USUAL, _OF_A_DOMAIN * domains), gc.get_threshold()
    if wanted != present:
        gc.set_threshold(wanted, *others)
