"""A domain's SLO figures of the last minutes, each as a share of its class's bound (1 is the bound)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from overcommit.model.guest_reserve import short_below
from overcommit.model.pain import COMFORT, PainBounds, pain_of
from overcommit.model.policy import ServiceObjective
from overcommit.slo.rereads import NOTHING_REREAD, Reading, Rereads
from overcommit.units import PAGE_SIZE, format_ratio, format_size

_MINUTE = 60.0


NOT_READ = Reading(read_bytes=None, cache_grown_bytes=None)


class SloSample(NamedTuple):
    """What was measured of a domain in the ``seconds`` since the last tick; None: could not be read.

    ``promoted_pages`` and ``stalled_seconds`` (PSI some) are of its cgroup. ``working_set_bytes`` and
    ``cooling_pages_per_minute`` are of its latest `Heat` (``wss_bytes``, ``promotions_per_minute``).
    ``out_bytes`` are in swap, or taken from the guest by this program. ``taking``: an action takes from it
    now.

    ``reduced``: the guest has less than its full size. Then its own figures count as well (untrusted, rule
    S8: they can only protect the guest): ``usable_bytes`` against ``reserve_bytes``, which plans leave it;
    swap-in and major faults; and what it reads from its disks beyond the growth of its cache.
    """

    seconds: float
    promoted_pages: int | None
    stalled_seconds: float | None
    working_set_bytes: int | None
    cooling_pages_per_minute: float | None
    out_bytes: int
    taking: bool
    reduced: bool
    usable_bytes: int | None
    reserve_bytes: int
    swap_in_bytes: int | None
    major_faults: int | None
    reading: Reading = NOT_READ


class LastMinute(NamedTuple):
    """The sum over the last minute, in three numbers for any tick length.

    ``latest`` is a sum over up to a minute, ``seconds`` so far. Of ``before``, the minute before that, the
    missing part counts. So a value counts at once and in full, and no longer after two minutes. Time before
    the first tick counts as 0.
    """

    seconds: float = 0.0
    latest: float = 0.0
    before: float = 0.0

    def after(self, value: float, seconds: float) -> LastMinute:
        """The state after ``value`` in ``seconds`` more. Of more than a minute, its share counts."""
        if self.seconds + seconds <= _MINUTE:
            return LastMinute(self.seconds + seconds, self.latest + value, self.before)
        share = min(1.0, _MINUTE / seconds)
        return LastMinute(min(seconds, _MINUTE), value * share, self.latest)

    @property
    def total(self) -> float:
        """The sum over the last minute."""
        return self.latest + self.before * (1 - self.seconds / _MINUTE)


class Figure(NamedTuple):
    """One SLO figure: its value, its bound, and its text."""

    value: float
    limit: float
    words: Callable[[float, float], str]

    @property
    def pain(self) -> float:
        """The value as a share of its bound."""
        return pain_of(self.value, self.limit)

    @property
    def text(self) -> str:
        """For people. Made on demand, because it is costly and few are shown."""
        return self.words(self.value, self.limit)


class SloState(NamedTuple):
    """A domain's SLO figures now; None: not known. The working set is the last known one."""

    promoted: LastMinute | None = None
    stalled: LastMinute | None = None
    swapped_in: LastMinute | None = None
    faults: LastMinute | None = None
    shortage: Figure | None = None
    rereads: Rereads = NOTHING_REREAD
    reread: Figure | None = None
    working_set_bytes: int | None = None

    def after(self, sample: SloSample, *, cache_after: float = math.inf) -> SloState:
        """The state after one more tick. A value that could not be read starts anew when it can be read.

        ``cache_after`` is the class's value in seconds.
        """
        shortage, swap_in = None, None
        if sample.reduced:
            shortage = _shortage(sample.usable_bytes, sample.reserve_bytes)
            swap_in = sample.swap_in_bytes
        # Faults alone mean that a guest reads files, e.g. to start a program. A short guest reads them again.
        faults = sample.major_faults if shortage and shortage.pain > COMFORT else None
        working_set = sample.working_set_bytes
        rereads = self.rereads.after(
            sample.reading,
            sample.seconds,
            reduced=sample.reduced,
            reserve_bytes=sample.reserve_bytes,
            cache_after=cache_after,
        )
        limit = rereads.limit_bytes(sample.reserve_bytes)
        return SloState(
            promoted=_add(self.promoted, sample.promoted_pages, sample.seconds),
            stalled=_add(self.stalled, sample.stalled_seconds, sample.seconds),
            swapped_in=_add(self.swapped_in, swap_in, sample.seconds),
            faults=_add(self.faults, faults, sample.seconds),
            shortage=shortage,
            rereads=rereads,
            reread=Figure(rereads.lost_bytes, limit, _say_reread) if sample.reduced else None,
            working_set_bytes=self.working_set_bytes if working_set is None else working_set,
        )

    def by_host(self, objective: ServiceObjective) -> tuple[Figure, ...]:
        """The figures that the host measures, as far as they are known."""
        found = []
        if self.promoted is not None and self.working_set_bytes is not None:
            limit = self._pages_per_minute(objective)
            found.append(Figure(self.promoted.total, limit, _say_promoted))
        if self.stalled is not None:
            found.append(Figure(self.stalled.total / _MINUTE, objective.psi_some, _say_stalled))
        return tuple(found)

    def by_guest(self, objective: ServiceObjective) -> tuple[Figure, ...]:
        """The figures that the guest reports."""
        found = [figure for figure in (self.shortage, self.reread) if figure is not None]
        if self.working_set_bytes is not None:
            # Memory that was taken is read from a disk again, as a promotion is.
            limit = self._pages_per_minute(objective)
            if self.swapped_in is not None:
                found.append(Figure(self.swapped_in.total / PAGE_SIZE, limit, _say_swapped_in))
            if self.faults is not None:
                found.append(Figure(self.faults.total, limit, _say_faults))
        return tuple(found)

    def expects_pain(self, objective: ServiceObjective, cooling_pages_per_minute: float | None) -> bool:
        """Whether the memory that is about to become cold would exceed the SLO if it were paged out now."""
        if cooling_pages_per_minute is None or self.working_set_bytes is None:
            return False
        return cooling_pages_per_minute > self._pages_per_minute(objective)

    def _pages_per_minute(self, objective: ServiceObjective) -> float:
        size = self.working_set_bytes or 0
        bounds = PainBounds.of(objective.psi_some, objective.promotions_per_minute, size)
        return bounds.promoted_pages_per_minute


def _add(last_minute: LastMinute | None, value: float | None, seconds: float) -> LastMinute | None:
    return None if value is None else (last_minute or LastMinute()).after(max(0.0, value), seconds)


def _shortage(usable_bytes: int | None, reserve_bytes: int) -> Figure | None:
    """Available memory of the guest.

    The bound is half of the guest's reserve; the whole reserve is comfort.
    """
    if usable_bytes is None:
        return None
    return Figure(short_below(reserve_bytes), float(max(0, usable_bytes)), _say_short)


def _say_promoted(pages: float, limit: float) -> str:
    return f"{pages:.0f} pages were read back in a minute, limit {limit:.0f}"


def _say_stalled(share: float, limit: float) -> str:
    return f"memory pressure was {format_ratio(share)}, limit {format_ratio(limit)}"


def _say_short(least_bytes: float, usable_bytes: float) -> str:
    return f"the guest has {format_size(usable_bytes)} available; it needs {format_size(2 * least_bytes)}"


def _say_reread(lost_bytes: float, limit: float) -> str:
    return (
        f"the guest read {format_size(lost_bytes)} from its disks in 10min that it cannot keep in memory, "
        f"limit {format_size(limit)}"
    )


def _say_swapped_in(pages: float, limit: float) -> str:
    return f"the guest read {pages:.0f} pages from its own swap in a minute, limit {limit:.0f}"


def _say_faults(faults: float, limit: float) -> str:
    return f"the guest is short of memory and had {faults:.0f} major faults in a minute, limit {limit:.0f}"
