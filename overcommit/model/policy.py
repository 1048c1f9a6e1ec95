"""The policy as the planner sees it: plain numbers, already validated."""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field

from overcommit.model.facts import DomainFacts


class Actuator(enum.Enum):
    """A way of getting memory back, in ladder order (cheapest first)."""

    FREE_PAGE_REPORTING = "free_page_reporting"
    VIRTIO_MEM = "virtio_mem"
    BALLOON = "balloon"
    DEMOTION = "demotion"
    PAGEOUT = "pageout"


class GuestHelp(enum.Enum):
    """What may be done inside of a guest through its agent; for guests whose owner agreed."""

    COMPACTION = "compaction"
    """Compact free memory into whole blocks, so that free page reporting can give them to the host."""
    DAMON_RECLAIM = "damon_reclaim"
    """Let the guest's own kernel reclaim what it finds idle (CONFIG_DAMON_RECLAIM)."""


class PageoutActor(enum.Enum):
    """Who pages out (docs/adr/0004 compares them)."""

    DAMOS_FVADDR = "damos-fvaddr"
    """A kdamond of ours over the chosen pieces, which checks regions again."""
    DAMOS_PADDR = "damos-paddr"
    """A kdamond of ours over the host's physical memory, for pages of the domain's cgroup only."""
    MEMCG_RECLAIM = "memcg-reclaim"
    """The domain's cgroup gives up its least recently used pages; the kernel chooses and checks them."""
    COLD_HINT_RECLAIM = "cold-hint+reclaim"
    """The same, after the chosen pieces were marked cold."""

    @property
    def by_kdamond(self) -> bool:
        """Whether it takes DAMON."""
        return self in {PageoutActor.DAMOS_FVADDR, PageoutActor.DAMOS_PADDR}


class ReclaimMode(enum.Enum):
    """When the host reclaims at all."""

    PROACTIVE = "proactive"
    ON_PRESSURE = "on_pressure"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceObjective:
    """The pain a domain may feel: promotions per working set and minute, and PSI some (ratios)."""

    promotions_per_minute: float
    psi_some: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainClass:
    """One tier of domains.

    ``floor`` is the share of the domain's memory that reclaim never goes below, ``cold_after_seconds`` how
    long memory must be idle to be paged out, ``weight`` how dear its memory is when the host is short.
    ``step`` is the share of a domain's memory that one plan takes at most, by all actuators together.
    ``guest_help`` is what may be done inside of its guests.
    """

    name: str
    floor: float
    cold_after_seconds: float
    weight: float
    objective: ServiceObjective
    actuators: frozenset[Actuator]
    step: float = 1.0
    guest_help: frozenset[GuestHelp] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which domains a rule means; all given criteria must hold."""

    name: str | None = None
    uuid: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def matches(self, domain: DomainFacts) -> bool:
        """Whether this rule applies to the domain (names match as case-sensitive globs)."""
        labels = domain.definition.labels
        return (
            (self.name is None or fnmatch.fnmatchcase(domain.name, self.name))
            and (self.uuid is None or domain.incarnation.uuid == self.uuid)
            and all(labels.get(key) == value for key, value in self.metadata.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A selector and the class it assigns; the first match wins."""

    selector: Selector
    class_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapBudget:
    """How much of the host's swap reclaim may fill, and how fast."""

    max_used: float
    max_write_bytes_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy; ``digest`` identifies its text, so that a saved plan can tell when it changed.

    ``pageout_actor`` None leaves the choice to what the host offers. ``cold_node`` is the memory node to
    which cold memory goes before it goes to swap. ``idle_tax`` is how much dearer idle memory is than memory
    in use when domains share the burden of a host that is short. ``ksm``: the kernel may merge equal pages
    of different domains.
    """

    digest: str
    source: str
    reserve: float
    max_overcommit: float
    swap: SwapBudget
    reclaim: ReclaimMode
    pageout_actor: PageoutActor | None
    cold_node: int | None
    classes: Mapping[str, DomainClass]
    rules: tuple[Rule, ...]
    default_class: str
    idle_tax: float = 0.75
    ksm: bool = False

    def class_of(self, domain: DomainFacts) -> DomainClass:
        """The class of the first rule that matches, else the default class."""
        for rule in self.rules:
            if rule.selector.matches(domain):
                return self.classes[rule.class_name]
        return self.classes[self.default_class]
