"""Reads a policy and its overrides. All faults are reported at once, each with file:line:column."""

from __future__ import annotations

import contextlib
import difflib
import functools
import gc
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from overcommit.errors import Complaint, PolicyError
from overcommit.model.policy import Policy
from overcommit.policy import contradictions, files, layers, schema, yaml_positions
from overcommit.policy.compiling import compile_policy
from overcommit.policy.yaml_positions import Node

_ONLY_WHOLE = {("classes",), ("default_class",)}
"""Keys that an override may omit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A policy, and the warnings about values without effect."""

    policy: Policy
    warnings: tuple[Complaint, ...]


def load(path: Path | None) -> Policy:
    """Read and validate a policy file with its overrides; None: the host's own, else the shipped default.

    Raises:
        UsageError: a file cannot be read.
        PolicyError: it is not a valid policy.
    """
    return parse_all(files.read_all(path, obeyed=True)).policy


def parse(text: str, source: str) -> Policy:
    """Validate the text of a policy without overrides; ``source`` names it in messages.

    Raises:
        PolicyError: see its ``faults``.
    """
    return parse_all([(text, source)]).policy


@contextlib.contextmanager
def _keeping_all() -> Iterator[None]:
    """Disable garbage collection meanwhile.

    Almost all objects stay, and each collection visits all of them: for 10,000 rules that took 3/4 of the
    time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_keeping_all()
def parse_all(texts: Sequence[tuple[str, str]]) -> Loaded:
    """Validate the texts of a policy and of its overrides, each with its name for messages.

    Raises:
        PolicyError: see its ``faults``: those within the files, or if there are none, those between them.
    """
    parts: list[Node] = []
    main: schema.PolicyFile | None = None
    faults: list[Complaint] = []
    for index, (text, source) in enumerate(texts):
        try:
            file = yaml_positions.parse(text, source)
            if index == 0:
                main = _validated(file)
            else:
                _check_override(file)
            parts.append(file)
        except PolicyError as error:
            faults += error.faults
    if faults:
        raise PolicyError(tuple(faults))
    whole = functools.reduce(layers.merge, parts)
    # NUL is in no YAML, so that moving text from file to file is a change.
    digest = hashlib.sha256("\0".join(text for text, _ in texts).encode())
    validated = main if main is not None and len(parts) == 1 else _validated(whole)
    policy = compile_policy(validated, source=texts[0][1], digest=digest.hexdigest())
    order = {source: index for index, (_, source) in enumerate(texts)}

    def place(complaint: Complaint) -> tuple[int, int, int]:
        return order[complaint.file], complaint.line, complaint.column

    if between := sorted(contradictions.faults(policy, whole), key=place):
        raise PolicyError(tuple(between))
    return Loaded(policy=policy, warnings=tuple(sorted(contradictions.warnings(policy, whole), key=place)))


def _validated(file: Node) -> schema.PolicyFile:
    try:
        return schema.PolicyFile.model_validate(file.plain(), strict=True)
    except ValidationError as error:
        raise PolicyError(tuple(sorted(_fault(file, item) for item in error.errors()))) from error


def _check_override(file: Node) -> None:
    """Check an override. All that is present must be valid; classes and a default class may be missing."""
    try:
        schema.PolicyFile.model_validate(file.plain(), strict=True)
    except ValidationError as error:
        wrong = [e for e in error.errors() if not (e["type"] == "missing" and e["loc"] in _ONLY_WHOLE)]
        if wrong:
            raise PolicyError(tuple(sorted(_fault(file, item) for item in wrong))) from error


def _fault(file: Node, error: Any) -> Complaint:
    path = tuple(error["loc"])
    name = ".".join(str(part) for part in path) or "the policy"
    kind = error["type"]
    if kind == "extra_forbidden":
        suggestion = _suggestion(str(path[-1]), path[:-1])
        return file.mark_of_key(path).complaint(f"unknown key {name}{suggestion}")
    if kind == "missing":
        return file.mark_of(path[:-1]).complaint(f"{name} is missing")
    if path and path[-1] == "[key]":
        why = "not a name of a class (letters, digits, and inside _ . -)"
        return file.mark_of_key(path[:-1]).complaint(f"{path[-2]!r}: {why}")
    if kind in {"model_type", "dict_type"}:
        return file.mark_of(path).complaint(f"{name}: must be a mapping of keys to values")
    if kind == "bool_type":
        return file.mark_of(path).complaint(f"{name}: must be true or false")
    message = str(error["msg"]).removeprefix("Value error, ")
    return file.mark_of(path).complaint(f"{name}: {message[:1].lower()}{message[1:]}")


def _suggestion(key: str, parents: tuple[Any, ...]) -> str:
    known = _keys_at(schema.PolicyFile, parents)
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"


def _keys_at(section: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The allowed keys at a path: follows field names, and skips names of classes and list indices."""
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
