"""A domain between ticks: its facts, its SLO samples, and its limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from overcommit.classify.idle import classify
from overcommit.daemon.tick_reading import TickReading, sample_between
from overcommit.model import events
from overcommit.model.facts import MIGRATION_AWAY, DomainFacts
from overcommit.model.heat import Heat, IdleMap
from overcommit.model.log_event import LogEvent
from overcommit.model.policy import Policy
from overcommit.model.restraint import GUEST_REBOOTS, Restraint
from overcommit.plan.notes import leaving_text
from overcommit.slo import Throttle


@dataclass(slots=True)
class TrackedDomain:
    """``domain`` and ``heat`` are of the latest plan; ``tick_reading``, ``throttle`` of the latest tick."""

    domain: DomainFacts
    throttle: Throttle
    tick_reading: TickReading | None = None
    heat: Heat | None = None
    _answered: bool = False

    def see(self, domain: DomainFacts) -> Iterator[LogEvent]:
        """Take new facts of the domain. Yields events to log."""
        before, self.domain = self.domain, domain
        if domain.busy_with == MIGRATION_AWAY != before.busy_with:
            yield events.domain_leaves(domain.incarnation, leaving_text(domain))

    def add_sample(self, tick_reading: TickReading, *, taken_bytes: int, taking: bool, swapoff: bool) -> None:
        """Add a sample. ``taken_bytes`` were taken from its guest; ``taking``: an action takes more now.

        ``swapoff``: the host's swap is being turned off. Promotions by that do not count for the SLO.
        """
        before, self.tick_reading = self.tick_reading, tick_reading
        stats = tick_reading.balloon
        self._answered = self._answered or (stats is not None and stats.age_seconds is not None)
        if before is not None and tick_reading.at > before.at:
            sample = sample_between(
                before, tick_reading, self.domain, heat=self.heat, taken_bytes=taken_bytes, taking=taking
            )
            if swapoff:
                sample = sample._replace(promoted_pages=None)
            self.throttle = self.throttle.after(sample)

    def judge(self, idle: IdleMap | None, policy: Policy, *, boldly: bool) -> Heat | None:
        """The domain's access frequency, with its present limits; ``boldly``: with its class's."""
        if idle is None or self.domain.residency is None:
            return None
        domain_class, held = policy.class_of(self.domain), self.throttle.restraint
        cold_after, unused_after = domain_class.cold_after_seconds, domain_class.cache_after_seconds
        if not boldly:
            cold_after = max(cold_after, held.cold_after_seconds)
            unused_after = max(unused_after, held.cache_after_seconds)
        self.heat = classify(
            idle, self.domain.residency.resident, cold_after=cold_after, unused_after=unused_after
        )
        return self.heat

    @property
    def silent(self) -> bool:
        """Whether its balloon driver has not answered since it booted, as far as that can be asked."""
        stats = self.tick_reading.balloon if self.tick_reading else None
        return stats is not None and stats.age_seconds is None

    @property
    def boots(self) -> bool:
        """Whether it was reset, and is still booting."""
        return self._answered and self.silent

    @property
    def restraint(self) -> Restraint:
        """The present limits for plans."""
        held = self.throttle.restraint
        return dataclasses.replace(held, why_not=GUEST_REBOOTS) if self.boots else held

    @property
    def short(self) -> bool:
        """Whether the guest is short, by its own figures."""
        return self.tick_reading is not None and self.tick_reading.short_bytes(self.domain) > 0

    @property
    def suffers(self) -> str | None:
        """Why the guest is under pressure, by its own figures; None: it is not."""
        said = self.throttle.slo_state.by_guest(self.throttle.domain_class.objective)
        worst = max(said, key=lambda figure: figure.pain, default=None)
        return worst.text if worst is not None and worst.pain > 1.0 else None

    @property
    def latest(self) -> DomainFacts:
        """The domain with the balloon of the latest tick."""
        return dataclasses.replace(
            self.domain, balloon=self.tick_reading.balloon if self.tick_reading else self.domain.balloon
        )
