"""``overcommitctl validate``: the content of a policy, and its faults."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from overcommit.cli.console import tell
from overcommit.cli.tables import Block, table
from overcommit.cli.verb import examples
from overcommit.display import plain
from overcommit.errors import Complaint, PolicyError, UsageError
from overcommit.model.policy import ANY_SIZE, OVERRIDES, Actuator, DomainClass, GuestHelp, Policy, Selector
from overcommit.policy import files, json_schema, loader
from overcommit.units import MIB, counted, format_age, format_duration, format_ratio, format_size


@click.command(epilog=examples("overcommitctl validate", "overcommitctl validate policy.yaml --strict"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout.")
@click.option("--strict", is_flag=True, help="Warnings are faults: exit with 64.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback for errors.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the language for your editor.")
def validate(file: Path | None, as_json: bool, strict: bool, schema: bool) -> None:
    """Check a policy FILE and its overrides. By default: those of this host.

    Every fault and every value without effect is reported with its file, line and column.
    """
    if schema:
        if file is not None or as_json or strict:
            raise UsageError("--schema stands alone: it is about every policy")
        click.echo(json_schema.dumps(), nl=False)
        return
    texts = files.read_all(file, obeyed=False)
    sources = [source for _, source in texts]
    if as_json:
        _print_json(texts, sources, strict=strict)
        return
    loaded = loader.parse_all(texts)
    for line in _summary(loaded.policy, sources):
        tell(line)
    for warning in loaded.warnings:
        click.echo(plain(f"{warning.place}: warning: {warning.message}"), err=True)
    if strict and loaded.warnings:
        raise UsageError(f"{counted(len(loaded.warnings), 'warning')}: --strict treats warnings as faults")


def _print_json(texts: Sequence[tuple[str, str]], sources: list[str], *, strict: bool) -> None:
    classes: list[dict[str, Any]] = []
    warnings: tuple[Complaint, ...] = ()
    faults: tuple[Complaint, ...] = ()
    try:
        loaded = loader.parse_all(texts)
        classes = [_class_data(domain_class) for domain_class in loaded.policy.classes.values()]
        warnings = loaded.warnings
    except PolicyError as error:
        faults = error.faults
    found = {
        "valid": not faults,
        "files": sources,
        "classes": classes,
        "warnings": [warning._asdict() for warning in warnings],
        "faults": [fault._asdict() for fault in faults],
    }
    click.echo(json.dumps(found, indent=2))
    if faults or (strict and warnings):
        raise SystemExit(UsageError.exit_code)


def _class_data(domain_class: DomainClass) -> dict[str, Any]:
    return {
        "name": domain_class.name,
        "floor": domain_class.floor,
        "cold_after_seconds": domain_class.cold_after_seconds,
        "cache_after_seconds": None
        if math.isinf(domain_class.cache_after_seconds)
        else domain_class.cache_after_seconds,
        "weight": domain_class.weight,
        "step": domain_class.step,
        "promotions_per_minute": domain_class.objective.promotions_per_minute,
        "psi_some": domain_class.objective.psi_some,
        "actuators": [actuator.value for actuator in Actuator if actuator in domain_class.actuators],
        "guest_help": [way.value for way in GuestHelp if way in domain_class.guest_help],
    }


def _summary(policy: Policy, sources: Sequence[str]) -> Iterator[Block]:
    yield f"{sources[0]}: valid"
    for override in sources[1:]:
        yield f"  changed by {override}"
    yield ""
    header = ("class", "floor", "cold after", "cache after", "step", "promotions", "PSI some", "actuators")
    rows = (_class_row(domain_class) for domain_class in policy.classes.values())
    yield table(header, rows, left=(0, len(header) - 1))
    yield ""
    for number, rule in enumerate(policy.rules, start=1):
        yield f"  {number}. {_selector_text(rule.selector)}: {rule.class_name}"
    yield f"  {'all others' if policy.rules else 'all domains'}: {policy.default_class}"
    if policy.domain_overrides:
        allowed = ", ".join(key for key in OVERRIDES if key in policy.domain_overrides)
        yield f"  labels of a domain may change: {allowed}"


def _class_row(domain_class: DomainClass) -> tuple[str, ...]:
    """A row of the table. Values that the class's actuators do not use are empty."""
    pages_out = Actuator.PAGEOUT in domain_class.actuators
    by_idle_time = pages_out or Actuator.DEMOTION in domain_class.actuators
    return (
        domain_class.name,
        format_ratio(domain_class.floor),
        format_duration(domain_class.cold_after_seconds) if by_idle_time else "-",
        format_age(domain_class.cache_after_seconds)
        if {Actuator.VIRTIO_MEM, Actuator.BALLOON} & domain_class.actuators
        else "-",
        format_ratio(domain_class.step),
        f"{format_ratio(domain_class.objective.promotions_per_minute)}/min" if pages_out else "-",
        format_ratio(domain_class.objective.psi_some) if by_idle_time else "-",
        ", ".join(actuator.value for actuator in Actuator if actuator in domain_class.actuators) or "none",
    )


def _selector_text(selector: Selector) -> str:
    parts = []
    if selector.name is not None:
        parts.append(f"name {selector.name!r}")
    if selector.uuid is not None:
        parts.append(f"uuid {selector.uuid}")
    parts += [f"metadata {key!r} is {value!r}" for key, value in selector.metadata.items()]
    if selector.memory != ANY_SIZE:
        parts.append(f"memory {_range_text(selector.memory.least_bytes, selector.memory.most_bytes)}")
    return ", ".join(parts)


def _range_text(least: int, most: int | None) -> str:
    """The comparisons as written: a bound that excludes its own size is one byte off."""
    words = []
    if least:
        beyond = (least - 1) % MIB == 0 and least > 1
        words.append(f"> {format_size(least - 1)}" if beyond else f">= {format_size(least)}")
    if most is not None:
        below = (most + 1) % MIB == 0
        words.append(f"< {format_size(most + 1)}" if below else f"<= {format_size(most)}")
    return " and ".join(words)
