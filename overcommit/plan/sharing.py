"""How domains share the burden of a host that is short.

Idle memory is taxed (C. A. Waldspurger, Memory Resource Management in VMware ESX Server, OSDI 2002, section
5): a page in use costs its domain only ``1 - tax`` of what one costs that it does not use. Each domain's cost
is counted per share, and those whose shares are dearest pay first, until what they keep costs all payers the
same. What counts as idle was measured from the host wherever it could be. So a guest that refuses its
balloon, or says that it needs all it has, pays as much as one that cooperates, if in a dearer way; it is not
rewarded by taking from the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Burden(NamedTuple):
    """What there is to know of one domain, in bytes.

    ``shares`` are its weight times the memory promised to it. ``most_bytes`` can be taken from it, and less
    than ``least_bytes`` is not worth the trouble.
    """

    shares: float
    active_bytes: int
    idle_bytes: int
    most_bytes: int
    least_bytes: int


def share(need: int, burdens: Sequence[Burden], *, tax: float) -> list[tuple[int, int]]:
    """Who pays how much of ``need``: (index, bytes), the dearest first; together ``need`` or all there is.

    Domains whose part would not be worth the trouble pay nothing while the dearer ones can pay for them.
    """
    costs = [((1 - tax) * b.active_bytes + max(b.idle_bytes, b.most_bytes)) / b.shares for b in burdens]
    order = sorted(range(len(burdens)), key=lambda index: (-costs[index], index))
    level = _level(need, [(costs[i], burdens[i].shares, burdens[i].most_bytes) for i in order])
    parts, left = [], need
    for index in order:
        burden = burdens[index]
        fair = max(0.0, (costs[index] - level) * burden.shares)
        part = min(max(math.ceil(fair), burden.least_bytes), burden.most_bytes, left)
        if part > 0:
            parts.append((index, part))
            left -= part
    return _without_remainder(parts, burdens)


def _without_remainder(parts: list[tuple[int, int]], burdens: Sequence[Burden]) -> list[tuple[int, int]]:
    """The last part may be less than is worth the trouble: the dearer ones pay it too, if they can."""
    if not parts or parts[-1][1] >= min(burdens[parts[-1][0]].least_bytes, burdens[parts[-1][0]].most_bytes):
        return parts
    crumb, shared = parts[-1][1], []
    for index, part in parts[:-1]:
        more = min(crumb, burdens[index].most_bytes - part)
        crumb -= more
        shared.append((index, part + more))
    return parts if crumb else shared


def _level(need: int, payers: Sequence[tuple[float, float, int]]) -> float:
    """The cost per share at which the parts of all payers add up to ``need``.

    A payer is its cost, the bytes that lower this by one, and the most it can pay. From the dearest down,
    between two points at which somebody begins or ends to pay, the sum is linear.
    """
    points = []
    for cost, slope, most in payers:
        if most > 0:
            points += [(cost, slope), (cost - most / slope, -slope)]
    points.sort(key=lambda point: -point[0])
    level = points[0][0] if points else 0.0
    taken = slope = 0.0
    for at, change in points:
        if slope > 0 and taken + (level - at) * slope >= need:
            return level - (need - taken) / slope
        taken += (level - at) * slope
        level = at
        slope += change
    return level
