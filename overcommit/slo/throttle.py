"""The most that may be taken from a domain within its SLO.

`overcommit.apply.pace` keeps one page-out within the SLO, in seconds. This module adjusts over hours how much
may be taken at all. It reacts to a violation within one tick, and relaxes over hours:

- A *violation* (a figure beyond its bound) stops all taking within the tick. From then on memory must be idle
  twice as long, and a plan takes half as much. This repeats for each two minutes that the violation lasts.
  One burst counts once, because it is out of the figures sooner (`samples.LastMinute`).
- Taking starts again when the domain was comfortable (below half of its bounds) for a *pause*. Time between
  comfort and violation counts a quarter; otherwise a guest that always reads a little back would be paused
  for ever.
- *Comfort* counts only while memory is taken. Half an hour of it, a *trial*, relaxes both limits a little,
  never below the class's values. It counts a sixteenth while so much memory is about to become cold that
  paging it out would exceed the SLO (`Heat.promotions_per_minute`).

Each relapse within a day doubles pause and trial. Otherwise a guest that uses memory soon after it has become
cold would exceed its SLO hour after hour. Older relapses count less and less.

A value that cannot be read counts neither as comfort nor as violation. Where the host measures nothing,
nothing is taken.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from overcommit.model.pain import COMFORT
from overcommit.model.policy import DomainClass
from overcommit.model.restraint import Restraint
from overcommit.slo.rereads import Kept, Rereads
from overcommit.slo.samples import Figure, SloSample, SloState
from overcommit.units import format_duration, format_ratio

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_PAIN_LASTS = 2 * _MINUTE
_MOST_NOTCHES, _LONGEST_COLD_AFTER = 8, 6 * _HOUR
_SHARE_STEP, _LEAST_SHARE = 1 / 8, 1 / 16
_SHORTEST_REST, _LONGEST_REST = _MINUTE, 30 * _MINUTE
_SHORTEST_TRIAL, _LONGEST_TRIAL = 30 * _MINUTE, 8 * _HOUR
_UNEASY_REST, _DOUBTFUL_TRIAL = 1 / 4, 1 / 16
_MOST_RELAPSES = 6.0
_LONGEST_CAUSE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """The part of a `Throttle` that was learnt over hours, and stays valid across a restart."""

    notches: int
    step_share: float
    relapses: float
    rested_seconds: float | None
    calm_seconds: float
    cause: str
    judged_seconds: float
    outside_seconds: float
    usual_read_bytes: float = 0.0
    cache_needed_seconds: float = 0.0
    guest_rest_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Check that the values are possible.

        Raises:
            ValueError: they are not.
        """
        times = (self.rested_seconds or 0.0, self.calm_seconds, self.judged_seconds, self.outside_seconds)
        sound = (
            0 <= self.notches <= _MOST_NOTCHES
            and _LEAST_SHARE <= self.step_share <= 1.0
            and 0.0 <= self.relapses <= _MOST_RELAPSES
            and all(0.0 <= seconds < math.inf for seconds in times)
            and self.outside_seconds <= self.judged_seconds
            and len(self.cause) <= _LONGEST_CAUSE
            and self.rereads.sound
        )
        if not sound:
            message = f"not a possible throttle: {self}"
            raise ValueError(message)

    @property
    def rereads(self) -> Kept:
        """The values of `overcommit.slo.rereads`."""
        return Kept(self.usual_read_bytes, self.cache_needed_seconds, self.guest_rest_seconds)

    @property
    def throttling(self) -> tuple[int, float, bool]:
        """The values that decide the limits; the others count time."""
        return self.notches, self.step_share, self.rested_seconds is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """The limits of one domain. `after` returns the state of the next tick.

    Every two ``notches`` double the time that memory must be idle. ``step_share`` is the part of the class's
    step that may be taken. ``relapses`` are the day's violations. ``rested_seconds`` is the pause so far;
    None: taking is allowed. ``hurt_seconds`` is the violation since the last tightening, ``calm_seconds`` the
    comfort since the last change, ``cause`` the last figure beyond its bound. ``judged_seconds`` and
    ``outside_seconds`` are of the last day: all, and beyond a bound. ``worst`` is the highest figure.
    ``blind``: the host measures nothing.
    """

    domain_class: DomainClass
    slo_state: SloState
    worst: Figure | None = None
    blind: bool = True
    notches: int = 0
    step_share: float = 1.0
    relapses: float = 0.0
    rested_seconds: float | None = None
    hurt_seconds: float = 0.0
    calm_seconds: float = 0.0
    cause: str = ""
    judged_seconds: float = 0.0
    outside_seconds: float = 0.0

    @classmethod
    def begin(cls, domain_class: DomainClass) -> Throttle:
        """The state of a domain of which nothing is known yet."""
        return cls(domain_class=domain_class, slo_state=SloState())

    @classmethod
    def resume(cls, domain_class: DomainClass, learnt: Learnt, *, seconds: float) -> Throttle:
        """The state from what was learnt ``seconds`` ago. That time is neither comfort nor violation."""
        fading = math.exp(-max(0.0, seconds) / _DAY)
        return cls(
            domain_class=domain_class,
            slo_state=SloState(rereads=Rereads.resume(learnt.rereads, seconds=seconds)),
            notches=learnt.notches,
            step_share=learnt.step_share,
            relapses=learnt.relapses * fading,
            rested_seconds=learnt.rested_seconds,
            calm_seconds=learnt.calm_seconds,
            cause=learnt.cause,
            judged_seconds=learnt.judged_seconds * fading,
            outside_seconds=learnt.outside_seconds * fading,
        )

    @property
    def learnt(self) -> Learnt | None:
        """What should be kept across a restart; None: nothing, because the domain never exceeded its SLO."""
        kept = self.slo_state.rereads.kept
        if not self.cause and not kept.worthwhile:
            return None
        return Learnt(
            notches=self.notches,
            step_share=self.step_share,
            relapses=self.relapses,
            rested_seconds=self.rested_seconds,
            calm_seconds=self.calm_seconds,
            cause=self.cause[:_LONGEST_CAUSE],
            judged_seconds=self.judged_seconds,
            outside_seconds=self.outside_seconds,
            usual_read_bytes=kept.usual_bytes,
            cache_needed_seconds=kept.needed_seconds,
            guest_rest_seconds=kept.rest_seconds,
        )

    def under(self, domain_class: DomainClass) -> Throttle:
        """The state under another class."""
        return dataclasses.replace(self, domain_class=domain_class)

    def after(self, sample: SloSample) -> Throttle:
        """The state after one more sample. A sample of 0 seconds changes nothing."""
        if sample.seconds <= 0:
            return self
        known = _remember(self, sample)
        pain = known.pain
        if pain is not None and pain > 1.0:
            return _hurt(known, sample.seconds)
        if known.blind or pain is None:
            return known
        if known.rested_seconds is not None:
            return _rest(known, sample.seconds * (1.0 if pain < COMFORT else _UNEASY_REST))
        if pain < COMFORT and (sample.taking or sample.out_bytes > 0):
            doubt = known.slo_state.expects_pain(self.domain_class.objective, sample.cooling_pages_per_minute)
            return _at_ease(known, sample.seconds * (_DOUBTFUL_TRIAL if doubt else 1.0))
        return known

    @property
    def pain(self) -> float | None:
        """The worst figure as a share of its bound; None: not known."""
        return self.worst.pain if self.worst else None

    @property
    def outside_share(self) -> float:
        """The share of the last day in which the domain exceeded its SLO."""
        return self.outside_seconds / self.judged_seconds if self.judged_seconds else 0.0

    @property
    def cold_after_seconds(self) -> float:
        """The present idle time after which memory is cold, at least the class's value."""
        least = self.domain_class.cold_after_seconds
        return max(least, min(least * 2 ** (self.notches / 2), _LONGEST_COLD_AFTER))

    @property
    def throttled(self) -> bool:
        """Whether less may be taken than the class allows."""
        return self.notches > 0 or self.step_share < 1.0

    @property
    def why_not(self) -> str | None:
        """Why nothing is taken from the domain now; None: something may be."""
        return _why_not(self)

    @property
    def restraint(self) -> Restraint:
        """The present limits."""
        why_not, kept = self.why_not, self.slo_state.rereads.kept
        return Restraint(
            cold_after_seconds=self.cold_after_seconds,
            step_share=self.step_share,
            why_not=why_not,
            sentence=why_not or _where_it_stands(self),
            cache_after_seconds=max(self.domain_class.cache_after_seconds, kept.needed_seconds),
            why_no_guest_memory=_why_no_guest_memory(kept),
        )


def _remember(throttle: Throttle, sample: SloSample) -> Throttle:
    """The state with the new sample, and with older samples counting less."""
    slo_state = throttle.slo_state.after(sample, cache_after=throttle.domain_class.cache_after_seconds)
    objective = throttle.domain_class.objective
    by_host = slo_state.by_host(objective)
    worst = max((*by_host, *slo_state.by_guest(objective)), key=lambda figure: figure.pain, default=None)
    if worst is None:
        return dataclasses.replace(throttle, slo_state=slo_state, worst=None, blind=True)
    fading = math.exp(-sample.seconds / _DAY)
    outside = sample.seconds if worst.pain > 1.0 else 0.0
    return dataclasses.replace(
        throttle,
        slo_state=slo_state,
        worst=worst,
        blind=not by_host,
        relapses=throttle.relapses * fading,
        judged_seconds=throttle.judged_seconds * fading + sample.seconds,
        outside_seconds=throttle.outside_seconds * fading + outside,
    )


def _hurt(throttle: Throttle, seconds: float) -> Throttle:
    """The state with taking stopped, and with tighter limits as the violation lasts."""
    onset, hurt = throttle.rested_seconds is None, throttle.hurt_seconds + seconds
    now = dataclasses.replace(
        throttle,
        relapses=min(_MOST_RELAPSES, throttle.relapses + 1) if onset else throttle.relapses,
        rested_seconds=0.0,
        hurt_seconds=hurt,
        calm_seconds=0.0,
        cause=throttle.worst.text if throttle.worst else throttle.cause,
    )
    if not onset and hurt < _PAIN_LASTS:
        return now
    return dataclasses.replace(
        now,
        notches=max(throttle.notches, min(throttle.notches + 2, _most_notches(throttle))),
        step_share=max(throttle.step_share / 2, _LEAST_SHARE),
        hurt_seconds=0.0,
    )


def _rest(throttle: Throttle, seconds: float) -> Throttle:
    rested = (throttle.rested_seconds or 0.0) + seconds
    if rested < _rest_seconds(throttle):
        return dataclasses.replace(throttle, rested_seconds=rested)
    return dataclasses.replace(throttle, rested_seconds=None, hurt_seconds=0.0)


def _at_ease(throttle: Throttle, seconds: float) -> Throttle:
    calm = throttle.calm_seconds + seconds
    if calm < _trial_seconds(throttle):
        return dataclasses.replace(throttle, calm_seconds=calm)
    return dataclasses.replace(
        throttle,
        notches=max(0, throttle.notches - 1),
        step_share=min(1.0, throttle.step_share + _SHARE_STEP),
        calm_seconds=0.0,
    )


def _most_notches(throttle: Throttle) -> int:
    """The largest number that has an effect. Relaxing would have to come down from a larger one first."""
    longest = math.log2(_LONGEST_COLD_AFTER / throttle.domain_class.cold_after_seconds)
    return max(0, min(_MOST_NOTCHES, math.ceil(2 * longest)))


def _rest_seconds(throttle: Throttle) -> float:
    return min(_LONGEST_REST, _SHORTEST_REST * _growth(throttle))


def _trial_seconds(throttle: Throttle) -> float:
    return min(_LONGEST_TRIAL, _SHORTEST_TRIAL * _growth(throttle))


def _growth(throttle: Throttle) -> float:
    return math.exp2(max(0.0, throttle.relapses - 1))


def _why_not(throttle: Throttle) -> str | None:
    if throttle.rested_seconds is not None:
        left = format_duration(max(1.0, _rest_seconds(throttle) - throttle.rested_seconds))
        return f"{throttle.cause}. Nothing is taken for {left} more within its SLO"
    if throttle.blind:
        return "its read-backs and its memory pressure are not known"
    return None


def _why_no_guest_memory(kept: Kept) -> str | None:
    if kept.rest_seconds <= 0:
        return None
    left = format_duration(max(1.0, kept.rest_seconds))
    return f"it read its disks again after it gave memory; it gives no more for {left}"


def _where_it_stands(throttle: Throttle) -> str:
    cold_after, least = format_duration(throttle.cold_after_seconds), throttle.domain_class.cold_after_seconds
    if not throttle.throttled:
        return f"not throttled: takes what was idle for {cold_after} (its class)"
    left = format_duration(max(1.0, _trial_seconds(throttle) - throttle.calm_seconds))
    return (
        f"throttled: takes what was idle for {cold_after} (class: {format_duration(least)}), "
        f"{format_ratio(throttle.step_share)} of a step, because {throttle.cause}; "
        f"eases after {left} more within its SLO"
    )
