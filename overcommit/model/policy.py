"""The policy as the planner uses it: validated numbers in bytes, seconds and ratios."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from overcommit import units
from overcommit.model import globs
from overcommit.model.facts import DomainFacts
from overcommit.model.rule_index import Having, RuleIndex, applies

MOST_WEIGHT = 1000
CACHE_AFTER_SECONDS = 4 * 3600.0
"""The default of a class. File cache that is read every hour is seen four times before it may be dropped."""
LEAST_WRITE_RATE = units.MIB
"""Bytes per second below which a page-out is not worth the effort."""
_LONGEST_LABEL = 100
_Named = TypeVar("_Named", bound=enum.Enum)


class Actuator(enum.Enum):
    """A mechanism that gets memory back, in the order of the ladder: cheapest first."""

    FREE_PAGE_REPORTING = "free_page_reporting"
    VIRTIO_MEM = "virtio_mem"
    BALLOON = "balloon"
    DEMOTION = "demotion"
    PAGEOUT = "pageout"


class GuestHelp(enum.Enum):
    """What may be done inside of a guest through its agent, if its class allows it."""

    COMPACTION = "compaction"
    """Compact free memory into whole blocks, so that free page reporting gives them to the host."""
    DAMON_RECLAIM = "damon_reclaim"
    """Let the guest's kernel reclaim idle memory (CONFIG_DAMON_RECLAIM)."""


class PageoutActor(enum.Enum):
    """The mechanism that pages out (docs/adr/0004 compares them)."""

    DAMOS_FVADDR = "damos-fvaddr"
    """A kdamond over the chosen pieces, which checks each region again."""
    DAMOS_PADDR = "damos-paddr"
    """A kdamond over the host's physical memory, for pages of the domain's cgroup only."""
    MEMCG_RECLAIM = "memcg-reclaim"
    """``memory.reclaim`` of the domain's cgroup: the kernel chooses the least recently used pages."""
    COLD_HINT_RECLAIM = "cold-hint+reclaim"
    """The same, after the chosen pieces were marked cold (MADV_COLD)."""

    @property
    def by_kdamond(self) -> bool:
        """Whether it needs DAMON."""
        return self in {PageoutActor.DAMOS_FVADDR, PageoutActor.DAMOS_PADDR}


class ReclaimMode(enum.Enum):
    """When the host reclaims."""

    PROACTIVE = "proactive"
    ON_PRESSURE = "on_pressure"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceObjective:
    """A domain's SLO: promotions (share of the working set per minute) and PSI some (share of time)."""

    promotions_per_minute: float
    psi_some: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainClass:
    """One class of domains.

    ``floor`` is the share of the domain's memory that reclaim never goes below. ``cold_after_seconds`` is the
    idle time after which memory may be paged out. ``weight`` protects its memory when the host is short: the
    higher, the less is taken. ``step`` is the largest share of a domain's memory that one plan takes, by all
    actuators together. ``guest_help`` is what may be done inside of its guests. While the host is not short,
    a guest's file cache is dropped only after it was idle for ``cache_after_seconds`` (infinite: never).
    """

    name: str
    floor: float
    cold_after_seconds: float
    weight: float
    objective: ServiceObjective
    actuators: frozenset[Actuator]
    step: float = 1.0
    guest_help: frozenset[GuestHelp] = frozenset()
    cache_after_seconds: float = CACHE_AFTER_SECONDS


class SizeRange(NamedTuple):
    """Sizes from ``least_bytes`` to ``most_bytes``, both included; None: no upper bound."""

    least_bytes: int = 0
    most_bytes: int | None = None


ANY_SIZE = SizeRange()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which domains a rule applies to. All given criteria must hold.

    ``uuid`` is in lower case, as libvirt writes it. ``memory`` is the size in the domain's definition.
    """

    name: str | None = None
    uuid: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    memory: SizeRange = ANY_SIZE

    def matches(self, domain: DomainFacts) -> bool:
        """Whether this rule applies to the domain (names match as case-sensitive globs)."""
        return applies(self, _domain_has(domain))

    def covers(self, other: Selector) -> bool:
        """Whether this matches every domain that the other one matches. Two globs are compared as text."""
        return applies(self, other.matched)

    @property
    def matched(self) -> Having:
        """The properties that every matching domain has."""
        return Having(
            name=self.name,
            glob=self.name is not None and globs.is_glob(self.name),
            uuid=self.uuid,
            metadata=self.metadata,
            memory=self.memory,
        )


def _domain_has(domain: DomainFacts) -> Having:
    size = domain.definition.maximum_bytes
    return Having(
        name=domain.name,
        glob=False,  # whatever characters it has
        uuid=domain.incarnation.uuid,
        metadata=domain.definition.labels,
        memory=(size, size),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A selector and the class it assigns; the first match wins."""

    selector: Selector
    class_name: str


class Rules(tuple[Rule, ...]):  # noqa: SLOT001 - what is made of them is kept beside them
    """Rules in the order in which they are tried. There may be ten thousand, and as many domains."""

    @functools.cached_property
    def _index(self) -> RuleIndex:
        return RuleIndex((number, rule.selector) for number, rule in enumerate(self))

    @functools.cached_property
    def labels(self) -> frozenset[str]:
        """The labels that the rules ask for."""
        return frozenset(key for rule in self for key in rule.selector.metadata)

    def __reduce__(self) -> tuple[type[Rules], tuple[tuple[Rule, ...]]]:
        """Without the index, which is made again where it is needed."""
        return Rules, (tuple(self),)

    def first_for(self, domain: DomainFacts) -> Rule | None:
        """The first rule that matches a domain; None: no rule does."""
        number = self._index.first(_domain_has(domain))
        return None if number is None else self[number]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapBudget:
    """How much of the host's swap page-out may fill, how fast, and when it must stop.

    ``max_used`` is a share of the swap (0..1). ``max_write_bytes_per_day`` counts all writes to swap on
    disks, whatever causes them. ``max_latency_seconds`` is the mean time of a disk read above which the disk
    counts as slow.
    """

    max_used: float
    max_write_bytes_per_second: int
    max_write_bytes_per_day: int
    max_latency_seconds: float


def _read_weight(text: str) -> float:
    if re.fullmatch(units.NUMBER, text) is None or not 0 < float(text) <= MOST_WEIGHT:
        message = f"must be a number above 0, at most {MOST_WEIGHT}: {text!r}"
        raise ValueError(message)
    return float(text)


def _read_names(kind: type[_Named], text: str) -> frozenset[_Named]:
    known = {member.value: member for member in kind}
    names = text.replace(",", " ").split()
    for name in names:
        if name not in known:
            message = f"{name!r} is not one of {', '.join(known)}"
            raise ValueError(message)
    return frozenset(known[name] for name in names)


def _change_objective(domain_class: DomainClass, **bounds: float) -> DomainClass:
    return dataclasses.replace(domain_class, objective=dataclasses.replace(domain_class.objective, **bounds))


CLASS_LABEL = "class"
_CHANGES: Mapping[str, Callable[[DomainClass, str], DomainClass]] = {
    "floor": lambda domain_class, text: dataclasses.replace(domain_class, floor=units.parse_share(text)),
    "cold_after": lambda domain_class, text: dataclasses.replace(
        domain_class, cold_after_seconds=units.above_zero(units.parse_duration)(text)
    ),
    "cache_after": lambda domain_class, text: dataclasses.replace(
        domain_class, cache_after_seconds=units.parse_age(text)
    ),
    "weight": lambda domain_class, text: dataclasses.replace(domain_class, weight=_read_weight(text)),
    "step": lambda domain_class, text: dataclasses.replace(
        domain_class, step=units.above_zero(units.parse_share)(text)
    ),
    "promotions": lambda domain_class, text: _change_objective(
        domain_class, promotions_per_minute=units.parse_share_per_minute(text)
    ),
    "psi_some": lambda domain_class, text: _change_objective(domain_class, psi_some=units.parse_share(text)),
    "actuators": lambda domain_class, text: dataclasses.replace(
        domain_class, actuators=_read_names(Actuator, text)
    ),
    "guest_help": lambda domain_class, text: dataclasses.replace(
        domain_class, guest_help=_read_names(GuestHelp, text)
    ),
}
OVERRIDES = (CLASS_LABEL, *_CHANGES)
"""The labels by which a domain can change its class's values, where the policy allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy.

    ``digest`` identifies its text: a saved plan shows by it whether the policy changed. ``reserve`` and
    ``max_overcommit`` are ratios. ``pageout_actor`` None: the host's capabilities decide. Cold memory goes to
    memory node ``cold_node`` before it goes to swap. ``idle_tax`` (0..1) is how much sooner idle memory is
    taken than memory in use when the host is short. ``ksm``: the kernel may merge equal pages of different
    domains. ``domain_overrides`` has those of `OVERRIDES` that a domain's labels may change.
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
    rules: Rules
    default_class: str
    idle_tax: float = 0.75
    ksm: bool = False
    domain_overrides: frozenset[str] = frozenset()

    def class_of(self, domain: DomainFacts) -> DomainClass:
        """The class of the first matching rule, or the default class, as changed by the domain's labels.

        Labels that the policy does not allow, and invalid values, change nothing.
        """
        return self._judged(domain)[0]

    def complaints_of(self, domain: DomainFacts) -> tuple[str, ...]:
        """The domain's labels that are ignored, and why; one line each."""
        if domain.definition.labels.keys().isdisjoint(OVERRIDES):
            return ()  # most domains: no rule need be asked again
        return self._judged(domain)[1]

    def _judged(self, domain: DomainFacts) -> tuple[DomainClass, tuple[str, ...]]:
        chosen, complaints = self.classes[self._class_name(domain)], []
        for key in OVERRIDES:
            text = domain.definition.labels.get(key)
            if text is None:
                continue
            why_not = None
            if key in self.domain_overrides:
                chosen, why_not = self._changed(chosen, key, text)
            elif key not in self.rules.labels:
                why_not = "the policy does not list it in domain_overrides"
            if why_not:
                complaints.append(f"its label {key} is ignored: {why_not}")
        return chosen, tuple(complaints)

    def _class_name(self, domain: DomainFacts) -> str:
        rule = self.rules.first_for(domain)
        return self.default_class if rule is None else rule.class_name

    def _changed(self, domain_class: DomainClass, key: str, text: str) -> tuple[DomainClass, str | None]:
        """What the label makes of a class, or the class as it is and why.

        Whoever may edit the domain wrote the text: it is data to distrust (rule S8).
        """
        if len(text) > _LONGEST_LABEL:
            return domain_class, f"longer than {_LONGEST_LABEL} characters"
        if key == CLASS_LABEL:
            return (
                (self.classes[text], None) if text in self.classes else (domain_class, f"no class {text!r}")
            )
        try:
            changed = _CHANGES[key](domain_class, text)
        except ValueError as error:
            return domain_class, str(error)
        longest = max(known.cold_after_seconds for known in self.classes.values())
        if changed.cold_after_seconds > longest:
            # A watch lasts as long as the longest cold_after: one domain would keep all others waiting.
            return domain_class, f"longer than that of any class ({units.format_duration(longest)})"
        return changed, None
