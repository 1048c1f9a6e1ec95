"""How often Python looks for garbage in cycles: the less often, the more domains there are.

A tick makes dozens of objects for each domain, and nearly all are freed as they are replaced, by their
reference counts. The collector goes through them all the same, once for each 700 more of them: with
thousands of domains that is a third of a tick, for next to no garbage.
"""

from __future__ import annotations

import gc

_USUAL = 700
"""Python's own (gc.get_threshold of 3.11): few domains are collected for as in any program."""
_OF_A_DOMAIN = 50
"""About what is there at once of one, more than before: the regions of its latest windows."""


def collect_for(domains: int) -> None:
    """Have the youngest objects looked through when there are so many more of them than at the last time.

    Garbage that waits is bounded by the same number, and so by what the domains take anyway.
    """
    wanted, (present, *others) = max(_USUAL, _OF_A_DOMAIN * domains), gc.get_threshold()
    if wanted != present:
        gc.set_threshold(wanted, *others)
