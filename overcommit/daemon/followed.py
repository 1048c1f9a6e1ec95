"""A domain from one tick to the next: what was seen of it, what it felt, and how firmly it is held."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from overcommit.daemon.pulse import Pulse, feeling_between
from overcommit.model.facts import DomainFacts
from overcommit.model.heat import Heat
from overcommit.slo import Grip


@dataclass(slots=True)
class Followed:
    """``domain`` and ``heat`` are of the latest plan, ``pulse`` and ``grip`` of the latest tick."""

    domain: DomainFacts
    grip: Grip
    pulse: Pulse | None = None
    heat: Heat | None = None

    def feel(self, pulse: Pulse, *, taken_bytes: int, taking: bool) -> None:
        """Take in one more pulse; ``taken_bytes`` are what its guest gave, ``taking``: more is taken now."""
        before, self.pulse = self.pulse, pulse
        if before is not None and pulse.at > before.at:
            feeling = feeling_between(
                before, pulse, self.domain, heat=self.heat, taken_bytes=taken_bytes, taking=taking
            )
            self.grip = self.grip.after(feeling)

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
