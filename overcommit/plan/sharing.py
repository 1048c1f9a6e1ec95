"""How domains share the amount that a short host needs.

Idle memory is taxed (C. A. Waldspurger, Memory Resource Management in VMware ESX Server, OSDI 2002, section
5): a page in use costs its domain only ``1 - tax`` of an idle page. Each domain's cost is counted per share.
Domains with the highest cost per share give first, until the remaining cost per share of all givers is equal.
Idle memory is measured from the host where possible. So a guest that refuses its balloon, or says that it
needs all of its memory, gives as much as one that cooperates, by a more expensive mechanism. It gains nothing
at the others' expense.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Burden(NamedTuple):
    """The figures of one domain, in bytes.

    ``shares`` is its weight times the memory promised to it. At most ``most_bytes`` can be taken from it;
    less than ``least_bytes`` is not worth an action.
    """

    shares: float
    active_bytes: int
    idle_bytes: int
    most_bytes: int
    least_bytes: int


def share(need: int, burdens: Sequence[Burden], *, tax: float) -> list[tuple[int, int]]:
    """The domains that give ``need`` bytes: (index, bytes), highest cost per share first.

    The sum is ``need``, or all there is.

    A domain whose part is too small for an action gives nothing, while others with a higher cost can give it.
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
    """The parts without a last part that is too small: the others give it too, if they can."""
    if not parts or parts[-1][1] >= min(burdens[parts[-1][0]].least_bytes, burdens[parts[-1][0]].most_bytes):
        return parts
    crumb, shared = parts[-1][1], []
    for index, part in parts[:-1]:
        more = min(crumb, burdens[index].most_bytes - part)
        crumb -= more
        shared.append((index, part + more))
    return parts if crumb else shared


def _level(need: int, payers: Sequence[tuple[float, float, int]]) -> float:
    """The cost per share at which the parts of all givers add up to ``need``.

    A payer is its cost, the bytes that lower its cost by one, and the most that it can give. Between two
    points at which a payer starts or stops to give, the sum is linear.
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
