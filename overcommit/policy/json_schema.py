"""The policy language as a JSON Schema, for editors that complete and check YAML."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
from collections.abc import Iterator
from typing import Any

from overcommit.policy import schema

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def document() -> dict[str, Any]:
    """The schema of a whole policy file, with values as in the file: ``8%``, not 0.08."""
    whole = schema.PolicyFile.model_json_schema()
    sections = {schema.PolicyFile.__name__: whole, **whole["$defs"]}
    for name, key, description in _descriptions():
        sections[name]["properties"][key]["description"] = description
    return {"$schema": _DIALECT, "title": "overcommit policy", **_untitled(whole)}


def dumps() -> str:
    """The schema as text."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _descriptions() -> Iterator[tuple[str, str, str]]:
    """The docstrings of keys, by section and key, read from the source because Python does not keep them.

    Pydantic can do that, but would do it whenever the program starts.
    """
    for section in ast.parse(inspect.getsource(schema)).body:
        if not isinstance(section, ast.ClassDef):
            continue
        for field, below in itertools.pairwise(section.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    yield section.name, name.rstrip("_"), " ".join(text.split())
                case _:
                    pass


def _untitled(part: Any) -> Any:
    """The same without the titles that pydantic makes of names."""
    match part:
        case dict():
            kept = {key: value for key, value in part.items() if key != "title" or not isinstance(value, str)}
            return {key: _untitled(value) for key, value in kept.items()}
        case list():
            return [_untitled(item) for item in part]
        case scalar:
            return scalar
