"""The rate of a page-out: as fast as the domain's SLO allows. Pure.

Additive increase, multiplicative decrease. While the domain is comfortable the rate rises by a step each
second. While it exceeds its SLO the rate halves. Between the two the rate stays; from 0 it starts again at
its slowest, otherwise a guest that always reads a little back would stop it for ever. Once the SLO was
exceeded the step is a quarter as large: a page is missed seconds after it was taken, and the rate rises until
then. The rate stays between 0 and the policy's bound, so its swings are bounded. It rises from its present
value, so a bad moment has no lasting effect.

The **pressure** on the domain (``pain`` in the code) is the larger of two figures, each as a share of what
the domain's class allows (1 is the bound):

- *Stall*: PSI some of the domain's cgroup in the last ten seconds. A shorter time gives no meaningful share.
- *Promotions*: the domain's pages that came back from swap in the last minute, against ``slo.promotions`` of
  its working set. The figure is defined per minute (Google's far memory) and is measured over one.
  Extrapolated from a second, a single page would be 60 a minute, and 0.2 % of a working set of 64 MiB are 33.
  So a burst counts once, at its size, for one minute.

Time before the first sample counts as calm in both.

For a small working set the bound is smaller than chance, so a few pages are always allowed
(`overcommit.model.pain`).

Pressure ends a page-out in two cases only. First, it goes on although nothing was taken for
`_LONGEST_PAIN_SECONDS`; then the rate was not the reason. This is measured over ten seconds, so that what
came back at the beginning of the pause does not count. Second, the budget is spent: more has come back than
the bound allows in the longest time of a page-out (`_BUDGET_MINUTES`), and more than `_WRONG_SHARE` of what
was taken. Then the classification as cold was wrong, at any rate. The first part alone is no reason: 300
pages are five minutes' worth of a small guest's bound, and little where 40 000 were taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.model.pain import COMFORT, PainBounds, pain_of
from overcommit.units import MIB, PAGE_SIZE, format_ratio

_STALL_SECONDS, _PROMOTION_SECONDS = 10.0, 60.0
_FIRST_SHARE, _BOLD_STEP, _WARY_STEP, _LEAST_SHARE = 1 / 8, 1 / 16, 1 / 64, 1 / 32
"""Shares of the policy's bound: the first rate, the two steps up, and the rate below which a page-out is not
worth going on with.
"""
_LONGEST_PAIN_SECONDS = 15.0
_BUDGET_MINUTES, _WRONG_SHARE = 5.0, 0.05


class PaceSample(NamedTuple):
    """What was measured of the domain in the ``seconds`` since the last sample."""

    seconds: float
    stalled_seconds: float
    promoted_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The present rate, with the samples behind it. `after` returns the state of the next sample.

    ``samples`` are the latest, newest first. ``resting_seconds`` is how long the rate has been 0. ``wary``:
    the SLO was exceeded before.
    """

    bounds: PainBounds
    max_bytes_per_second: int
    bytes_per_second: int
    resting_seconds: float = 0.0
    promoted_pages: int = 0
    wary: bool = False
    samples: tuple[PaceSample, ...] = ()

    @classmethod
    def begin(cls, bounds: PainBounds, max_bytes_per_second: int) -> Pace:
        """The state of a page-out that has not started yet."""
        first = max(_least(max_bytes_per_second), round(max_bytes_per_second * _FIRST_SHARE))
        return cls(bounds=bounds, max_bytes_per_second=max_bytes_per_second, bytes_per_second=first)

    def after(self, sample: PaceSample) -> Pace:
        """The state after one more sample."""
        known = dataclasses.replace(self, samples=_latest((sample, *self.samples)))
        rate = _next_rate(known, sample.seconds)
        return dataclasses.replace(
            known,
            bytes_per_second=rate,
            resting_seconds=self.resting_seconds + sample.seconds if rate == 0 else 0.0,
            promoted_pages=self.promoted_pages + sample.promoted_pages,
            wary=self.wary or known.pain > 1.0,
        )

    @property
    def pain(self) -> float:
        """The larger of the two figures, as a share of its bound."""
        return max(
            pain_of(self.stall, self.bounds.psi_some),
            pain_of(self.promotions_per_minute, self.bounds.promoted_pages_per_minute),
        )

    @property
    def stall(self) -> float:
        """The share of recent time in which the domain waited for memory (PSI some)."""
        return (
            _sum(((sample.stalled_seconds, sample.seconds) for sample in self.samples), _STALL_SECONDS)
            / _STALL_SECONDS
        )

    @property
    def promotions_per_minute(self) -> float:
        """Pages that came back in the last minute."""
        return self._promoted(_PROMOTION_SECONDS)

    @property
    def slowed(self) -> bool:
        """Whether the pace may be why little is moved."""
        return self.bytes_per_second == 0 or self.pain > 1.0

    @property
    def why_slow(self) -> str:
        """The figure nearest to its bound, in words."""
        if pain_of(self.stall, self.bounds.psi_some) >= self.pain:
            limit = format_ratio(self.bounds.psi_some)
            return f"memory pressure of the domain {format_ratio(self.stall)}, limit {limit}"
        return (
            f"{self.promotions_per_minute:.0f} pages read back in a minute, "
            f"limit {self.bounds.promoted_pages_per_minute:.0f}"
        )

    def hopeless(self, freed_bytes: int) -> str | None:
        """Why a page-out that has freed so much must end; None: it may go on."""
        allowed = self.bounds.promoted_pages_per_minute * _BUDGET_MINUTES
        budget = max(allowed, _WRONG_SHARE * freed_bytes / PAGE_SIZE)
        if self.promoted_pages > budget:
            return f"{self.promoted_pages} pages were read back, limit {budget:.0f}"
        last_minute = self._promoted(_STALL_SECONDS) * _PROMOTION_SECONDS / _STALL_SECONDS
        hurts = self.stall > self.bounds.psi_some or last_minute > self.bounds.promoted_pages_per_minute
        if self.resting_seconds >= _LONGEST_PAIN_SECONDS and hurts:
            return f"{self.why_slow}, although nothing was taken for {self.resting_seconds:.0f} s"
        return None

    def _promoted(self, seconds: float) -> float:
        return _sum(((sample.promoted_pages, sample.seconds) for sample in self.samples), seconds)


def _next_rate(pace: Pace, seconds: float) -> int:
    pain, most = pace.pain, pace.max_bytes_per_second
    if pain > 1.0:
        halved = pace.bytes_per_second // 2
        return halved if halved >= _least(most) else 0
    if pain > COMFORT:
        return pace.bytes_per_second or _least(most)
    step = max(_least(most), round(most * (_WARY_STEP if pace.wary else _BOLD_STEP) * seconds))
    return min(most, pace.bytes_per_second + step)


def _least(max_bytes_per_second: int) -> int:
    """The slowest rate above 0, at which progress is still measurable."""
    return min(max_bytes_per_second, max(MIB, round(max_bytes_per_second * _LEAST_SHARE)))


def _latest(samples: tuple[PaceSample, ...]) -> tuple[PaceSample, ...]:
    """As many samples as cover the longer window."""
    covered, count = 0.0, 0
    while count < len(samples) and covered < _PROMOTION_SECONDS:
        covered += samples[count].seconds
        count += 1
    return samples[:count]


def _sum(values: Iterable[tuple[float, float]], seconds: float) -> float:
    """The part of ``(value, seconds)`` pairs, newest first, that falls into the last ``seconds``."""
    total = 0.0
    for value, lasted in values:
        if seconds <= 0:
            break
        total += value * (seconds / lasted if lasted > seconds else 1.0)  # a look may take no time at all
        seconds -= lasted
    return total
