"""The shape of a policy file. Validation only: the planner gets plain dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from overcommit import units

DEFAULT_ACTUATORS = ["free_page_reporting", "virtio_mem", "balloon", "demotion", "pageout"]

MOST_NODES = 1024
"""What Linux can have (MAX_NUMNODES with the largest CONFIG_NODES_SHIFT)."""


def _quantity(parse: Callable[[str], float], example: str) -> BeforeValidator:
    def convert(value: Any) -> float:
        if not isinstance(value, str):
            message = f"needs a unit, like {example}"
            raise ValueError(message)
        return parse(value)

    return BeforeValidator(convert)


def _share(text: str) -> float:
    ratio = units.parse_percentage(text)
    if ratio > 1:
        message = f"must be at most 100%, not {text}"
        raise ValueError(message)
    return ratio


def _write_rate(text: str) -> float:
    rate = _suffixed(units.parse_size, "/s")(text)
    if rate < units.MIB:
        message = f"must be at least 1MiB/s, not {text}; to forbid page-out leave it out of the actuators"
        raise ValueError(message)
    return rate


def _suffixed(parse: Callable[[str], float], suffix: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if not text.endswith(suffix):
            message = f"must end in {suffix}: {text!r}"
            raise ValueError(message)
        return parse(text.removesuffix(suffix))

    return convert


Share = Annotated[float, _quantity(_share, "8%")]
Duration = Annotated[float, _quantity(units.parse_duration, "5min")]
ByteRate = Annotated[float, _quantity(_write_rate, "50MiB/s")]
Promotions = Annotated[float, _quantity(_suffixed(_share, "/min"), "0.2%/min")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SwapSection(_Section):
    """How far reclaim may use the host's swap."""

    max_used: Share = 0.6
    """Share of all swap that may be in use; page-out stops there. Leaves room for real emergencies."""
    max_write: ByteRate = 50.0 * units.MIB
    """Page-out rate. Bounds wear of a disk and the time a domain's memory is in motion."""


class HostSection(_Section):
    """The host as a whole."""

    reserve: Share = 0.08
    """Memory kept available for the host itself."""
    max_overcommit: Annotated[float, Field(ge=1, le=16)] = 1.5
    """Promised over physical memory; beyond it the plan warns."""
    swap: SwapSection = SwapSection()
    pageout_actor: Literal["auto", "damos-fvaddr", "damos-paddr", "memcg-reclaim", "cold-hint+reclaim"] = (
        "auto"
    )
    """Who pages out; auto takes the best that the host offers (docs/adr/0004)."""
    cold_node: Annotated[int, Field(ge=0, lt=MOST_NODES)] | None = None
    """Memory node (a slow one, such as CXL) to which cold memory goes before it goes to swap."""
    reclaim: Literal["proactive", "on_pressure", "off"] = "proactive"
    """proactive: always; on_pressure: only while less than the reserve is available; off: never."""


class ObjectiveSection(_Section):
    """How much a domain may feel."""

    promotions: Promotions = 0.002
    """Share of the working set paged back in per minute; 0.2% is Google's far memory's (ASPLOS'19)."""
    psi_some: Share = 0.01
    """Memory pressure (PSI some) of the domain's cgroup."""


class ClassSection(_Section):
    """One tier of domains."""

    floor: Share = 0.5
    """Share of the domain's memory that reclaim never goes below."""
    cold_after: Annotated[Duration, Field(gt=0)] = 300.0
    """Idle time from which memory may be paged out."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Twice the weight halves a domain's share when the host is short."""
    slo: ObjectiveSection = ObjectiveSection()
    actuators: list[Literal["free_page_reporting", "virtio_mem", "balloon", "demotion", "pageout"]] = Field(
        default=DEFAULT_ACTUATORS  # type: ignore[arg-type]
    )
    """What may be used on this class."""


class MatchSection(_Section):
    """Which domains; every criterion given must hold."""

    name: str | None = None
    uuid: str | None = None
    metadata: dict[str, str] = {}


class RuleSection(_Section):
    """Assigns a class to the domains that match."""

    match: MatchSection
    class_: Annotated[str, Field(alias="class")]


class PolicyFile(_Section):
    """A whole file."""

    version: Literal[1]
    host: HostSection = HostSection()
    classes: dict[str, ClassSection]
    domains: list[RuleSection] = []
    default_class: str
