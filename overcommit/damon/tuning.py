"""How often to sample: the kernel's rule for kernels that do not follow it themselves. Pure.

Documentation/mm/damon/monitoring_intervals_tuning_example.rst: a monitor should see 4 % of the most access
that it could see. More wastes samples on what is known to be hot, less finds nothing but idleness.
"""

from __future__ import annotations

from collections.abc import Sequence

from overcommit.model.heat import AccessRegion

ACCESS_RATIO = 0.04
AGGREGATIONS = 3
"""Over so many windows a ratio is judged."""
_WORTH_IT = 1.5
"""A change by less than this factor is not worth starting a monitor anew."""


def access_ratio(windows: Sequence[Sequence[AccessRegion]], samples: int) -> float:
    """The share of the most access that could be seen which was: bytes times hits over all samples."""
    most = sum((r.end - r.start) * samples for regions in windows for r in regions)
    seen = sum((r.end - r.start) * min(r.accesses, samples) for regions in windows for r in regions)
    return seen / most if most else 0.0


def tuned(sample_seconds: float, ratio: float, *, shortest: float, longest: float) -> float:
    """The next sampling interval: up to twice as long or half as long, within the bounds.

    kdamond_tune_intervals and damon_feed_loop_next_input, mm/damon/core.c (Linux 6.15). Where the change
    would be small the interval stays.
    """
    score = ratio / ACCESS_RATIO
    factor = 2 - score if score <= 1 else 0.5 + max(0.0, 2 - score) / 2
    wanted = min(max(sample_seconds * factor, shortest), longest)
    change = max(wanted / sample_seconds, sample_seconds / wanted)
    return wanted if change >= _WORTH_IT else sample_seconds
