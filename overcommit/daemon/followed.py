"""A domain from one tick to the next: what was seen of it, what it felt, and how firmly it is held."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from overcommit.apply.lever import REBOOTS
from overcommit.classify.idle import classify
from overcommit.daemon.pulse import Pulse, feeling_between
from overcommit.model.facts import MIGRATION_AWAY, DomainFacts
from overcommit.model.heat import Heat, IdleMap
from overcommit.model.policy import Policy
from overcommit.model.restraint import Restraint
from overcommit.plan.notes import leaving_text
from overcommit.slo import Grip


@dataclass(slots=True)
class Followed:
    """``domain`` and ``heat`` are of the latest plan, ``pulse`` and ``grip`` of the latest tick."""

    domain: DomainFacts
    grip: Grip
    pulse: Pulse | None = None
    heat: Heat | None = None
    _answered: bool = False

    def see(self, domain: DomainFacts) -> Iterator[str]:
        """Take in what was observed of it; what there is to log."""
        before, self.domain = self.domain, domain
        if domain.busy_with == MIGRATION_AWAY != before.busy_with:
            yield leaving_text(domain)

    def feel(self, pulse: Pulse, *, taken_bytes: int, taking: bool, swapoff: bool) -> None:
        """Take in one more pulse; ``taken_bytes`` are what its guest gave, ``taking``: more is taken now.

        ``swapoff``: the host's swap is being turned off; what comes back for that is no guest's pain.
        """
        before, self.pulse = self.pulse, pulse
        stats = pulse.balloon
        self._answered = self._answered or (stats is not None and stats.age_seconds is not None)
        if before is not None and pulse.at > before.at:
            feeling = feeling_between(
                before, pulse, self.domain, heat=self.heat, taken_bytes=taken_bytes, taking=taking
            )
            if swapoff:
                feeling = feeling._replace(promoted_pages=None)
            self.grip = self.grip.after(feeling)

    def judge(self, idle: IdleMap | None, policy: Policy, *, boldly: bool) -> Heat | None:
        """What of the domain is cold by what its monitor saw, and as boldly as its class lets one be."""
        if idle is None or self.domain.residency is None:
            return None
        of, held = policy.class_of(self.domain), self.grip.restraint
        cold_after, unused_after = of.cold_after_seconds, of.cache_after_seconds
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
        stats = self.pulse.balloon if self.pulse else None
        return stats is not None and stats.age_seconds is None

    @property
    def boots(self) -> bool:
        """Whether it was reset, and is not up again."""
        return self._answered and self.silent

    @property
    def restraint(self) -> Restraint:
        """How firmly plans may hold it."""
        held = self.grip.restraint
        return dataclasses.replace(held, why_not=REBOOTS) if self.boots else held

    @property
    def short(self) -> bool:
        """Whether the guest has too little left by its own word."""
        return self.pulse is not None and self.pulse.short_bytes(self.domain) > 0

    @property
    def suffers(self) -> str | None:
        """What hurts the guest by its own word, None when nothing does."""
        said = self.grip.felt.by_guest(self.grip.domain_class.objective)
        worst = max(said, key=lambda figure: figure.pain, default=None)
        return worst.text if worst is not None and worst.pain > 1.0 else None

    @property
    def latest(self) -> DomainFacts:
        """The domain with the balloon that the latest tick saw."""
        return dataclasses.replace(
            self.domain, balloon=self.pulse.balloon if self.pulse else self.domain.balloon
        )
