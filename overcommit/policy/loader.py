"""Read a policy file; report every fault at once, each with file:line:column."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from overcommit.errors import PolicyError, UsageError
from overcommit.model.policy import (
    Actuator,
    DomainClass,
    PageoutActor,
    Policy,
    ReclaimMode,
    Rule,
    Selector,
    ServiceObjective,
    SwapBudget,
)
from overcommit.policy import schema, yaml_positions

SHIPPED = Path(__file__).parent.parent / "policies"
DEFAULT_FILE = Path("/etc/overcommit/policy.yaml")


def default_path() -> Path:
    """The host's policy file, or the shipped ``balanced.yaml`` where there is none."""
    if DEFAULT_FILE.exists():
        return DEFAULT_FILE
    shipped = SHIPPED if SHIPPED.is_dir() else SHIPPED.parent.parent / "policies"
    return shipped / "balanced.yaml"


def load(path: Path) -> Policy:
    """Read and validate.

    Raises:
        UsageError: the file cannot be read.
        PolicyError: it is not a valid policy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(
            f"cannot read the policy {path}: {why}",
            hint="name one with --policy FILE; examples are in policies/",
        ) from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Policy:
    """Validate the text of a policy; ``source`` names it in messages.

    Raises:
        PolicyError: see its ``faults``.
    """
    try:
        document = yaml_positions.parse(text)
    except yaml_positions.YamlFault as fault:
        raise PolicyError((f"{source}:{fault.mark.line}:{fault.mark.column}: {fault}",)) from fault
    try:
        file = schema.PolicyFile.model_validate(document.data, strict=True)
    except ValidationError as error:
        faults = sorted(_fault(document, item) for item in error.errors())
        lines = tuple(f"{source}:{line}:{column}: {what}" for (line, column), what in faults)
        raise PolicyError(lines) from error
    unknown = tuple(_unknown_classes(document, file))
    if unknown:
        raise PolicyError(tuple(f"{source}:{m.line}:{m.column}: {what}" for m, what in unknown))
    return _compile(file, source, hashlib.sha256(text.encode()).hexdigest())


def _fault(document: yaml_positions.Document, error: Any) -> tuple[yaml_positions.Mark, str]:
    path = tuple(error["loc"])
    name = ".".join(str(part) for part in path) or "the policy"
    kind = error["type"]
    if kind == "extra_forbidden":
        mark = document.keys[path]
        return mark, f"unknown key {name}{_suggestion(str(path[-1]), path[:-1])}"
    if kind == "missing":
        mark = _nearest(document, path[:-1])
        return mark, f"{name} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return _nearest(document, path), f"{name}: {message[:1].lower()}{message[1:]}"


def _nearest(document: yaml_positions.Document, path: yaml_positions.Path) -> yaml_positions.Mark:
    while path and path not in document.values:
        path = path[:-1]
    return document.values.get(path, yaml_positions.Mark(1, 1))


def _suggestion(key: str, parents: tuple[Any, ...]) -> str:
    known = _keys_at(schema.PolicyFile, parents)
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"


def _keys_at(section: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The keys allowed at a path: follow field names, skip the free names of classes and list indices."""
    for part in path:
        for name, field in section.model_fields.items():
            if part in {name, field.alias}:
                section = next(iter(_sections_in(field.annotation)), section)
    return [field.alias or name for name, field in section.model_fields.items()]


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _sections_in(argument)


def _unknown_classes(
    document: yaml_positions.Document, file: schema.PolicyFile
) -> Iterator[tuple[yaml_positions.Mark, str]]:
    named = [(("default_class",), file.default_class)]
    named += [(("domains", i, "class"), rule.class_) for i, rule in enumerate(file.domains)]  # type: ignore[misc]
    for path, name in named:
        if name not in file.classes:
            close = difflib.get_close_matches(name, file.classes, n=1)
            known = close[0] if close else ", ".join(file.classes) or "none"
            yield document.values[path], f"no class {name!r} (known: {known})"


def _compile(file: schema.PolicyFile, source: str, digest: str) -> Policy:
    return Policy(
        digest=digest,
        source=source,
        reserve=file.host.reserve,
        max_overcommit=file.host.max_overcommit,
        swap=SwapBudget(
            max_used=file.host.swap.max_used,
            max_write_bytes_per_second=round(file.host.swap.max_write),
        ),
        reclaim=ReclaimMode(file.host.reclaim),
        pageout_actor=None if file.host.pageout_actor == "auto" else PageoutActor(file.host.pageout_actor),
        cold_node=file.host.cold_node,
        classes={
            name: DomainClass(
                name=name,
                floor=section.floor,
                cold_after_seconds=section.cold_after,
                weight=section.weight,
                objective=ServiceObjective(
                    promotions_per_minute=section.slo.promotions, psi_some=section.slo.psi_some
                ),
                actuators=frozenset(Actuator(name) for name in section.actuators),
            )
            for name, section in file.classes.items()
        },
        rules=tuple(
            Rule(
                selector=Selector(name=rule.match.name, uuid=rule.match.uuid, metadata=rule.match.metadata),
                class_name=rule.class_,
            )
            for rule in file.domains
        ),
        default_class=file.default_class,
    )
