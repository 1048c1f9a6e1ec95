"""What earlier runs left that a plan must know: reservations, memory taken, actuators that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from overcommit.model.facts import Incarnation
from overcommit.model.moments import Wall
from overcommit.model.part import MemoryPart
from overcommit.model.policy import Actuator


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Memory that is reserved for somebody who has not taken it yet.

    It ends at ``expires_at`` (seconds since the epoch). ``purpose`` names the domain that it is for, if any.
    What that domain holds counts as taken.
    """

    id: int
    purpose: str | None
    size_bytes: int
    expires_at: Wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """An actuator that must not be used on one incarnation of a domain before ``until``.

    The actuator failed, or did harm.
    """

    domain: Incarnation
    actuator: Actuator
    reason: str
    until: Wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """Memory recently paged out of one incarnation of a domain.

    The page-out ended at ``ended_at`` (seconds since the epoch).
    """

    domain: Incarnation
    freed_bytes: int
    ended_at: Wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The size at which this program left a part of a domain's memory.

    The journal has the change outstanding.

    The size of a balloon is what the guest has, that of a virtio-mem device is what is requested of it.
    ``baseline_bytes`` is the size that `restore` brings back. ``generation`` is the apply that changed it.
    """

    part: MemoryPart
    size_bytes: int
    baseline_bytes: int
    generation: int

    @property
    def domain(self) -> Incarnation:
        """The domain of the part."""
        return self.part.domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """All of the above. ``ksm_generation`` is the apply that started KSM, outstanding in the journal."""

    reservations: tuple[Reservation, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    left: tuple[Left, ...] = ()
    cooldowns: tuple[Cooldown, ...] = ()
    ksm_generation: int | None = None
    _taken: Mapping[Incarnation, Mapping[str, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        taken: dict[Incarnation, dict[str, int]] = {}
        for left in self.left:
            how = Actuator.BALLOON if left.part.device is None else Actuator.VIRTIO_MEM
            of_it = taken.setdefault(left.domain, {})
            of_it[how.value] = of_it.get(how.value, 0) + max(0, left.baseline_bytes - left.size_bytes)
        object.__setattr__(self, "_taken", taken)  # each of thousands of domains is asked after in each tick

    def taken_from(self, domain: Incarnation) -> int:
        """Bytes that a guest gave by balloon and blocks, and did not get back."""
        return sum(self._taken[domain].values()) if domain in self._taken else 0

    def taken_by(self, domain: Incarnation) -> Mapping[str, int]:
        """The same bytes by the name of the actuator."""
        return self._taken.get(domain, {})

    @property
    def balloons(self) -> tuple[Left, ...]:
        """The balloons that were left resized."""
        return tuple(left for left in self.left if left.part.device is None)

    @property
    def devices(self) -> tuple[Left, ...]:
        """The virtio-mem devices that were left resized."""
        return tuple(left for left in self.left if left.part.device is not None)

    def left_of(self, part: MemoryPart) -> Left | None:
        """Where that part was left; None: it was not changed, or it was restored."""
        return next((left for left in self.left if left.part == part), None)

    def by_domain(self) -> Mapping[Incarnation, Past]:
        """The past of each domain; a domain without a past is left out."""
        about: dict[Incarnation, _About] = {}
        for quarantine in self.quarantines:
            about.setdefault(quarantine.domain, _About()).quarantines.append(quarantine)
        for left in self.left:
            about.setdefault(left.domain, _About()).left.append(left)
        for cooldown in self.cooldowns:
            about.setdefault(cooldown.domain, _About()).cooldowns.append(cooldown)
        return {
            domain: Past(
                quarantines=tuple(of_it.quarantines),
                left=tuple(of_it.left),
                cooldowns=tuple(of_it.cooldowns),
            )
            for domain, of_it in about.items()
        }


@dataclass(frozen=True, slots=True)
class _About:
    """The past of one domain."""

    quarantines: list[Quarantine] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    cooldowns: list[Cooldown] = field(default_factory=list)


NOTHING_PAST = Past()
