"""The structure of a policy file, for validation only. The planner uses plain dataclasses.

The docstrings of the keys are their descriptions in the JSON Schema. Defaults are written as in a file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from overcommit.model.policy import MOST_WEIGHT
from overcommit.policy.quantities import (
    Age,
    Duration,
    IdleTax,
    MemoryBounds,
    PromotionRate,
    Share,
    ShareAboveZero,
    SizeAboveZero,
    Uuid,
    WriteRate,
)

MOST_NODES = 1024
"""What Linux can have (MAX_NUMNODES with the largest CONFIG_NODES_SHIFT)."""

Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=64)]
"""The name of a class: ASCII letters, digits, ``_``, ``.`` and ``-``, so that it fits a table and a label."""


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool | float):
        message = "input should be 1"  # as the message about other numbers; for Python true and 1.0 are 1 too
        raise ValueError(message)
    return value


def _default(words: Any) -> Any:
    """A default in the form of a file, which is parsed as if it were written there."""
    return Field(default=words, validate_default=True)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SwapSection(_Section):
    """How far reclaim may use the host's swap."""

    max_used: Share = _default("60%")
    """Share of all swap that may be in use; page-out stops there. The rest is for emergencies."""
    max_write: WriteRate = _default("50MiB/s")
    """Page-out rate of all domains together, at least 1MiB/s."""
    max_write_per_day: SizeAboveZero = _default("100GiB")
    """What may be written to swap on disks in a day, by anybody; page-out stops there. Bounds wear. What goes
    to zram, or stays in zswap, is not counted."""
    max_latency: Duration = _default("20ms")
    """Mean time of a read from a disk with swap.

    Above it, nothing more is paged out to that disk. A guest that needs a page back waits as long.
    """


class HostSection(_Section):
    """The host as a whole."""

    reserve: Share = _default("8%")
    """Memory kept available for the host itself."""
    max_overcommit: Annotated[float, Field(ge=1, le=16)] = 1.5
    """Promised over physical memory; beyond it the plan warns."""
    swap: SwapSection = Field(default_factory=SwapSection)
    pageout_actor: Literal["auto", "damos-fvaddr", "damos-paddr", "memcg-reclaim", "cold-hint+reclaim"] = (
        "auto"
    )
    """The mechanism that pages out; auto takes the best that the host offers (docs/adr/0004)."""
    cold_node: Annotated[int, Field(ge=0, lt=MOST_NODES)] | None = None
    """Memory node (a slow one, such as CXL) to which cold memory goes before it goes to swap."""
    reclaim: Literal["proactive", "on_pressure", "off"] = "proactive"
    """proactive: always; on_pressure: only while less than the reserve is available; off: never."""
    idle_tax: IdleTax = _default("75%")
    """How much sooner idle memory is taken than memory in use when the host is short.

    At 75% an idle page counts four times (Waldspurger, OSDI 2002). At 0% all pages count alike.
    """
    ksm: bool = False
    """Whether the kernel may merge equal pages of different guests. One guest can then tell by timing what
    another has in memory: only for guests that trust each other."""
    domain_overrides: list[
        Literal[
            "class",
            "floor",
            "cold_after",
            "cache_after",
            "weight",
            "step",
            "promotions",
            "psi_some",
            "actuators",
            "guest_help",
        ]
    ] = []
    """What the labels in a domain's own definition may change, up or down.

    Users who may edit the domain can set them.
    """


class ObjectiveSection(_Section):
    """The SLO of a domain: limits on the slowdown by reclaim."""

    promotions: PromotionRate = _default("0.2%/min")
    """Share of the working set paged back in per minute; 0.2% is Google's far memory's (ASPLOS'19)."""
    psi_some: Share = _default("1%")
    """Memory pressure (PSI some) of the domain's cgroup."""


class ClassSection(_Section):
    """One class of domains."""

    floor: Share = _default("50%")
    """Share of the domain's memory that reclaim never goes below."""
    cold_after: Duration = _default("5min")
    """Idle time from which memory may be paged out, or moved to the cold node."""
    cache_after: Age = _default("4h")
    """Idle time, as watched, from which a guest's file cache may be taken while the host is not short. 0s: at
    once; never: only in an emergency."""
    weight: Annotated[float, Field(gt=0, le=MOST_WEIGHT)] = 1.0
    """Twice the weight halves a domain's share when the host is short."""
    step: ShareAboveZero = _default("100%")
    """Share of a domain's memory that one plan takes at most, by all actuators together."""
    slo: ObjectiveSection = Field(default_factory=ObjectiveSection)
    actuators: list[Literal["free_page_reporting", "virtio_mem", "balloon", "demotion", "pageout"]] = [
        "free_page_reporting",
        "virtio_mem",
        "balloon",
        "demotion",
        "pageout",
    ]
    """What may be used on this class."""
    guest_help: list[Literal["compaction", "damon_reclaim"]] = []
    """What may be done inside of the guests, through their agents, where their owners agreed. compaction
    gathers free memory into blocks that free page reporting can give; damon_reclaim lets the guest's own
    kernel free what it finds idle."""


class MatchSection(_Section):
    """Which domains; every criterion given must hold."""

    name: Text | None = None
    """The libvirt name as a case-sensitive glob: * any text, ? one character, [abc] one of these."""
    uuid: Uuid | None = None
    """The libvirt UUID; upper and lower case are the same."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Labels in the domain's <metadata>, each with its value."""
    memory: MemoryBounds = _default(">=0")
    """The size in the domain's definition: a comparison (>= <= > <) and a size, or a list of which all hold.
    In quotes, because > begins a block of text in YAML."""


class RuleSection(_Section):
    """Assigns a class to the domains that match; the first rule that matches decides."""

    match: MatchSection
    class_: Annotated[str, Field(alias="class")]
    """The class they get."""


class PolicyFile(_Section):
    """A policy of overcommit: what may be taken back from which domain, and how much."""

    version: Annotated[Literal[1], BeforeValidator(_plain_number)]
    """The version of this language."""
    host: HostSection = Field(default_factory=HostSection)
    classes: dict[Name, ClassSection] = Field(json_schema_extra={"additionalProperties": False})
    """The classes of domains by name."""
    domains: list[RuleSection] = Field(default_factory=list)
    """Which domain is of which class; the first rule that matches decides."""
    default_class: str
    """The class of the domains that no rule matches."""
