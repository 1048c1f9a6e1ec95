"""Tunes the sampling interval by the kernel's rule, for kernels that do not tune it. Pure.

A monitor should see 4 % of the most access that it could see
(Documentation/mm/damon/monitoring_intervals_tuning_example.rst). With more, samples are wasted on memory
known to be hot; with less, everything looks idle.
"""

from __future__ import annotations

from collections.abc import Sequence

from overcommit.model.heat import AccessRegion

ACCESS_RATIO = 0.04
AGGREGATIONS = 3
"""The number of windows that a ratio is computed over."""
_WORTH_IT = 1.5
"""A change by less than this factor does not justify a restart of the monitor."""


def access_ratio(windows: Sequence[Sequence[AccessRegion]], samples: int) -> float:
    """The share of the most access that could be seen which was seen: bytes times hits over all samples."""
    most = sum((r.end - r.start) * samples for regions in windows for r in regions)
    seen = sum((r.end - r.start) * min(r.accesses, samples) for regions in windows for r in regions)
    return seen / most if most else 0.0


def tuned(sample_seconds: float, ratio: float, *, shortest: float, longest: float) -> float:
    """The next sampling interval in seconds: at most doubled or halved, within the bounds.

    See kdamond_tune_intervals and damon_feed_loop_next_input in mm/damon/core.c (Linux 6.15). A small change
    is not made.
    """
    score = ratio / ACCESS_RATIO
    factor = 2 - score if score <= 1 else 0.5 + max(0.0, 2 - score) / 2
    wanted = min(max(sample_seconds * factor, shortest), longest)
    change = max(wanted / sample_seconds, sample_seconds / wanted)
    return wanted if change >= _WORTH_IT else sample_seconds
